//! Bodies on their way, and everything that can happen to them meanwhile: callers, origins, agents and NATS
//! that go away, stop or lie. A body arrives whole or is seen to break; what carried it leaves nothing behind.
//!
//! `streams/site.rs` has the origin, `streams/seen.rs` what several of them look at.

mod support;

#[path = "streams/cut.rs"]
mod cut;
#[path = "streams/deaths.rs"]
mod deaths;
#[path = "streams/early.rs"]
mod early;
#[path = "streams/ends.rs"]
mod ends;
#[path = "streams/gone.rs"]
mod gone;
#[path = "streams/hostile.rs"]
mod hostile;
#[path = "streams/limits.rs"]
mod limits;
#[path = "streams/nats.rs"]
mod nats;
#[path = "streams/seen.rs"]
mod seen;
#[path = "streams/site.rs"]
mod site;
#[path = "streams/stopping.rs"]
mod stopping;
#[path = "streams/waits.rs"]
mod waits;
#[path = "streams/whole.rs"]
mod whole;
