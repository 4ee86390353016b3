//! Turns the connection's settings into credentials, with a context of the `nats` CLI under them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::{Nats, Secret};
use crate::bus::Credentials;

impl Nats {
    /// Who we are on NATS, under the connection name `name`.
    ///
    /// # Errors
    /// When the context can't be read or does not exist.
    pub fn credentials(&self, name: String) -> anyhow::Result<Credentials> {
        let context = match &self.context {
            Some(context) => NatsContext::load(context)?,
            None => NatsContext::default(),
        };
        // A flag wins over the context; the server's default does not.
        let servers = match context.url {
            Some(url) if self.server == DEFAULT_SERVER && !url.is_empty() => url,
            _ => self.server.clone(),
        };
        let (servers, in_url) = without_user(&servers);
        let user = self.user.clone().or(in_url.user).or(non_empty(context.user));
        let password = self.password.as_ref().map(Secret::reveal).map(str::to_owned);
        let password = password.or(in_url.password).or(non_empty(context.password));
        let token = self.token.as_ref().map(Secret::reveal).map(str::to_owned);
        let cert = self.nats_cert.clone().or(context.cert.and_then(path));
        let key = self.nats_key.clone().or(context.key.and_then(path));
        Ok(Credentials {
            servers,
            name,
            user: user.map(|user| (user, password.unwrap_or_default())),
            token: token.or(in_url.token).or(non_empty(context.token)),
            creds: self.creds.clone().or(context.creds.and_then(path)),
            nkey: self.nkey.clone().or(context.nkey.and_then(path)),
            client_cert: cert.zip(key),
            ca: self.nats_ca.clone().or(context.ca.and_then(path)),
            inbox: None,
        })
    }
}

/// Who a server's URL says we are: `nats://user:password@host`, or `nats://token@host`.
#[derive(Debug, Default, PartialEq, Eq)]
struct InUrl {
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
}

/// Server URLs as they may be shown in messages, and who the first that says so says we are.
fn without_user(servers: &str) -> (String, InUrl) {
    let mut named = InUrl::default();
    let shown: Vec<String> = servers
        .split(',')
        .map(|url| {
            let url = url.trim();
            if let Ok(port) = url.strip_prefix(':').unwrap_or(url).parse::<u16>() {
                return format!("nats://127.0.0.1:{port}");
            }
            let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
            let Some((who, host)) = rest.rsplit_once('@') else { return url.to_owned() };
            if named == InUrl::default() {
                named = match who.split_once(':') {
                    Some((user, password)) => {
                        InUrl { user: Some(decoded(user)), password: Some(decoded(password)), token: None }
                    }
                    None => InUrl { token: non_empty(Some(decoded(who))), ..InUrl::default() },
                };
            }
            if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
        })
        .collect();
    (shown.join(","), named)
}

/// A part of a URL without its percent-encoding; what is not valid encoding stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let pair =
            if first == b'%' { tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok()) } else { None };
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Server URLs as they may be shown.
pub fn shown(servers: &str) -> String {
    without_user(servers).0
}

/// The fields of `~/.config/nats/context/<name>.json` that concern a connection.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NatsContext {
    url: Option<String>,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    creds: Option<String>,
    nkey: Option<String>,
    cert: Option<String>,
    key: Option<String>,
    ca: Option<String>,
}

impl NatsContext {
    fn load(name: &str) -> anyhow::Result<Self> {
        if name.is_empty() || name.contains(['/', '\\']) {
            bail!("'{name}' is not the name of a context; `nats context ls` lists them");
        }
        let file = directory()?.join(format!("{name}.json"));
        let text = std::fs::read_to_string(&file).with_context(|| {
            format!("cannot read the context '{name}' at {}; `nats context ls` lists them", file.display())
        })?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a context", file.display()))
    }
}

fn directory() -> anyhow::Result<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
    let config =
        config.or_else(home).context("neither XDG_CONFIG_HOME nor HOME is set: no contexts to read")?;
    Ok(config.join("nats").join("context"))
}

fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn path(text: String) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_a_url_says_we_are_is_taken_out_of_it() {
        let named = |user: &str, password: &str| InUrl {
            user: Some(user.into()),
            password: Some(password.into()),
            token: None,
        };
        for (servers, shown, who) in [
            ("nats://h:1", "nats://h:1", InUrl::default()),
            ("h:1,i:2", "h:1,i:2", InUrl::default()),
            ("4222, :4223", "nats://127.0.0.1:4222,nats://127.0.0.1:4223", InUrl::default()),
            ("nats://u:p%40%2f@h:1", "nats://h:1", named("u", "p@/")),
            ("tls://h,wss://u:p@i:2/x", "tls://h,wss://i:2/x", named("u", "p")),
            ("u:p@h", "h", named("u", "p")),
            ("nats://a@b@h", "nats://h", InUrl { token: Some("a@b".into()), ..InUrl::default() }),
        ] {
            assert_eq!(without_user(servers), (shown.to_owned(), who), "{servers}");
        }
    }
}
