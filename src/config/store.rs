//! The broker's settings of where jobs and sessions are stored.

use std::path::PathBuf;

use clap::Args;

use super::{Nats, Secret};
use crate::{bus::Credentials, wire::subjects};

/// Where jobs and sessions are stored: JetStream of an account where nothing but brokers is, so that no other process
/// can ask it for anything. Without any of these it is the account of the main connection.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Where jobs and sessions are stored")]
pub struct StoreAccess {
    /// NATS servers that store jobs and sessions in JetStream [default: those of the main connection]
    #[arg(long, value_name = "URL")]
    pub store_server: Option<String>,
    /// User name there
    #[arg(long, value_name = "USER")]
    pub store_user: Option<String>,
    /// Password there
    #[arg(long, value_name = "PASSWORD", hide_env_values = true)]
    pub store_password: Option<Secret>,
    /// Token there
    #[arg(long, value_name = "TOKEN", hide_env_values = true)]
    pub store_token: Option<Secret>,
    /// File with credentials (JWT and seed) for it
    #[arg(long, value_name = "FILE")]
    pub store_creds: Option<PathBuf>,
    /// File with an NKey seed for it
    #[arg(long, value_name = "FILE")]
    pub store_nkey: Option<PathBuf>,
}

impl StoreAccess {
    /// Who the broker is there, under the connection name `name`; `None` when that is the main connection. TLS is as in
    /// `main`.
    ///
    /// # Errors
    /// When the main connection's context can't be read.
    pub fn credentials(&self, main: &Nats, name: String) -> anyhow::Result<Option<Credentials>> {
        let StoreAccess { store_server, store_user, store_password, store_token, store_creds, store_nkey } =
            self;
        let own = Nats {
            server: store_server.clone().unwrap_or_else(|| main.server.clone()),
            user: store_user.clone(),
            password: store_password.clone(),
            token: store_token.clone(),
            creds: store_creds.clone(),
            nkey: store_nkey.clone(),
            ..main.clone()
        };
        let secrets = [store_password, store_token].into_iter().any(Option::is_some);
        let files = [store_creds, store_nkey].into_iter().any(Option::is_some);
        if !secrets && !files && store_server.is_none() && store_user.is_none() {
            return Ok(None);
        }
        let credentials = own.credentials(name)?;
        Ok(Some(Credentials { inbox: Some(subjects::inbox_of(&realm())), ..credentials }))
    }
}

/// What inboxes begin with on the connection to JetStream.
fn realm() -> crate::wire::Name {
    "store".parse().expect("it is a name")
}
