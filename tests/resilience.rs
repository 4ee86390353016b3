//! Processes die, stop, freeze and come back; requests go on.

mod support;

#[path = "resilience/agents.rs"]
mod agents;
#[path = "resilience/brokers.rs"]
mod brokers;
#[path = "resilience/nats.rs"]
mod nats;
#[path = "resilience/stopping.rs"]
mod stopping;
