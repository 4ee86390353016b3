//! The settings file: TOML whose keys are the flags' names.
//!
//! A value of the file becomes the default of its flag, so that everything else (the environment and the
//! command line win, the parsers, the error messages) is the command line's own machinery. Keys at the top
//! are for every role that has the setting; keys in `[client]`, `[upstream]`, `[broker]` for that role.

use std::ffi::OsString;

use anyhow::{Context, bail};
use clap::{Arg, CommandFactory, FromArgMatches};
use toml::{Table, Value};

use super::{Cli, Command};

/// Reads the command line, the environment and the file.
///
/// # Errors
/// All mistakes of the file together. Mistakes on the command line (and `--help`) end the process with
/// clap's own message, as people expect of a command.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> anyhow::Result<Command> {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut command = command();
    if let Some(path) = file_named_in(&args) {
        let role = args.get(1).and_then(|arg| arg.to_str()).unwrap_or_default().to_owned();
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read the settings file {}", path.to_string_lossy()))?;
        let mistakes = apply(&text, &role, &mut command);
        if !mistakes.is_empty() {
            bail!("the settings file {} is not right:\n  {}", path.to_string_lossy(), mistakes.join("\n  "));
        }
    }
    let matches = command.try_get_matches_from(args).unwrap_or_else(|error| error.exit());
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    Ok(cli.command)
}

/// Settings of a role from flags alone: neither the environment nor a file has a say.
///
/// # Errors
/// When the flags are not right.
pub fn from_flags(args: &[&str]) -> anyhow::Result<Command> {
    let command = Cli::command().mut_subcommands(|role| role.mut_args(|arg| arg.env(None::<&str>)));
    let matches = command.try_get_matches_from(args)?;
    Ok(Cli::from_arg_matches(&matches)?.command)
}

/// The command line with a `RELAY_<FLAG>` variable for each flag that has none of its own.
pub(super) fn command() -> clap::Command {
    Cli::command().mut_subcommands(|role| {
        role.mut_args(|arg| match arg.get_long() {
            Some(long) if arg.get_env().is_none() && arg.get_action().takes_values() => {
                let variable = format!("RELAY_{}", long.replace('-', "_").to_uppercase());
                arg.env(variable)
            }
            _ => arg,
        })
    })
}

fn file_named_in(args: &[OsString]) -> Option<OsString> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--config") => return args.next().cloned(),
            Some(text) => match text.strip_prefix("--config=") {
                Some(path) => return Some(path.into()),
                None => continue,
            },
            None => continue,
        }
    }
    std::env::var_os("RELAY_CONFIG").filter(|path| !path.is_empty())
}

/// Puts the file's values under the flags of `role`; returns every mistake.
pub(super) fn apply(text: &str, role: &str, command: &mut clap::Command) -> Vec<String> {
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return vec![error.to_string().trim_end().replace('\n', "\n  ")],
    };
    let mut mistakes = Vec::new();
    for (key, value) in &table {
        match value {
            Value::Table(section) if ROLES.contains(&key.as_str()) => {
                for (key_in, value) in section {
                    let place = format!("{key}.{key_in}");
                    set(command, &[key], role, key_in, &place, value, &mut mistakes);
                }
            }
            Value::Table(_) => {
                mistakes.push(format!("[{key}]: no such role; there are {}", ROLES.join(", ")))
            }
            value => set(command, &ROLES, role, key, key, value, &mut mistakes),
        }
    }
    mistakes
}

/// Sets `key` for those of `roles` that have it; only the values of the role that runs take effect, but
/// all are checked.
fn set<R: AsRef<str>>(
    command: &mut clap::Command,
    roles: &[R],
    running: &str,
    key: &str,
    place: &str,
    value: &Value,
    mistakes: &mut Vec<String>,
) {
    let Some(values) = texts(value) else {
        mistakes.push(format!("{place}: must be a text, a number or a list of texts"));
        return;
    };
    let mut known = false;
    for role in roles.iter().map(AsRef::as_ref) {
        let Some(sub) = command.find_subcommand(role) else { continue };
        let is_key = |arg: &&Arg| arg.get_long() == Some(key) && arg.get_id() != "config";
        let Some(arg) = sub.get_arguments().find(is_key).cloned() else { continue };
        if let (false, Some(why)) = (known, refused(&arg, &values)) {
            mistakes.push(format!("{place}: {why}"));
        }
        known = true;
        if role == running {
            let id = arg.get_id().clone();
            let values = values.clone();
            let owned = std::mem::take(command);
            *command = owned.mut_subcommand(role, |sub| {
                sub.mut_arg(id, |arg| arg.required(false).default_values(values))
            });
        }
    }
    if !known {
        mistakes.push(format!("{place}: no such setting"));
    }
}

/// What the flag's own parser says against the values.
fn refused(arg: &Arg, values: &[String]) -> Option<String> {
    let long = arg.get_long()?;
    let flags = values.iter().map(|value| format!("--{long}={value}"));
    let alone = arg.clone().required(false).env(None::<&str>);
    let probe = clap::Command::new("relay").no_binary_name(true).arg(alone);
    let error = probe.try_get_matches_from(flags).err()?;
    match error.kind() {
        // The companion of `--tlscert` is judged with everything else, later.
        clap::error::ErrorKind::MissingRequiredArgument => None,
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            Some(line.trim_start_matches("error: ").to_owned())
        }
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Boolean(on) => Some(vec![if *on { "on" } else { "off" }.to_owned()]),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

const ROLES: [&str; 3] = ["client", "upstream", "broker"];
