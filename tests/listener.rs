//! The client agent's listener: where it listens, what it speaks there, and whom it believes.

mod support;

#[path = "listener/connect.rs"]
mod connect;
#[path = "listener/curl.rs"]
mod curl;
#[path = "listener/http2.rs"]
mod http2;
#[path = "listener/malformed.rs"]
mod malformed;
#[path = "listener/proxy.rs"]
mod proxy;
#[path = "listener/tls.rs"]
mod tls;
#[path = "listener/unix.rs"]
mod unix;
