//! What crosses NATS: ids, subjects, messages, their bytes, header rules and faults.
//!
//! Nothing here does I/O or looks at a clock. `docs/PROTOCOL.md` describes the same things for
//! people who write an agent in another language; the golden tests in `tests/protocol.rs` hold both
//! together.

pub mod allow;
pub mod authority;
pub mod batch;
pub mod cache;
pub mod codec;
pub mod dots;
pub mod fault;
pub mod headers;
pub mod ids;
pub mod interim;
pub mod job;
pub mod message;
pub mod printable;
mod recent;
pub mod request_target;
pub mod route;
pub mod session;
pub mod show;
pub mod store;
pub mod stream;
pub mod subjects;
pub mod target;

pub use allow::Allow;
pub use batch::Batch;
pub use cache::{CacheStats, Purge, Purged};
pub use fault::{Code, Fault, Side};
pub use headers::Headers;
pub use ids::{Name, ProcessId, RequestId};
pub use interim::Interim;
pub use job::{Job, JobId, JobState};
pub use message::{Ack, Claim, Error, Here, Hold, Known, Lease, Lost, Refused, Reply, Request, State};
pub use request_target::{RequestTarget, UnfitByte};
pub use route::Route;
pub use session::{Meet, News, Session, SessionId, SessionState};
pub use store::{Ended, JobSummary, StoreReply, StoreRequest, StoreVerb};
pub use stream::{End, StreamMessage, Word};
pub use subjects::{Address, CacheVerb, Kind, StoreScope, Subjects};
pub use target::Target;
