//! The settings of the socket that speaks lines of JSON. What its requests are is in a file of its own, see
//! [`super::requests`].

use std::{path::PathBuf, str::FromStr, time::Duration};

use bytesize::ByteSize;
use clap::Args;

use super::{
    Listen, Mode, Process, Switch,
    values::{parse_positive, parse_time},
};

/// The socket.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Lines and requests")]
pub struct Socket {
    /// File with the requests that lines may name, in TOML; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub requests: PathBuf,
    /// Say whether the file with the requests is right, and exit
    #[arg(long)]
    pub check: bool,
    /// Address to take lines on; a bare port is a port on 127.0.0.1 [default: 9876, when no UNIX socket is named]
    #[arg(long, value_name = "ADDR")]
    pub tcp: Option<Listen>,
    /// UNIX socket to take lines on, the whole path
    #[arg(long, value_name = "PATH", value_parser = parse_place)]
    pub unix: Option<PathBuf>,
    /// Permissions of the UNIX socket
    #[arg(long, value_name = "MODE", default_value = "0660")]
    pub unix_mode: Mode,
    /// Owner of the UNIX socket, as USER, USER:GROUP or :GROUP, by name or number [default: whoever runs it]
    #[arg(long, value_name = "USER[:GROUP]")]
    pub unix_owner: Option<Owner>,
    /// Size of a line at most; a longer one is answered with an error
    #[arg(long, value_name = "SIZE", default_value = "64KiB", help_heading = "Limits")]
    pub max_line: ByteSize,
    /// Size of a response's body at most, where its request says nothing else
    #[arg(long, value_name = "SIZE", default_value = "8MiB", help_heading = "Limits")]
    pub max_response: ByteSize,
    /// Requests in flight at most; more are answered with an error
    #[arg(long, value_name = "N", default_value = "10000", value_parser = parse_positive, help_heading = "Limits")]
    pub max_in_flight: usize,
    /// Requests in flight of one connection at most; more are answered with an error
    #[arg(long, value_name = "N", default_value = "1000", value_parser = parse_positive, help_heading = "Limits")]
    pub max_in_flight_per_connection: usize,
    /// Connections at most; one more is told so and closed
    #[arg(long, value_name = "N", default_value = "10000", value_parser = parse_positive, help_heading = "Limits")]
    pub max_connections: usize,
    /// Bytes of responses held in memory at most; what does not fit is answered with an error
    #[arg(long, value_name = "SIZE", default_value = "256MiB", help_heading = "Limits")]
    pub max_buffered: ByteSize,
    /// How long a connection may be silent while nothing is in flight on it
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_time, help_heading = "Times")]
    pub idle_timeout: Duration,
    /// How long a connection may take nothing of what is written to it
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time, help_heading = "Times")]
    pub slow_timeout: Duration,
    /// How long a response over NATS may take before a broker is asked to watch the request
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = humantime::parse_duration, help_heading = "Times")]
    pub patience: Duration,
    /// Whether each request is logged
    #[arg(long, value_name = "on|off", default_value = "on", help_heading = "Process and log")]
    pub access_log: Switch,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub process: Process,
}

/// Whose a UNIX socket is to be. Names are looked up when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user; without one it stays as it is.
    pub user: Option<String>,
    /// The group; without one it stays as it is.
    pub group: Option<String>,
}

impl FromStr for Owner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let is_name = |name: &str| {
            !name.is_empty() && !name.contains([':', '/']) && !name.contains(char::is_whitespace)
        };
        let fits = match group {
            Some(group) => is_name(group) && (user.is_empty() || is_name(user)),
            None => is_name(user),
        };
        if !fits {
            return Err("write USER, USER:GROUP or :GROUP".into());
        }
        let user = (!user.is_empty()).then(|| user.to_owned());
        Ok(Owner { user, group: group.map(str::to_owned) })
    }
}

/// The path of a UNIX socket.
fn parse_place(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix:").unwrap_or(text);
    // A relative path would name another file after every change of the working directory.
    match path.starts_with('/') && !path.ends_with('/') {
        true => Ok(path.into()),
        false => Err("write the whole path of the socket".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_a_user_a_group_or_both() {
        let read = |text: &str| text.parse::<Owner>().map(|owner| (owner.user, owner.group));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read("www"), Ok((some("www"), None)));
        assert_eq!(read("www:1000"), Ok((some("www"), some("1000"))));
        assert_eq!(read(":staff"), Ok((None, some("staff"))));
        for bad in ["", ":", "www:", "a:b:c", "a b"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
