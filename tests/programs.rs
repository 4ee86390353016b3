//! Real programs through a relay: curl, wget, git, pip, and what Python's packages for HTTP, WebSockets and gRPC
//! do. Each case runs twice, `directly` at its origin and `relayed`: where both fail, the case is wrong.
//!
//! `programs/stage.rs` sets up what a case needs; `programs/origins` has the origins, and
//! `programs/callers` the callers that are written in Python.

mod support;

#[path = "programs/stage.rs"]
#[macro_use]
mod stage;

#[path = "programs/curl.rs"]
mod curl;
#[path = "programs/downloads.rs"]
mod downloads;
#[path = "programs/git.rs"]
mod git;
#[path = "programs/grpc.rs"]
mod grpc;
#[path = "programs/http2.rs"]
mod http2;
#[path = "programs/pip.rs"]
mod pip;
#[path = "programs/python.rs"]
mod python;
#[path = "programs/websocket.rs"]
mod websocket;
