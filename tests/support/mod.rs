//! Whole relays for tests: a real nats-server, real relay processes, an origin and callers in the test.
//!
//! ```ignore
//! let relay = Relay::start().await;                       // nats-server, broker, client agent, agent, origin
//! let answer = relay.get("/hello").await;                 // by reqwest, through all of it
//! let relay = Relay::to(Origin::start(|seen| async { … }).await).agent(&["--ttl", "1s"]).start().await;
//!
//! let nats = Nats::start().await;                         // or piece by piece
//! let agent = nats.upstream("hello", &origin.url(), &[]).await;
//! let client = nats.client(&["--upstream", "hello"]).await;
//! agent.kill9();
//! ```
//!
//! `nats` has the server, `process` a child process and its log, `roles` the relay's own, `origin` what stands
//! behind them, `caller` what comes in front, `load` many callers at once, `frames` HTTP/2 frame by frame, `distance` a slow way to NATS, `accounts` a
//! server where each role has its own user, `wait` how to wait for something without sleeping for luck.

// Each test file uses a part of it.
#![allow(dead_code, unused_imports)]

pub mod accounts;
pub mod caller;
pub mod configured;
pub mod distance;
pub mod frames;
pub mod load;
pub mod nats;
pub mod origin;
pub mod process;
pub mod roles;
pub mod wait;

pub use caller::{Problem, Raw, RawAnswer, http, problem, problem_after_seen};
pub use distance::Distance;
pub use load::Load;
pub use nats::{Nats, listen};
pub use origin::{Origin, Seen, answer};
pub use process::Process;
pub use roles::{Relay, Role};
pub use wait::{eventually, eventually_async, found, within};
