//! Jobs: forward chains, and requests that are answered later, with real origins. Brokers and NATS are killed under
//! them.

mod support;

#[path = "jobs/asked.rs"]
mod asked;
#[path = "jobs/chains.rs"]
mod chains;
#[path = "jobs/durable.rs"]
mod durable;
#[path = "jobs/failing.rs"]
mod failing;
#[path = "jobs/keeping.rs"]
mod keeping;
#[path = "jobs/later.rs"]
mod later;
#[path = "jobs/memory.rs"]
mod memory;
#[path = "jobs/outside.rs"]
mod outside;
#[path = "jobs/quotas.rs"]
mod quotas;
#[path = "jobs/reaching.rs"]
mod reaching;
#[path = "jobs/stage.rs"]
mod stage;
#[path = "jobs/unavailable.rs"]
mod unavailable;
#[path = "jobs/unconfirmed.rs"]
mod unconfirmed;
