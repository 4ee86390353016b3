//! The settings of the tools, and of everything in one process.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{Entrance, HostHeader, Listen, Nats, OriginUrl};
use crate::wire::Name;

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

/// Which routes there are.
#[derive(Debug, Clone, Args)]
pub struct Routes {
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
