//! Decisions without I/O. `now` is an argument, randomness comes in, commands come out.
//!
//! | file | decides for | one entry per |
//! |---|---|---|
//! | `exchange` | a client agent | request it has not answered |
//! | `serving` | an upstream agent | request it took |
//! | `supervision` | a broker | request it watches |
//! | `routes` | a client agent | agent that claims routes |
//! | `jobs` | a broker, and whoever stores a job's next revision | revision of a job |
//! | `rendezvous` | a client agent | request that waits in a session |
//!
//! `flow` is one stream, at either agent, `claims` the routes of an upstream agent, `forward` what a caller's
//! headers say of a chain, `outside` who calls outside hosts, `pulse` whether the NATS server answers. `roster` is what announcements say about agents, `retry` whether a request may be sent again,
//! `deadlines` the timers of one machine. `tests/simulation.rs` joins all three machines through a bus
//! that loses, delays and reorders.

use std::time::{Duration, Instant};

pub mod claims;
pub mod deadlines;
pub mod exchange;
pub mod flow;
pub mod forward;
pub mod jobs;
pub mod outside;
pub mod pulse;
pub mod rendezvous;
pub mod retry;
pub mod roster;
pub mod routes;
pub mod serving;
pub mod supervision;

/// A state machine that is driven from outside: inputs and time go in, commands come out.
pub trait Machine {
    /// What can happen to it.
    type Input;
    /// What it wants done.
    type Command;

    /// Takes one input.
    fn handle(&mut self, input: Self::Input, now: Instant);
    /// Does what is due at `now`.
    fn handle_timeout(&mut self, now: Instant);
    /// When `handle_timeout` is next due.
    fn poll_timeout(&self) -> Option<Instant>;
    /// The next thing to do, until there is none.
    fn poll_command(&mut self) -> Option<Self::Command>;
}

/// How long after a reconnection "nobody there" proves little: agents and brokers are reconnecting too.
pub const SETTLE: Duration = Duration::from_secs(2);
