//! The client agent's settings.

use std::{path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::Args;
use http::HeaderName;

use super::{
    Entrance, Mode, Process, Sessions, Switch, Trusted,
    values::{parse_positive, parse_time},
};
use crate::wire::Name;

/// The client agent.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Requests")]
pub struct Client {
    /// Address to take HTTP requests on, or unix:/PATH; a bare port is a port on 127.0.0.1
    #[arg(long, value_name = "ADDR", default_value = "8000", help_heading = "Callers")]
    pub listen: Entrance,
    /// Permissions of the UNIX socket that requests come in at
    #[arg(long, value_name = "MODE", default_value = "0660", help_heading = "Callers")]
    pub listen_mode: Mode,
    /// Upstream that all requests are for [default: the one whose route fits the request's host and path]
    #[arg(long, value_name = "NAME")]
    pub upstream: Option<Name>,
    /// Upstreams whose routes are used [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "upstream")]
    pub only: Vec<Name>,
    /// Whether a caller may name the upstream in an X-Relay-Upstream header
    #[arg(long, value_name = "on|off", num_args = 0..=1, default_value = "off", default_missing_value = "on")]
    pub allow_upstream_header: Switch,
    /// How long a request may take until its response begins; a body that moves gives it the time anew
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time, help_heading = "Times")]
    pub ttl: Duration,
    /// How long a response may take before a broker is asked to watch the request
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = humantime::parse_duration, help_heading = "Times")]
    pub patience: Duration,
    /// Requests in flight at most; more are answered 503
    #[arg(long, value_name = "N", default_value = "20000", value_parser = parse_positive, help_heading = "Limits")]
    pub max_in_flight: usize,
    /// Requests in flight at most for one upstream; more are answered 503
    #[arg(long, value_name = "N", default_value = "20000", value_parser = parse_positive, help_heading = "Limits")]
    pub max_in_flight_per_upstream: usize,
    /// Connections at most; requests on more are answered 503
    #[arg(long, value_name = "N", default_value = "50000", value_parser = parse_positive, help_heading = "Limits")]
    pub max_connections: usize,
    /// Size of a request's body at most; a larger one is answered 413 [default: any size]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub max_body: Option<ByteSize>,
    /// Bodies streamed at once at most; more are answered 503
    #[arg(long, value_name = "N", default_value = "20000", value_parser = parse_positive, help_heading = "Limits")]
    pub max_streams: usize,
    /// How long gRPC, event streams and connections that switched protocols may be silent
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_time, help_heading = "Times")]
    pub stream_idle: Duration,
    /// Bytes of whole bodies held in memory at most; more are answered 503
    #[arg(long, value_name = "SIZE", default_value = "256MiB", help_heading = "Limits")]
    pub max_buffered: ByteSize,
    /// Size of a request's header block at most; a larger one is answered 431
    #[arg(long, value_name = "SIZE", default_value = "64KiB", help_heading = "Limits")]
    pub max_header_bytes: ByteSize,
    /// How long a caller may take to send a request's headers
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time, help_heading = "Times")]
    pub header_timeout: Duration,
    /// How long a caller's connection may be idle between two requests; more than the same time of a proxy in front
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = humantime::parse_duration)]
    pub keep_alive: Duration,
    /// How long a caller may pause while it sends a request's body
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time, help_heading = "Times")]
    pub body_timeout: Duration,
    /// How long a caller may take nothing of what is written to it, before its connection is closed
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time, help_heading = "Times")]
    pub send_timeout: Duration,
    /// Networks of proxies in front whose Forwarded and X-Forwarded-* headers are believed; 'unix' is the UNIX socket
    #[arg(long, value_name = "CIDR", value_delimiter = ',', help_heading = "Callers")]
    pub trusted_proxy: Vec<Trusted>,
    /// Whether faults tell callers of addresses, hosts, upstreams and files behind the relay; the log always has them
    #[arg(long, value_name = "on|off", num_args = 0..=1, default_value = "off", default_missing_value = "on", help_heading = "Callers")]
    pub fault_details: Switch,
    /// Whether header names with _ pass on from callers that are no trusted proxy; many origins read them as others' names
    #[arg(long, value_name = "on|off", num_args = 0..=1, default_value = "off", default_missing_value = "on", help_heading = "Callers")]
    pub underscore_headers: Switch,
    /// Whether trusted proxies begin connections with a header of the PROXY protocol, version 1 or 2
    #[arg(long, value_name = "on|off", default_value = "off", help_heading = "Callers")]
    pub proxy_protocol: Switch,
    /// Certificate chain to speak TLS with, in PEM; read again when it changes
    #[arg(long, value_name = "FILE", help_heading = "Callers")]
    pub tls_cert: Option<PathBuf>,
    /// Key of the certificate, in PEM
    #[arg(long, value_name = "FILE", help_heading = "Callers")]
    pub tls_key: Option<PathBuf>,
    /// Bytes of memory for a shared cache of responses, all it needs included [default: no cache]
    #[arg(long, value_name = "SIZE", help_heading = "Cache")]
    pub cache: Option<ByteSize>,
    /// Size of a response's body that is cached, at most; and no more than a quarter of the cache
    #[arg(long, value_name = "SIZE", default_value = "16MiB", help_heading = "Cache")]
    pub cache_object: ByteSize,
    /// Whether requests may ask to be answered later, and start forward chains
    #[arg(long, value_name = "on|off", default_value = "off", help_heading = "Jobs")]
    pub jobs: Switch,
    /// Upstreams that forward chains and callbacks may go to, by name too, or 'any' [default: where routes lead, or the one upstream]
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = "Jobs")]
    pub forward_to: Vec<Name>,
    /// Hops of a forward chain at most
    #[arg(long, value_name = "N", default_value = "32", value_parser = parse_positive, help_heading = "Jobs")]
    pub max_hops: usize,
    /// Size of a job's body at most; a larger one is answered 413
    #[arg(long, value_name = "SIZE", default_value = "16MiB", help_heading = "Jobs")]
    pub max_job_body: ByteSize,
    /// Further headers that carry credentials: callers who differ in one never share a job by an Idempotency-Key
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = "Jobs")]
    pub credential_header: Vec<HeaderName>,
    /// Whether each request is logged
    #[arg(long, value_name = "on|off", default_value = "on", help_heading = "Process and log")]
    pub access_log: Switch,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub sessions: Sessions,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub process: Process,
}
