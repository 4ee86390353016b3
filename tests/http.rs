//! HTTP done right: what a caller sends reaches the origin, what the origin answers reaches the caller, and
//! nothing else changes than what a proxy has to change.

mod support;

#[path = "http/bodies.rs"]
mod bodies;
#[path = "http/connections.rs"]
mod connections;
#[path = "http/details.rs"]
mod details;
#[path = "http/forwarding.rs"]
mod forwarding;
#[path = "http/framing.rs"]
mod framing;
#[path = "http/hosts.rs"]
mod hosts;
#[path = "http/interim.rs"]
mod interim;
#[path = "http/loops.rs"]
mod loops;
#[path = "http/messages.rs"]
mod messages;
#[path = "http/strangers.rs"]
mod strangers;
#[path = "http/targets.rs"]
mod targets;
#[path = "http/tls.rs"]
mod tls;
