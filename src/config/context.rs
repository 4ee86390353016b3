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
        let user = self.user.clone().or(non_empty(context.user));
        let password =
            self.password.as_ref().map(Secret::reveal).map(str::to_owned).or(non_empty(context.password));
        let cert = self.tlscert.clone().or(context.cert.and_then(path));
        let key = self.tlskey.clone().or(context.key.and_then(path));
        Ok(Credentials {
            servers,
            name,
            user: user.map(|user| (user, password.unwrap_or_default())),
            token: self.token.as_ref().map(|t| t.reveal().to_owned()).or(non_empty(context.token)),
            creds: self.creds.clone().or(context.creds.and_then(path)),
            nkey: self.nkey.clone().or(context.nkey.and_then(path)),
            client_cert: cert.zip(key),
            ca: self.tlsca.clone().or(context.ca.and_then(path)),
        })
    }
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
