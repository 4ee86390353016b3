//! What a shared cache decides (RFC 9111), without I/O: `now` is an argument, nothing here waits.
//!
//! [`control`] reads what a request and a response say about caching, [`fresh`] decides what may be stored and
//! how long it may be used, [`key`] says when two requests are for the same thing, [`entry`] is what is kept,
//! [`select`] answers conditions and ranges from it, [`fill`] is a body that is still arriving, [`status`] what
//! callers are told, and [`store`] has it all: what is stored, who is fetching what, and who waits for it.
//! `front::cached` joins that to requests.

pub mod control;
pub mod entry;
pub mod fill;
pub mod fresh;
pub mod key;
pub mod select;
pub mod status;
pub mod store;
