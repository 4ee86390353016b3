//! The upstream agent's settings: the process's, and those of each upstream it serves.

use std::{path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::{Args, FromArgMatches};
use ipnet::IpNet;

use super::{
    HostHeader, OriginHttp, OriginPath, OriginUrl, Process, Switch,
    values::{parse_network, parse_pause, parse_positive, parse_route, parse_time, parse_weight},
};
use crate::wire::{Allow, Name, Route, allow::MAX_ALLOW};

/// The upstream agent.
#[derive(Debug, Clone, Args)]
pub struct Upstream {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub member: Member,
    /// The other upstreams it serves: those of all `[[upstream]]` tables of the settings file but the first.
    #[arg(skip)]
    pub others: Vec<Member>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub process: Process,
}

impl Upstream {
    /// Every upstream it serves.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.member).chain(&self.others)
    }
}

/// One upstream that an agent serves.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(next_help_heading = "Requests")]
pub struct Member {
    /// Upstream to serve; agents with the same name share its requests
    #[arg(long, value_name = "NAME")]
    pub name: Name,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub origin: Origin,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub egress: Egress,
    /// Requests it wants, as HOST, *.HOST, HOST/PATH or /PATH; a path covers all below it
    #[arg(help_heading = "Requests", long, value_name = "ROUTE", value_delimiter = ',', value_parser = parse_route)]
    pub route: Vec<Route>,
    /// Whether a route's path is stripped from its requests before the origin sees them
    #[arg(help_heading = "Requests", long, value_name = "on|off", num_args = 0..=1, default_value = "off", default_missing_value = "on")]
    pub strip_prefix: Switch,
    /// How long the origin may take to answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time, help_heading = "Times")]
    pub ttl: Duration,
    /// How long a response may take before the request is acknowledged; 0s acknowledges always
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = humantime::parse_duration, help_heading = "Times")]
    pub ack_delay: Duration,
    /// Requests at the origin at most; more are refused before they start and go to another agent
    #[arg(help_heading = "Requests", long, value_name = "N", default_value = "1000", value_parser = parse_positive)]
    pub max_in_flight: usize,
    /// Share of the requests beside the other agents' shares, from 1 to 100: one with 3 gets three times those of one
    /// with 1
    #[arg(help_heading = "Requests", long, value_name = "N", default_value = "1", value_parser = parse_weight)]
    pub weight: usize,
    /// Take only those requests that NATS maps to this variant of the upstream
    #[arg(help_heading = "Requests", long, value_name = "NAME")]
    pub variant: Option<Name>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub health: Health,
    /// Whether it leaves the work to its siblings while it is much slower than they are
    #[arg(help_heading = "Requests", long, value_name = "on|off", default_value = "on")]
    pub stand_by: Switch,
}

impl Member {
    /// Whether it calls outside hosts instead of an origin.
    pub fn is_egress(&self) -> bool {
        self.egress.on == Switch::On
    }

    /// What it calls, for people.
    pub fn shown(&self) -> String {
        match &self.origin.to {
            Some(to) => to.to_string(),
            None => self.egress.allow.iter().map(Allow::to_string).collect::<Vec<_>>().join(","),
        }
    }

    /// What is wrong with settings that are right one by one.
    pub(super) fn mistake(&self) -> Option<String> {
        let Egress { on, allow, allow_network } = &self.egress;
        if *on == Switch::Off {
            let without_egress = "is for agents that call outside hosts: it needs --egress on";
            return match () {
                () if !allow.is_empty() => Some(format!("--allow {without_egress}")),
                () if !allow_network.is_empty() => Some(format!("--allow-network {without_egress}")),
                () if self.origin.to.is_none() => Some("--to is missing: the origin's URL".into()),
                () => None,
            };
        }
        let of_an_origin = [
            ("--to", self.origin.to.is_some()),
            ("--sni", self.origin.sni.is_some()),
            ("--insecure", self.origin.insecure == Switch::On),
            ("--route", !self.route.is_empty()),
            ("--health and what belongs to it", !self.health.is_usual()),
        ];
        if let Some((flag, _)) = of_an_origin.iter().find(|(_, given)| *given) {
            let why = "an agent with --egress calls the hosts that requests name, not one origin of its own";
            return Some(format!("{flag} can't be used with --egress: {why}"));
        }
        match (allow.len(), allow_network.len()) {
            (0, _) => Some("--egress needs --allow: the outside hosts that may be called".into()),
            (..=MAX_ALLOW, ..=MAX_ALLOW) => None,
            _ => Some(format!("--allow and --allow-network take at most {MAX_ALLOW} each")),
        }
    }
}

/// The outside hosts that an upstream agent calls instead of an origin.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(next_help_heading = "Calls to outside hosts")]
pub struct Egress {
    /// Whether it calls outside hosts, each request the one that its URL names, instead of one origin
    #[arg(long = "egress", value_name = "on|off", num_args = 0..=1, default_value = "off", default_missing_value = "on")]
    pub on: Switch,
    /// Outside hosts that may be called, as `SCHEME://HOST[:PORT]`; `*.HOST` is every name below it
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub allow: Vec<Allow>,
    /// Networks in which an outside host may be although their addresses are not public
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = parse_network)]
    pub allow_network: Vec<IpNet>,
}

/// When an origin is believed to work.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(next_help_heading = "Health of the origin")]
pub struct Health {
    /// Path to check on the origin, below its URL's path; an answer from 200 to 399 is healthy [default: no check]
    #[arg(long = "health", value_name = "PATH")]
    pub path: Option<OriginPath>,
    /// Pause between two checks, or two attempts to connect to an origin that was given up
    #[arg(long = "health-interval", value_name = "TIME", default_value = "5s", value_parser = parse_pause)]
    pub interval: Duration,
    /// How long a check may take
    #[arg(long = "health-timeout", value_name = "TIME", default_value = "2s", value_parser = parse_time)]
    pub timeout: Duration,
    /// Checks in a row that fail until the origin is unhealthy
    #[arg(long = "health-fall", value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..))]
    pub fall: u32,
    /// Checks in a row that succeed until it is healthy again
    #[arg(long = "health-rise", value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..))]
    pub rise: u32,
    /// Connections in a row that fail until the origin is given up; 0 is never
    #[arg(long, value_name = "N", default_value = "5")]
    pub eject_after: u32,
}

impl Health {
    /// Whether nobody has set when to check.
    fn is_usual(&self) -> bool {
        let nothing = Health::augment_args(clap::Command::new("health").no_binary_name(true));
        let usual = Health::from_arg_matches(&nothing.get_matches_from([""; 0]));
        usual.is_ok_and(|usual| *self == Health { eject_after: self.eject_after, ..usual })
    }
}

/// The origin an upstream agent calls, and how.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(next_help_heading = "Origin")]
pub struct Origin {
    /// Origin to call: `http://HOST[:PORT][/PATH]`, `https://…`, `h2c://…` for HTTP/2 without TLS, or `unix:/PATH` for
    /// a socket; a bare port is one on 127.0.0.1
    #[arg(long, value_name = "URL")]
    pub to: Option<OriginUrl>,
    /// Host header the origin gets: the caller's ('keep'), or the origin's own ('rewrite')
    #[arg(long, value_name = "keep|rewrite", default_value = "keep")]
    pub host_header: HostHeader,
    /// HTTP that an `https://` origin, or an outside host, is offered: HTTP/2 and HTTP/1.1 ('auto'), or HTTP/1.1 alone
    #[arg(long, value_name = "auto|1.1", default_value = "auto")]
    pub origin_http: OriginHttp,
    /// How long connecting to the origin may take, TLS included
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_time)]
    pub connect_timeout: Duration,
    /// How long an idle connection to the origin is kept
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub pool_idle: Duration,
    /// How long a connection to the origin is used at most: a changed address of its name is taken up by then
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    pub pool_max_age: Duration,
    /// Idle connections to the origin at most
    #[arg(long, value_name = "N", default_value = "256")]
    pub pool_size: usize,
    /// Size of a response's body at most [default: any size]
    #[arg(long, value_name = "SIZE")]
    pub max_body: Option<ByteSize>,
    /// How long the origin may pause in the middle of a response
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    pub idle_timeout: Duration,
    /// How long the origin may take nothing of a request's body, or of a connection that switched protocols
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    pub send_timeout: Duration,
    /// How long event streams, gRPC and connections that switched protocols may be silent
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_time)]
    pub stream_idle: Duration,
    /// Certificate authorities for the origin, in PEM, besides the system's; or the origin's own certificate
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
