//! Where a client agent takes requests, and whom it believes.

use std::{path::PathBuf, str::FromStr};

use ipnet::IpNet;

use super::{Listen, values::parse_network};

/// Where requests come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entrance {
    /// At an address.
    Tcp(Listen),
    /// At a UNIX socket.
    Unix(PathBuf),
}

impl FromStr for Entrance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            None => text.parse().map(Entrance::Tcp).map_err(|hint: String| format!("{hint}; or unix:/PATH")),
            // A relative path would name another file after every change of the working directory.
            Some(path) if path.starts_with('/') && !path.ends_with('/') => Ok(Entrance::Unix(path.into())),
            Some(_) => Err("write unix:/PATH, the whole path of the socket".into()),
        }
    }
}

/// The permissions of a UNIX socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 => Ok(Mode(mode)),
            _ => Err("write the permissions in octal, as 0660".into()),
        }
    }
}

/// A proxy in front that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trusted {
    /// Any in this network.
    Network(IpNet),
    /// Whoever may open the UNIX socket.
    Unix,
}

impl FromStr for Trusted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Trusted::Unix);
        }
        let hint = |hint| format!("{hint}, or 'unix' for the UNIX socket");
        parse_network(text).map(Trusted::Network).map_err(hint)
    }
}
