//! HTTP from one network to another over NATS.
//!
//! # The life of a request
//!
//! A caller's connection comes in at [`front::entrance`]. [`front::opening`] finds out whose it is
//! ([`front::proxy`]), speaks TLS ([`front::tls`]) and sees which HTTP it is; [`front::connection`] serves it, by
//! [`front::http1`] or [`front::http2`].
//! Each request is [`front::relay`]'s, which checks what a caller may say (method, target, header block), reads
//! the body as far as it fits in a message ([`front::body`]) and applies the header rules ([`wire::headers`]).
//! The result is a [`wire::Request`].
//!
//! [`role::client`] gives it to its [`role::asker`], whose decisions, [`proto::exchange`], publish it on
//! `relay.req.<upstream>` ([`wire::subjects`], [`wire::codec`], [`bus`]). NATS hands it to one member of the
//! queue group: an upstream agent, [`role::upstream`], which may serve several upstreams; its member for this
//! one has its decisions in [`proto::serving`]. It issues the request to the real server ([`origin`]; an egress
//! member to the outside host that the request names, if [`wire::allow`] lets it) and publishes the response on `relay.resp.<id>`, where the client agent's one subscription finds it. That is the
//! whole way of a request that is answered at once.
//!
//! A body that does not fit follows in frames on `relay.body.<id>` ([`wire::stream`]), under a credit that
//! [`proto::flow`] keeps; [`stream`] joins that to whoever reads and writes: [`front::upload`] and
//! `role::upstream::call` send, a response's body and the origin's connection receive, and
//! [`stream::tunnel`] carries WebSocket and whatever else follows a 101.
//!
//! What is not answered within the patience, or reached nobody, is watched by a broker: [`role::broker`],
//! whose decisions are in [`proto::supervision`]. The broker never carries a body. It enforces three waits
//! (for an agent to exist, to acknowledge, to respond), wakes requests when an agent appears, and notices
//! when an agent that took one is gone.
//!
//! With `--cache`, a request may be answered before any of that: [`front::cached`] asks the shared cache, whose
//! decisions are in [`cache`], and stores what comes back.
//!
//! A program without HTTP writes lines of JSON instead: [`front::lines`] reads them, and [`role::socket`] issues the requests
//! they name, by [`origin`] or, over NATS, by an asker of its own.
//!
//! With `--sessions`, requests under that path are none of an upstream's: [`front::rendezvous`] answers them, with what
//! another caller sends there. [`proto::rendezvous`] decides who meets whom; the sessions themselves are records in NATS
//! that brokers read and write, and what is sent streams from client agent to client agent.
//!
//! What outlives a process, jobs and sessions, is in JetStream, which brokers alone use ([`bus::store`]): client agents and
//! the commands of operators ask them by [`store`], and `role::broker::storing` answers.
//!
//! Whatever goes wrong is a [`wire::Fault`], and [`front::problem`] is the one place that turns a fault into
//! a response.
//!
//! # Layout
//!
//! [`panics`] is what a panic does to a process, [`sync`] are its locks, and [`output`] writes its log. Imports run one way: `bin` → [`role`] → {[`front`], [`origin`]} → [`store`] → [`stream`] → {[`bus`], [`proto`],
//! [`cache`]} → [`wire`]; [`framing`] is what [`front`] and [`origin`] have in common of HTTP/1;
//! [`descriptors`] says how many connections they may have open;
//! [`config`] and [`telemetry`] are leaves that roles and fronts share. A test checks it.

pub mod bus;
pub mod cache;
pub mod config;
pub mod descriptors;
pub mod framing;
pub mod front;
pub mod origin;
pub mod output;
pub mod panics;
pub mod proto;
pub mod role;
pub mod store;
pub mod stream;
pub mod sync;
pub mod telemetry;
pub mod wire;
