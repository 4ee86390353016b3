//! The agent's calls to an origin, by themselves: what streams, what is cut, what is kept. The origins are
//! real servers and bare sockets in the test.

mod support;

#[path = "origin/bodies.rs"]
mod bodies;
#[path = "origin/calls.rs"]
mod calls;
#[path = "origin/http1.rs"]
mod http1;
#[path = "origin/http2.rs"]
mod http2;
#[path = "origin/tls.rs"]
mod tls;
#[path = "origin/waits.rs"]
mod waits;
