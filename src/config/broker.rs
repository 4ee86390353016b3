//! The broker's settings.

use std::time::Duration;

use clap::Args;

use super::{Process, values::parse_positive};

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
