//! What can be set. Each setting is one field here: its flag, its variable, its file key, its default
//! and its help all come from that one line.
//!
//! A value is taken from, in this order: the command line, the environment (`RELAY_<FLAG>`, or the `nats`
//! CLI's name for what concerns the connection), the file named by `--config`, the default. `file` reads
//! the file; nothing else knows there is one.

use clap::{Parser, Subcommand};

mod broker;
mod client;
mod context;
mod entrance;
mod file;
mod jobs_tools;
mod process;
pub mod requests;
mod sessions;
mod socket;
mod store;
mod tools;
mod upstream;
mod values;
mod warnings;
mod watch;

pub use broker::{Broker, Jobs, Waits};
pub use client::Client;
pub use context::shown;
pub use entrance::{Entrance, Mode, Trusted};
pub use file::{from_flags, parse, reread};
pub use jobs_tools::{
    DlqCommand, DlqLs, DlqShow, DlqSome, DlqTool, JobsCancel, JobsCommand, JobsLs, JobsShow, JobsTool,
};
pub use process::{Nats, Operator, Process, Secret};
pub use sessions::{Origins, Sessions, SessionsAt};
pub use socket::{Owner, Socket};
pub use store::StoreAccess;
pub use tools::{Cache, CacheCommand, Decode, Demo, Health, Inquiry, Purge, Up};
pub use upstream::{Egress, Member, Origin, Upstream};
pub use values::{Admin, HostHeader, Listen, LogFormat, OriginHttp, OriginPath, OriginUrl, Switch, bytes};
pub use warnings::warnings;
pub use watch::Watched;

/// HTTP from one network to another over NATS.
#[derive(Debug, Parser)]
#[command(name = "relay", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One role, or one tool.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it in a process")]
pub enum Command {
    /// Take HTTP requests and send them over NATS to an upstream
    #[command(
        after_help = "Example:\n  relay client --upstream hello --listen 8000 --server nats://127.0.0.1:4222"
    )]
    Client(Client),
    /// Take requests for an upstream from NATS and issue them to its origin
    #[command(
        after_help = "Example:\n  relay upstream --name hello --to http://127.0.0.1:3000 --server nats://127.0.0.1:4222"
    )]
    Upstream(Upstream),
    /// Watch over requests that are not answered at once
    #[command(after_help = "Example:\n  relay broker --wait 30s --server nats://127.0.0.1:4222")]
    Broker(Broker),
    /// Take lines of JSON on a socket, each naming a request to a REST API
    #[command(after_help = "Example:\n  relay socket --requests requests.toml --tcp 9876")]
    Socket(Socket),
    /// Run everything in one process, with a private nats-server
    #[command(after_help = "Example:\n  relay up http://127.0.0.1:3000 --listen 8000")]
    Up(Up),
    /// Show who is there: upstreams, agents, brokers, client agents, requests in flight
    #[command(after_help = "Example:\n  relay ps --server nats://127.0.0.1:4222")]
    Ps(Inquiry),
    /// Show which routes there are and whose they are
    #[command(after_help = "Example:\n  relay routes --json")]
    Routes(Inquiry),
    /// Purge the caches of all client agents, or show what they do
    #[command(after_help = "Example:\n  relay cache purge --url http://shop.example.com/prices")]
    Cache(Cache),
    /// Show forward chains and requests that are answered later, or cancel them
    #[command(after_help = "Example:\n  relay jobs ls --state failed")]
    Jobs(JobsTool),
    /// Show jobs that finally failed, let them go on, or forget them
    #[command(after_help = "Example:\n  relay dlq replay --all")]
    Dlq(DlqTool),
    /// Print a relay message from standard input as text, for `nats sub 'relay.>' --translate 'relay decode'`
    #[command(after_help = "Example:\n  nats sub 'relay.>' --translate 'relay decode'")]
    Decode(Decode),
    /// Exit with 0 when the process behind an admin address is ready
    #[command(after_help = "Example:\n  relay health http://127.0.0.1:9180")]
    Health(Health),
    /// Run a small origin that answers with what it received
    #[command(after_help = "Example:\n  relay demo --listen 3000")]
    Demo(Demo),
}

#[cfg(test)]
mod tests;
