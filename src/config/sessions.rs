//! The settings of rendezvous sessions at a client agent.

use std::{fmt, str::FromStr, time::Duration};

use clap::Args;

use super::values::{parse_positive, parse_time};

/// Rendezvous sessions.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Rendezvous sessions")]
pub struct Sessions {
    /// Path under which two callers meet in sessions that are kept in NATS, as /cama/session [default: no sessions]
    #[arg(long, value_name = "PATH")]
    pub sessions: Option<SessionsAt>,
    /// How long a session lasts when nobody uses it
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_time)]
    pub session_ttl: Duration,
    /// How long a request in a session waits for the other side when its X-Timeout does not say
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub session_timeout: Duration,
    /// How long a request in a session may wait, whatever its X-Timeout says
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_time)]
    pub max_session_timeout: Duration,
    /// Sessions at most, at all client agents together; more are answered 503
    #[arg(long, value_name = "N", default_value = "10000", value_parser = parse_positive)]
    pub max_sessions: usize,
    /// Requests that wait in sessions here at most; more are answered 503
    #[arg(long, value_name = "N", default_value = "10000", value_parser = parse_positive)]
    pub max_session_waits: usize,
    /// Requests that wait in one session here at most; more are answered 429
    #[arg(long, value_name = "N", default_value = "16", value_parser = parse_positive)]
    pub max_waits_per_session: usize,
    /// Sessions that one address may make in a minute; more are answered 429. An IPv6 address counts with its /64
    #[arg(long, value_name = "N", default_value = "60", value_parser = parse_positive)]
    pub sessions_per_address: usize,
    /// Wrong session ids and tokens that may come from one address in a minute; more are answered 429, right ones as ever
    #[arg(long, value_name = "N", default_value = "30", value_parser = parse_positive)]
    pub session_guesses: usize,
    /// Origins of web pages that may use sessions here, as `https://example.com`; * lets all be guests
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    pub session_origin: Vec<Origins>,
}

/// A path that requests begin with, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionsAt(String);

impl SessionsAt {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionsAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let segments = text.strip_prefix('/').map(|rest| rest.split('/'));
        let plain = |segment: &str| {
            let is_plain =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
            !segment.is_empty() && ![".", ".."].contains(&segment) && segment.bytes().all(is_plain)
        };
        match segments.is_some_and(|mut segments| segments.all(plain)) {
            true => Ok(SessionsAt(text.to_owned())),
            false => {
                Err("must be a path as /cama/session: letters, digits, '-', '_', '.' and '~' between slashes"
                    .into())
            }
        }
    }
}

impl fmt::Display for SessionsAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Web pages, by their origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Those of everybody.
    All,
    /// Those of this one, as browsers write it.
    One(String),
}

impl FromStr for Origins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Origins::All);
        }
        let parsed = url::Url::parse(text).ok().map(|url| url.origin().ascii_serialization());
        match parsed {
            Some(origin) if origin == text => Ok(Origins::One(origin)),
            Some(origin) if origin != "null" => Err(format!("is not an origin; did you mean {origin}?")),
            Some(_) | None => Err("must be an origin as https://example.com, or *".into()),
        }
    }
}
