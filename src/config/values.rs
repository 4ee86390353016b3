//! The values settings take, each with its parser.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::ValueEnum;
use ipnet::IpNet;

use crate::wire::{Route, route::InvalidRoute};

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
            return Ok(Listen(SocketAddr::from(([127, 0, 0, 1], port))));
        }
        if let Some(("localhost", port)) = text.to_ascii_lowercase().split_once(':')
            && let Ok(port) = port.parse()
        {
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
            _ if text.bytes().all(|byte| byte.is_ascii_digit()) => format!("http://127.0.0.1:{text}"),
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
        // The http crate takes any digits for a port, and then has none.
        let port = authority.get(uri.host().map_or(0, str::len)..).unwrap_or_default();
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
        if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
            return Err(format!(
                "'{}' is no port: it is a number from 1 to 65535",
                port.trim_start_matches(':')
            ));
        }
        if uri.query().is_some() {
            return Err("an origin has no query".into());
        }
        Ok(OriginUrl::Tcp(uri))
    }
}

/// A path on the origin, with a query if need be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPath(pub String);

impl FromStr for OriginPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path: Result<http::uri::PathAndQuery, _> = text.parse();
        match path {
            Ok(path) if text.starts_with('/') && !text.contains('#') => Ok(OriginPath(path.to_string())),
            Ok(_) | Err(_) => Err("write a path as /healthz".into()),
        }
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

/// Which HTTP an origin is offered that chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OriginHttp {
    /// HTTP/2 and HTTP/1.1.
    Auto,
    /// HTTP/1.1.
    #[value(name = "1.1")]
    Http11,
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

/// A network, or one address.
///
/// # Errors
/// When it is something else.
pub(super) fn parse_network(text: &str) -> Result<IpNet, String> {
    let single = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .or_else(|_| single())
        .map_err(|_| "write an address, or a network as 10.0.0.0/8".into())
}

/// A weight, from 1 to 100.
///
/// # Errors
/// When it is something else.
pub(super) fn parse_weight(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(weight @ 1..=100) => Ok(weight),
        Ok(_) | Err(_) => Err("must be a whole number from 1 to 100".into()),
    }
}

/// A time that something may take.
///
/// # Errors
/// When it is something else, or no time at all.
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than 0s".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(format!("{error}; write a time as 500ms, 30s or 1h")),
    }
}

/// A route, also written as a URL.
///
/// # Errors
/// When it is something else.
pub(super) fn parse_route(text: &str) -> Result<Route, InvalidRoute> {
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    text[scheme.map_or(0, str::len)..].parse()
}

/// A time that is long enough to wait between two of something.
///
/// # Errors
/// When it is something else.
pub(super) fn parse_pause(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(pause) if pause < SHORTEST_PAUSE => Err("must be at least 10ms".into()),
        Ok(pause) => Ok(pause),
        Err(error) => Err(error.to_string()),
    }
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// A whole number from 1 on.
///
/// # Errors
/// When it is something else.
pub(super) fn parse_positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("must be a whole number".into()),
    }
}

/// Bytes of a size, as memory counts them.
pub fn bytes(size: bytesize::ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}
