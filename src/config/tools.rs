//! The settings of the tools, and of everything in one process.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use http::HeaderName;

use super::{Entrance, HostHeader, Listen, Operator, OriginUrl, values::parse_time};
use crate::{cache::key::Key, wire::Name};

/// Everything in one process.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What is started")]
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

/// A question to everybody.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What is shown")]
pub struct Inquiry {
    /// Print JSON, one document
    #[arg(long)]
    pub json: bool,
    /// How long to wait for answers
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_time)]
    pub timeout: Duration,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub operator: Operator,
}

/// The caches of all client agents.
#[derive(Debug, Clone, Args)]
pub struct Cache {
    /// What to do.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// What the caches of all client agents are asked.
#[derive(Debug, Clone, Subcommand)]
pub enum CacheCommand {
    /// Let all client agents forget responses
    #[command(after_help = "Example:\n  relay cache purge --tag prices")]
    Purge(Purge),
    /// Show what the caches have and have done since they started
    #[command(mut_arg("prefix", |arg| arg.env("RELAY_PREFIX")))]
    #[command(after_help = "Example:\n  relay cache stats --json")]
    Stats(Inquiry),
}

/// What is to be forgotten.
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
// Here a prefix is one of URLs.
#[command(mut_arg("prefix", |arg| arg.long("subject-prefix").env("RELAY_PREFIX")))]
#[command(next_help_heading = "What is to be forgotten")]
pub struct Purge {
    /// The response of this URL, as http://HOST/PATH
    #[arg(long, value_name = "URL", group = "what", value_parser = parse_url)]
    pub url: Option<String>,
    /// Responses whose URLs begin so, as http://HOST/PATH
    #[arg(long = "prefix", value_name = "URL", group = "what", value_parser = parse_url)]
    pub url_prefix: Option<String>,
    /// Responses of this host, at any port when it names none
    #[arg(long, value_name = "HOST[:PORT]", group = "what")]
    pub host: Option<String>,
    /// Responses with this word in their Surrogate-Key
    #[arg(long, value_name = "TAG", group = "what")]
    pub tag: Option<String>,
    /// Everything
    #[arg(long, group = "what")]
    pub all: bool,
    /// How long to wait for answers
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_time)]
    pub timeout: Duration,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub operator: Operator,
}

fn parse_url(text: &str) -> Result<String, String> {
    match Key::parse(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("write http://HOST/PATH or https://HOST/PATH".into()),
    }
}

/// Messages as text.
#[derive(Debug, Clone, Args)]
pub struct Decode {
    /// Print bodies and header values whole; by default credentials are hidden and bodies cut
    #[arg(long)]
    pub full: bool,
    /// Further headers that carry credentials
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub credential_header: Vec<HeaderName>,
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
