//! The broker's settings.

use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use super::{
    Process, StoreAccess, Switch,
    values::{parse_positive, parse_time},
};
use crate::wire::Name;

/// The broker.
#[derive(Debug, Clone, Args)]
pub struct Broker {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub waits: Waits,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub jobs: Jobs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub store: StoreAccess,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub process: Process,
}

/// The broker's three waits.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Waits")]
pub struct Waits {
    /// How long a request may wait for an upstream agent to exist
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub wait: Duration,
    /// How long an upstream agent may take to acknowledge a request
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_time)]
    pub ack_wait: Duration,
    /// How long the response may take after the acknowledgement
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    pub response_wait: Duration,
    /// Requests held at most; more are refused
    #[arg(long, value_name = "N", default_value = "100000", value_parser = parse_positive)]
    pub max_holds: usize,
}

/// What outlives its caller: forward chains, and requests that are answered later.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Jobs")]
pub struct Jobs {
    /// Whether this broker works on jobs: forward chains, and requests that are answered later
    #[arg(long = "jobs", value_name = "on|off", default_value = "on")]
    pub run: Switch,
    /// Jobs it works on at once at most
    #[arg(long = "max-job-runs", value_name = "N", default_value = "256", value_parser = parse_positive)]
    pub max_runs: usize,
    /// Attempts at one request of a job at most
    #[arg(long = "job-attempts", value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempts: u32,
    /// Pause after the first attempt; it doubles with each
    #[arg(long = "job-backoff", value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub backoff: Duration,
    /// Pause between two attempts at most, unless the server asks for a longer one
    #[arg(long = "job-backoff-max", value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    pub backoff_max: Duration,
    /// Statuses after which a request that may be sent twice is sent again
    #[arg(long = "job-retry-status", value_name = "STATUS", value_delimiter = ',', default_value = "429,502,503,504", value_parser = clap::value_parser!(u16).range(400..600))]
    pub retry_status: Vec<u16>,
    /// Whether a request that may have run is sent again though nothing says that it may run twice
    #[arg(long, value_name = "on|off", num_args = 0..=1, default_value = "off", default_missing_value = "on")]
    pub retry_unsafe: Switch,
    /// How long one request of a job may take until its response begins
    #[arg(long = "job-timeout", value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    pub timeout: Duration,
    /// How long a job may take in all
    #[arg(long = "job-lifetime", value_name = "TIME", default_value = "24h", value_parser = parse_time)]
    pub lifetime: Duration,
    /// How long a job that is over is kept
    #[arg(long = "job-keep", value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    pub keep: Duration,
    /// How long a job that failed is kept as a dead letter
    #[arg(long = "dead-keep", value_name = "TIME", default_value = "30d", value_parser = humantime::parse_duration)]
    pub dead_keep: Duration,
    /// Jobs kept at most, those that are over included; more are refused
    #[arg(long = "max-jobs", value_name = "N", default_value = "100000", value_parser = parse_positive)]
    pub max_jobs: usize,
    /// Jobs kept at most for one upstream, and of chains and callbacks together; more are refused [default: half of all]
    #[arg(long, value_name = "N")]
    pub max_jobs_per_upstream: Option<usize>,
    /// Jobs of one caller's address that are kept at most, as one broker counts; more are refused [default: a quarter of all]
    #[arg(long, value_name = "N")]
    pub max_jobs_per_caller: Option<usize>,
    /// Bytes that jobs may take in JetStream, with large bodies and dead letters; NATS sets them aside
    #[arg(long = "max-job-bytes", value_name = "SIZE", default_value = "512MiB")]
    pub max_bytes: ByteSize,
    /// Size of a response's body at most, where it is kept or goes to the next hop
    #[arg(long = "max-job-body", value_name = "SIZE", default_value = "16MiB")]
    pub max_body: ByteSize,
    /// Bytes of bodies of jobs in memory at most; jobs wait for room
    #[arg(long = "max-job-memory", value_name = "SIZE", default_value = "256MiB")]
    pub max_memory: ByteSize,
    /// Copies of each job in a NATS cluster [default: 3 in a cluster, 1 otherwise]
    #[arg(long = "job-replicas", value_name = "N")]
    pub replicas: Option<usize>,
    /// Upstreams whose agents may be asked for outside hosts
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "egress")]
    pub egress: Vec<Name>,
}
