//! What every long-running process has: its connection to NATS, its admin port, its log.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::Args;

use super::{Admin, LogFormat};
use crate::wire::Name;

/// What every long-running process has.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Process and log")]
pub struct Process {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub nats: Nats,
    /// First token of this process's private subjects; give each set of credentials its own [default: by role]
    #[arg(help_heading = "Process and log", long, value_name = "NAME")]
    pub realm: Option<Name>,
    /// Address for /healthz, /readyz and /metrics, or 'off' [default: 9180 client, 9181 broker, 9182 upstream,
    /// 9183 socket on 127.0.0.1, or a free port when that is taken]
    #[arg(help_heading = "Process and log", long, value_name = "ADDR|off")]
    pub admin: Option<Admin>,
    /// Host that others find the admin address at, for /sd [default: its IP, or the host's name when that is every
    /// address]
    #[arg(help_heading = "Process and log", long, value_name = "HOST")]
    pub admin_host: Option<String>,
    /// How long requests in flight may take to finish at shutdown
    #[arg(help_heading = "Process and log", long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub grace: Duration,
    /// How log lines look
    #[arg(help_heading = "Process and log", long, value_name = "human|json", default_value = "human")]
    pub log_format: LogFormat,
    /// What is logged, as in RUST_LOG
    #[arg(
        help_heading = "Process and log",
        long,
        value_name = "FILTER",
        env = "RUST_LOG",
        default_value = "info,async_nats=warn"
    )]
    pub log: String,
    /// File with settings, in TOML
    #[arg(help_heading = "Process and log", long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Process {
    /// The flags of what differs in `other`.
    pub fn differences(&self, other: &Process) -> Vec<&'static str> {
        // Every field by name, so that a new one is missed here.
        let Process { nats, realm, admin, admin_host, grace, log_format, log, config } = self;
        let Nats {
            server,
            user,
            password,
            token,
            creds,
            nkey,
            nats_cert,
            nats_key,
            nats_ca,
            context,
            prefix,
        } = nats;
        let differ = [
            ("--server", *server != other.nats.server),
            ("--user", *user != other.nats.user),
            ("--password", *password != other.nats.password),
            ("--token", *token != other.nats.token),
            ("--creds", *creds != other.nats.creds),
            ("--nkey", *nkey != other.nats.nkey),
            ("--nats-cert", *nats_cert != other.nats.nats_cert),
            ("--nats-key", *nats_key != other.nats.nats_key),
            ("--nats-ca", *nats_ca != other.nats.nats_ca),
            ("--context", *context != other.nats.context),
            ("--prefix", *prefix != other.nats.prefix),
            ("--realm", *realm != other.realm),
            ("--admin", *admin != other.admin),
            ("--admin-host", *admin_host != other.admin_host),
            ("--grace", *grace != other.grace),
            ("--log-format", *log_format != other.log_format),
            ("--log", *log != other.log),
            ("--config", *config != other.config),
        ];
        differ.into_iter().filter(|(_, differs)| *differs).map(|(flag, _)| flag).collect()
    }
}

/// The connection to NATS, with the names the `nats` CLI uses.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection to NATS")]
pub struct Nats {
    /// NATS servers, comma-separated: nats://, tls://, ws:// or wss://; a bare port is one on 127.0.0.1
    #[arg(long, short = 's', value_name = "URL", env = "NATS_URL", default_value = "nats://127.0.0.1:4222")]
    pub server: String,
    /// User name
    #[arg(long, value_name = "USER", env = "NATS_USER")]
    pub user: Option<String>,
    /// Password
    #[arg(long, value_name = "PASSWORD", env = "NATS_PASSWORD", hide_env_values = true)]
    pub password: Option<Secret>,
    /// Token
    #[arg(long, value_name = "TOKEN", env = "NATS_TOKEN", hide_env_values = true)]
    pub token: Option<Secret>,
    /// File with credentials (JWT and seed)
    #[arg(long, value_name = "FILE", env = "NATS_CREDS")]
    pub creds: Option<PathBuf>,
    /// File with an NKey seed
    #[arg(long, value_name = "FILE", env = "NATS_NKEY")]
    pub nkey: Option<PathBuf>,
    /// Certificate that NATS is shown, in PEM
    #[arg(long, visible_alias = "tlscert", value_name = "FILE", env = "NATS_CERT", requires = "nats_key")]
    pub nats_cert: Option<PathBuf>,
    /// Key of that certificate, in PEM
    #[arg(long, visible_alias = "tlskey", value_name = "FILE", env = "NATS_KEY", requires = "nats_cert")]
    pub nats_key: Option<PathBuf>,
    /// Certificate authority of the NATS servers, in PEM
    #[arg(long, visible_alias = "tlsca", value_name = "FILE", env = "NATS_CA")]
    pub nats_ca: Option<PathBuf>,
    /// Context of the `nats` CLI to take the connection's settings from
    #[arg(long, value_name = "NAME", env = "NATS_CONTEXT")]
    pub context: Option<String>,
    /// Prefix of all subjects, for several relays in one NATS account
    #[arg(long, value_name = "NAME", default_value = "relay")]
    pub prefix: Name,
}

/// Who asks brokers and all processes on behalf of an operator.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection to NATS")]
pub struct Operator {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub nats: Nats,
    /// First token of the subjects on which answers come; NATS permissions name it
    #[arg(long, value_name = "NAME", env = "RELAY_REALM", default_value = "operator")]
    pub realm: Name,
}

/// A text that never shows in logs or error messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Secret(text.to_owned()))
    }
}
