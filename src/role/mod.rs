//! What a process does, by role: each wires fronts, the bus and decisions together.
//!
//! `shell` drives a decision machine, `core` is what every process has (its id, its connection, its
//! metrics), `service` makes it visible to `nats micro`. `client`, `upstream` and `broker` are the roles,
//! `up` all of them in one process; `ps` and `tools` are the commands that look.

pub mod broker;
pub mod client;
pub mod core;
pub mod ps;
pub mod service;
pub mod shell;
pub mod signals;
pub mod tools;
pub mod up;
pub mod upstream;
