//! What can be set. Each setting is one field here: its flag, its variable, its file key, its default
//! and its help all come from that one line.
//!
//! A value is taken from, in this order: the command line, the environment (`RELAY_<FLAG>`, or the `nats`
//! CLI's name for what concerns the connection), the file named by `--config`, the default. `file` reads
//! the file; nothing else knows there is one.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::wire::Name;

mod context;
mod entrance;
mod file;

pub use context::shown;
pub use entrance::{Entrance, Mode, Trusted};
pub use file::{from_flags, parse};

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
pub enum Command {
    /// Take HTTP requests and send them over NATS to an upstream
    Client(Client),
    /// Take requests for an upstream from NATS and issue them to its origin
    Upstream(Upstream),
    /// Watch over requests that are not answered at once
    Broker(Broker),
    /// Run everything in one process, with a private nats-server
    Up(Up),
    /// Show who is there: upstreams, agents, brokers, client agents, requests in flight
    Ps(Ps),
    /// Print a relay message from standard input as text, for `nats sub 'relay.>' --translate 'relay decode'`
    Decode(Decode),
    /// Exit with 0 when the process behind an admin address is ready
    Health(Health),
    /// Run a small origin that answers with what it received
    Demo(Demo),
}

/// The client agent.
#[derive(Debug, Clone, Args)]
pub struct Client {
    /// Address to take HTTP requests on, or unix:/PATH; a bare port is a port on 127.0.0.1
    #[arg(long, value_name = "ADDR", default_value = "8000")]
    pub listen: Entrance,
    /// Permissions of the UNIX socket that requests come in at
    #[arg(long, value_name = "MODE", default_value = "0660")]
    pub listen_mode: Mode,
    /// Upstream that requests are for
    #[arg(long, value_name = "NAME")]
    pub upstream: Name,
    /// How long a request may take until its response begins; a body that moves gives it the time anew
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub ttl: Duration,
    /// How long a response may take before a broker is asked to watch the request
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = humantime::parse_duration)]
    pub patience: Duration,
    /// Requests in flight at most; more are answered 503
    #[arg(long, value_name = "N", default_value = "20000", value_parser = parse_positive)]
    pub max_in_flight: usize,
    /// Requests in flight at most for one upstream; more are answered 503
    #[arg(long, value_name = "N", default_value = "20000", value_parser = parse_positive)]
    pub max_in_flight_per_upstream: usize,
    /// Connections at most; requests on more are answered 503
    #[arg(long, value_name = "N", default_value = "50000", value_parser = parse_positive)]
    pub max_connections: usize,
    /// Size of a request's body at most; a larger one is answered 413 [default: any size]
    #[arg(long, value_name = "SIZE")]
    pub max_body: Option<ByteSize>,
    /// Bodies streamed at once at most; more are answered 503
    #[arg(long, value_name = "N", default_value = "20000", value_parser = parse_positive)]
    pub max_streams: usize,
    /// How long gRPC and connections that switched protocols may be silent
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    pub stream_idle: Duration,
    /// Bytes of whole bodies held in memory at most; more are answered 503
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub max_buffered: ByteSize,
    /// Size of a request's header block at most; a larger one is answered 431
    #[arg(long, value_name = "SIZE", default_value = "64KiB")]
    pub max_header_bytes: ByteSize,
    /// How long a caller may take to send a request's headers
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub header_timeout: Duration,
    /// How long a caller may pause while it sends a request's body
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub body_timeout: Duration,
    /// Networks of proxies in front whose Forwarded and X-Forwarded-* headers are believed; 'unix' is the UNIX socket
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxy: Vec<Trusted>,
    /// Whether trusted proxies begin connections with a header of the PROXY protocol, version 1 or 2
    #[arg(long, value_name = "on|off", default_value = "off")]
    pub proxy_protocol: Switch,
    /// Certificate chain to speak TLS with, in PEM; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Key of the certificate, in PEM
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Whether each request is logged
    #[arg(long, value_name = "on|off", default_value = "on")]
    pub access_log: Switch,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub process: Process,
}

/// The upstream agent.
#[derive(Debug, Clone, Args)]
pub struct Upstream {
    /// Upstream to serve; agents with the same name share its requests
    #[arg(long, value_name = "NAME")]
    pub name: Name,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub origin: Origin,
    /// How long the origin may take to answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub ttl: Duration,
    /// How long a response may take before the request is acknowledged; 0s acknowledges always
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = humantime::parse_duration)]
    pub ack_delay: Duration,
    /// Requests at the origin at most; more are refused before they start and go to another agent
    #[arg(long, value_name = "N", default_value = "1000", value_parser = parse_positive)]
    pub max_in_flight: usize,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub process: Process,
}

/// The origin an upstream agent calls, and how.
#[derive(Debug, Clone, Args)]
pub struct Origin {
    /// Origin to call: `http://HOST[:PORT][/PATH]`, `https://…`, `h2c://…` for HTTP/2 without TLS, or `unix:/PATH` for
    /// a socket; a bare port is one on 127.0.0.1
    #[arg(long, value_name = "URL")]
    pub to: OriginUrl,
    /// Host header the origin gets: the caller's ('keep'), or the origin's own ('rewrite')
    #[arg(long, value_name = "keep|rewrite", default_value = "keep")]
    pub host_header: HostHeader,
    /// How long connecting to the origin may take, TLS included
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    pub connect_timeout: Duration,
    /// How long an idle connection to the origin is kept
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub pool_idle: Duration,
    /// Idle connections to the origin at most
    #[arg(long, value_name = "N", default_value = "256")]
    pub pool_size: usize,
    /// Size of a response's body at most [default: any size]
    #[arg(long, value_name = "SIZE")]
    pub max_body: Option<ByteSize>,
    /// How long the origin may pause in the middle of a response
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub idle_timeout: Duration,
    /// How long event streams, gRPC and connections that switched protocols may be silent
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    pub stream_idle: Duration,
    /// Certificate authorities for the origin, in PEM, besides the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Client certificate for the origin, in PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Key of the client certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Name to ask the origin for in TLS, and that its certificate must have, instead of the URL's host
    #[arg(long, value_name = "NAME")]
    pub sni: Option<String>,
    /// Believe any certificate of this origin: for development only, anybody on the way can pose as the origin
    #[arg(long, value_name = "on|off", num_args = 0..=1, default_value = "off", default_missing_value = "on")]
    pub insecure: Switch,
}

/// The broker.
#[derive(Debug, Clone, Args)]
pub struct Broker {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub waits: Waits,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub process: Process,
}

/// The broker's three waits.
#[derive(Debug, Clone, Args)]
pub struct Waits {
    /// How long a request may wait for an upstream agent to exist
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub wait: Duration,
    /// How long an upstream agent may take to acknowledge a request
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub ack_wait: Duration,
    /// How long the response may take after the acknowledgement
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub response_wait: Duration,
    /// Requests held at most; more are refused
    #[arg(long, value_name = "N", default_value = "100000", value_parser = parse_positive)]
    pub max_holds: usize,
}

/// Everything in one process.
#[derive(Debug, Clone, Args)]
pub struct Up {
    /// Origin to put online; without one, a demo origin that answers with what it received
    #[arg(value_name = "URL")]
    pub url: Option<OriginUrl>,
    /// Address to take HTTP requests on, or unix:/PATH; a bare port is a port on 127.0.0.1
    #[arg(long, value_name = "ADDR", default_value = "8000")]
    pub listen: Entrance,
    /// Name of the upstream
    #[arg(long, value_name = "NAME", default_value = "hello")]
    pub name: Name,
    /// Host header the origin gets: the caller's ('keep'), or the origin's own ('rewrite')
    #[arg(long, value_name = "keep|rewrite", default_value = "keep")]
    pub host_header: HostHeader,
    /// Use this NATS server instead of a private one
    #[arg(long, short = 's', value_name = "URL")]
    pub server: Option<String>,
    /// Program to run as the private server
    #[arg(long, value_name = "FILE", default_value = "nats-server")]
    pub nats_server: PathBuf,
    /// Port of the private server on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value = "0")]
    pub nats_port: u16,
    /// How long requests in flight may take to finish at shutdown
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub grace: Duration,
}

/// Who is there.
#[derive(Debug, Clone, Args)]
pub struct Ps {
    /// Print JSON, one document
    #[arg(long)]
    pub json: bool,
    /// How long to wait for answers
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub nats: Nats,
}

/// Messages as text.
#[derive(Debug, Clone, Args)]
pub struct Decode {
    /// Print bodies and header values whole; by default credentials are hidden and bodies cut
    #[arg(long)]
    pub full: bool,
}

/// Is it ready?
#[derive(Debug, Clone, Args)]
pub struct Health {
    /// Admin address of the process, as http://HOST:PORT
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:9180")]
    pub url: String,
}

/// A small origin.
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// Address to listen on; a bare port is a port on 127.0.0.1
    #[arg(long, value_name = "ADDR", default_value = "3000")]
    pub listen: Listen,
}

/// What every long-running process has.
#[derive(Debug, Clone, Args)]
pub struct Process {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub nats: Nats,
    /// First token of this process's private subjects; give each set of credentials its own [default: by role]
    #[arg(long, value_name = "NAME")]
    pub realm: Option<Name>,
    /// Address for /healthz, /readyz and /metrics, or 'off' [default: 9180 client, 9181 broker, 9182 upstream on
    /// 127.0.0.1, or a free port when that is taken]
    #[arg(long, value_name = "ADDR|off")]
    pub admin: Option<Admin>,
    /// How long requests in flight may take to finish at shutdown
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub grace: Duration,
    /// How log lines look
    #[arg(long, value_name = "human|json", default_value = "human")]
    pub log_format: LogFormat,
    /// What is logged, as in RUST_LOG
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info,async_nats=warn")]
    pub log: String,
    /// File with settings, in TOML
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The connection to NATS, with the names the `nats` CLI uses.
#[derive(Debug, Clone, Args)]
pub struct Nats {
    /// NATS servers, comma-separated: nats://, tls://, ws:// or wss://
    #[arg(long, short = 's', value_name = "URL", env = "NATS_URL", default_value = "nats://127.0.0.1:4222")]
    pub server: String,
    /// User name
    #[arg(long, value_name = "USER", env = "NATS_USER")]
    pub user: Option<String>,
    /// Password
    #[arg(long, value_name = "PASSWORD", env = "NATS_PASSWORD", hide_env_values = true)]
    pub password: Option<Secret>,
    /// Token
    #[arg(long, value_name = "TOKEN", env = "NATS_TOKEN", hide_env_values = true)]
    pub token: Option<Secret>,
    /// File with credentials (JWT and seed)
    #[arg(long, value_name = "FILE", env = "NATS_CREDS")]
    pub creds: Option<PathBuf>,
    /// File with an NKey seed
    #[arg(long, value_name = "FILE", env = "NATS_NKEY")]
    pub nkey: Option<PathBuf>,
    /// Client certificate, in PEM
    #[arg(long, value_name = "FILE", env = "NATS_CERT", requires = "tlskey")]
    pub tlscert: Option<PathBuf>,
    /// Key of the client certificate, in PEM
    #[arg(long, value_name = "FILE", env = "NATS_KEY", requires = "tlscert")]
    pub tlskey: Option<PathBuf>,
    /// Certificate authority of the server, in PEM
    #[arg(long, value_name = "FILE", env = "NATS_CA")]
    pub tlsca: Option<PathBuf>,
    /// Context of the `nats` CLI to take the connection's settings from
    #[arg(long, value_name = "NAME", env = "NATS_CONTEXT")]
    pub context: Option<String>,
    /// Prefix of all subjects, for several relays in one NATS account
    #[arg(long, value_name = "NAME", default_value = "relay")]
    pub prefix: Name,
}

/// A text that never shows in logs or error messages.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Secret(text.to_owned()))
    }
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
            return Ok(Listen(SocketAddr::from(([127, 0, 0, 1], port))));
        }
        let hint = "write PORT, IP:PORT or [IP6]:PORT; 0.0.0.0:PORT listens on every address";
        text.parse().map(Listen).map_err(|_| hint.to_owned())
    }
}

/// Where the admin server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admin {
    /// Nowhere.
    Off,
    /// There.
    On(Listen),
}

impl FromStr for Admin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Admin::Off),
            text => text.parse().map(Admin::On),
        }
    }
}

/// Where the origin is and what it speaks; nothing a request says can leave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginUrl {
    /// Over TCP: scheme (`http`, `https` or `h2c`), host and base path.
    Tcp(http::Uri),
    /// HTTP/1 over a UNIX socket.
    Unix(PathBuf),
}

impl std::fmt::Display for OriginUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OriginUrl::Tcp(uri) => uri.fmt(f),
            OriginUrl::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for OriginUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("unix:") {
            let path = PathBuf::from(rest.strip_prefix("//").unwrap_or(rest));
            return match path.is_absolute() {
                true => Ok(OriginUrl::Unix(path)),
                false => Err("write unix:/PATH, with the whole path of the socket".into()),
            };
        }
        // A bare port or host:port is what people type first.
        let url = match text {
            _ if text.parse::<u16>().is_ok() => format!("http://127.0.0.1:{text}"),
            _ if !text.contains("://") => format!("http://{text}"),
            _ => text.to_owned(),
        };
        let uri: http::Uri =
            url.parse().map_err(|error| format!("{error}; write http://HOST[:PORT][/PATH]"))?;
        match uri.scheme_str() {
            Some("http" | "https" | "h2c") => {}
            _ => return Err("the scheme must be http, https, h2c or unix".into()),
        }
        let authority = uri.authority().map_or("", |a| a.as_str());
        if uri.host().is_none_or(str::is_empty) || authority.contains('@') {
            return Err("write http://HOST[:PORT][/PATH], without a user name".into());
        }
        if uri.query().is_some() {
            return Err("an origin has no query".into());
        }
        Ok(OriginUrl::Tcp(uri))
    }
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// Which Host header the origin gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HostHeader {
    /// The caller's.
    Keep,
    /// The origin's own.
    Rewrite,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

fn parse_positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("must be a whole number".into()),
    }
}

#[cfg(test)]
mod tests;
