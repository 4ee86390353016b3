//! What a process does, by role: each wires fronts, the bus and decisions together.
//!
//! `shell` drives a decision machine, `core` is what every process has (its id, its connection, its
//! metrics), `service` makes it visible to `nats micro`, `discovery` to Prometheus. `asker` is
//! the asking side that client agents and others have. `client`, `upstream`, `broker` and `socket` are the roles,
//! `up` all of them in one process; `ps`, `routes` and `tools` are the commands
//! that look, `inquiry` is how they ask; `jobs` and `dlq` are those for what JetStream keeps.

pub mod asker;
pub mod broker;
pub mod caches;
pub mod client;
pub mod core;
pub mod discovery;
pub mod dlq;
pub mod inquiry;
pub mod jobs;
mod link;
pub mod ps;
pub mod routes;
pub mod service;
pub mod shell;
pub mod signals;
pub mod socket;
pub mod tools;
pub mod up;
pub mod upstream;
