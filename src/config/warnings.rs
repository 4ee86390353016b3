//! Settings that are right and probably not what was meant.

use std::{collections::BTreeSet, ffi::OsString};

use toml::Table;

use super::{Command, file};

/// What to tell of a command line that was read, and of the environment.
pub fn warnings(args: &[OsString], command: &Command) -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut all: Vec<String> = unknown(names.collect()).collect();
    if let Command::Client(client) = command
        && client.tls_cert.is_none()
        && client.process.nats.nats_cert.is_some()
        && says_tlscert(args)
    {
        all.push(
            "--tlscert is the certificate that NATS is shown, and callers are served without TLS: --tls-cert and --tls-key \
             are for them. If that is meant, write --nats-cert"
                .to_owned(),
        );
    }
    all
}

/// Whether the flag's other name is used, which the nats CLI has.
fn says_tlscert(args: &[OsString]) -> bool {
    let is_flag = |arg: &OsString| arg.to_str().is_some_and(|arg| arg.split('=').next() == Some("--tlscert"));
    let in_file = || {
        let text = std::fs::read_to_string(file::file_named_in(args)?).ok()?;
        let table: Table = text.parse().ok()?;
        let section = table.get("client").and_then(toml::Value::as_table);
        Some(table.contains_key("tlscert") || section.is_some_and(|client| client.contains_key("tlscert")))
    };
    args.iter().any(is_flag) || in_file().unwrap_or(false)
}

/// A word on each variable that is relay's by its name and that nothing reads.
fn unknown(names: BTreeSet<String>) -> impl Iterator<Item = String> {
    let known = variables(&file::command());
    let ours = names.into_iter().filter(|name| name.starts_with("RELAY_"));
    ours.filter(move |name| !known.contains(name) && !OF_NATS.contains(&name.as_str())).map(|name| {
        format!("the variable {name} is none of relay's and is not used; `relay client --help` and the like list them")
    })
}

/// The variables of a command and of all below it.
fn variables(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str().map(str::to_owned));
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}

/// Those that the configurations in `nats/` take, which may be in the same environment.
const OF_NATS: [&str; 15] = [
    "RELAY_NATS_AGENT_BILLING_PASSWORD",
    "RELAY_NATS_AGENT_HELLO_PASSWORD",
    "RELAY_NATS_AGENT_PAYROLL_PASSWORD",
    "RELAY_NATS_BROKER_PASSWORD",
    "RELAY_NATS_CLIENT_HELLO_PASSWORD",
    "RELAY_NATS_CLIENT_PASSWORD",
    "RELAY_NATS_OBSERVER_PASSWORD",
    "RELAY_NATS_OPERATOR_PASSWORD",
    "RELAY_NATS_SOCKET_PASSWORD",
    "RELAY_NATS_STORE_PASSWORD",
    "RELAY_NATS_SYS_PASSWORD",
    "RELAY_NATS_TLS_CA",
    "RELAY_NATS_TLS_CERT",
    "RELAY_NATS_TLS_KEY",
    "RELAY_NATS_TLS_VERIFY",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_nothing_reads_is_told_and_no_other() {
        let names =
            ["RELAY_LISTEM", "RELAY_LISTEN", "RELAY_REALM", "RELAY_TIMEOUT", "NATS_NOTHING", "RELAY_NATS_CA"];
        let told: Vec<_> = unknown(names.map(str::to_owned).into()).collect();
        assert!(
            told.len() == 2 && told[0].contains("RELAY_LISTEM") && told[1].contains("RELAY_NATS_CA"),
            "{told:?}"
        );
    }

    #[test]
    fn the_variables_of_the_configurations_are_known() {
        let mut found = BTreeSet::new();
        for file in ["accounts.conf", "canary.conf", "development.conf", "tls.conf", "websocket.conf"] {
            let path = format!("{}/nats/{file}", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).unwrap();
            let names = text.split(|c: char| !c.is_ascii_uppercase() && c != '_');
            found.extend(names.filter(|name| name.starts_with("RELAY_NATS_")).map(str::to_owned));
        }
        assert_eq!(found, OF_NATS.map(str::to_owned).into());
    }
}
