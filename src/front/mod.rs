//! Where people come in. `entrance` to `connection` are the client agent's listener and its connections, `http1` and
//! `http2` speak HTTP there, `upgrade` is what follows a change of protocols, and what they say is a `message` with an `incoming` body; `relay` is one request there,
//! `destination` where it goes, `upload` and `body` its body and its response's, `interim` what an origin says before it,
//! `served` what is told of it, `cached` and `jobs` what may answer it
//! instead; `rendezvous` is what two callers do in a session; `lines` is the socket that speaks JSON; `admin` is the
//! operator's listener; `problem` is the one place that turns a fault into a response.

pub mod admin;
pub mod body;
pub mod cached;
pub mod connection;
pub mod demo;
pub mod destination;
pub mod entrance;
mod forwards;
pub mod http;
pub mod http1;
pub mod http2;
pub mod incoming;
pub mod interim;
pub mod jobs;
pub mod lines;
pub mod listen;
pub mod message;
pub mod opening;
pub mod patience;
pub mod problem;
pub mod proxy;
pub mod relay;
pub mod rendezvous;
pub mod served;
pub mod stalled;
pub mod tls;
pub mod upgrade;
pub mod upload;
