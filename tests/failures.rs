//! Every way a request can fail has an answer: its status, its code, a sentence, whose side it was, and when
//! to ask again. `Problem` checks what all of them have in common.

mod support;

#[path = "failures/agents.rs"]
mod agents;
#[path = "failures/callers.rs"]
mod callers;
#[path = "failures/nats.rs"]
mod nats;
#[path = "failures/origins.rs"]
mod origins;
#[path = "failures/waits.rs"]
mod waits;
