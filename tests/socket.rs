//! The socket: lines of JSON in front of REST APIs, straight and over NATS, as real programs speak them.
//!
//! `socket/stage.rs` starts one and talks to it.

mod support;

#[path = "socket/stage.rs"]
mod stage;

#[path = "socket/hostile.rs"]
mod hostile;
#[path = "socket/limits.rs"]
mod limits;
#[path = "socket/lives.rs"]
mod lives;
#[path = "socket/nats.rs"]
mod nats;
#[path = "socket/programs.rs"]
mod programs;
#[path = "socket/protocol.rs"]
mod protocol;
#[path = "socket/requests.rs"]
mod requests;
#[path = "socket/unix.rs"]
mod unix;
