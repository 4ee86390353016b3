//! The settings file: TOML whose keys are the flags' names.
//!
//! A value of the file becomes the default of its flag, so that everything else (the environment and the
//! command line win, the parsers, the error messages) is the command line's own machinery. Keys at the top
//! are for every role that has the setting; keys in `[client]`, `[upstream]`, `[broker]`, `[socket]` for that role.
//! `[[upstream]]`, more than once, is for an agent of several upstreams: the command line is then read once for
//! each.

use std::{collections::BTreeSet, ffi::OsString};

use anyhow::{Context, bail};
use clap::{Arg, Args, CommandFactory, FromArgMatches};
use toml::{Table, Value};

use super::{Cli, Command, Process};

/// Reads the command line, the environment and the file.
///
/// # Errors
/// All mistakes of the file together. Mistakes on the command line (and `--help`) end the process with
/// clap's own message, as people expect of a command.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> anyhow::Result<Command> {
    let args: Vec<OsString> = args.into_iter().collect();
    let (path, lines) = lines(&args)?;
    let alone = lines.len() == 1;
    let (commands, mut errors) = read(lines, &args);
    // What is wrong for all of them alike is a mistake on the command line, or `--help`.
    let first = errors.first().map(ToString::to_string);
    let alike = commands.is_empty() && errors.iter().all(|error| Some(error.to_string()) == first);
    match errors.pop() {
        Some(error) if alone || alike => error.exit(),
        Some(error) => {
            errors.push(error);
            bail!(Mistakes { path, all: errors.iter().map(told).collect() })
        }
        None => Ok(joined(commands).map_err(|all| Mistakes { path, all })?),
    }
}

/// Reads what [`parse`] read once more: the file may have changed.
///
/// # Errors
/// All mistakes.
pub fn reread(args: &[OsString]) -> Result<Command, Vec<String>> {
    let (_, lines) = lines(args).map_err(|error| match error.downcast::<Mistakes>() {
        Ok(mistakes) => mistakes.all,
        Err(error) => vec![format!("{error:#}")],
    })?;
    let (commands, errors) = read(lines, args);
    if errors.is_empty() { joined(commands) } else { Err(errors.iter().map(told).collect()) }
}

/// Everything that is wrong with a settings file.
#[derive(Debug, thiserror::Error)]
#[error("the settings file {path} is not right:\n  {}", all.join("\n  "))]
struct Mistakes {
    path: String,
    all: Vec<String>,
}

/// Settings of a role from flags alone: neither the environment nor a file has a say.
///
/// # Errors
/// When the flags are not right.
pub fn from_flags(args: &[&str]) -> anyhow::Result<Command> {
    let line = Cli::command().mut_subcommands(|role| role.mut_args(|arg| arg.env(None::<&str>)));
    Ok(read_one(line, args)?)
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

/// The command lines that are to be read, with the file's values under their flags, and the file's name.
fn lines(args: &[OsString]) -> anyhow::Result<(String, Vec<clap::Command>)> {
    let Some(path) = file_named_in(args) else { return Ok((String::new(), vec![command()])) };
    let path = path.to_string_lossy().into_owned();
    let role = args.get(1).and_then(|arg| arg.to_str()).unwrap_or_default();
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("cannot read the settings file {path}"))?;
    match apply(&text, role) {
        Ok(lines) => Ok((path, lines)),
        Err(all) => bail!(Mistakes { path, all }),
    }
}

/// What each of `lines` makes of the arguments, and what is wrong with those that make nothing of them.
fn read(lines: Vec<clap::Command>, args: &[OsString]) -> (Vec<Command>, Vec<clap::Error>) {
    let mut commands = Vec::new();
    let mut errors = Vec::new();
    for line in lines {
        match read_one(line, args) {
            Ok(command) => commands.push(command),
            Err(error) => errors.push(error),
        }
    }
    (commands, errors)
}

fn read_one(
    mut line: clap::Command,
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<Command, clap::Error> {
    let matches = line.try_get_matches_from_mut(args)?;
    let command = Cli::from_arg_matches(&matches)?.command;
    // The file's values are defaults to clap: which settings go together it could only tell of flags.
    let mistake = match &command {
        Command::Upstream(agent) => {
            agent.member.mistake().map(|why| format!("upstream '{}': {why}", agent.member.name))
        }
        _ => None,
    };
    match mistake {
        Some(why) => Err(line.error(clap::error::ErrorKind::ArgumentConflict, why)),
        None => Ok(command),
    }
}

/// Several upstreams are one agent's.
pub(super) fn joined(commands: Vec<Command>) -> Result<Command, Vec<String>> {
    let mut commands = commands.into_iter();
    let mut first = commands.next().ok_or_else(|| vec!["it has no settings".to_owned()])?;
    let mut mistakes = Vec::new();
    if let Command::Upstream(agent) = &mut first {
        let others = commands.filter_map(|command| match command {
            Command::Upstream(other) => Some(other.member),
            _ => None,
        });
        agent.others.extend(others);
        let mut names = BTreeSet::new();
        for member in agent.members().filter(|member| !names.insert(&member.name)) {
            mistakes.push(format!(
                "upstream '{}' is there more than once; a flag or a variable counts for every [[upstream]]",
                member.name
            ));
        }
    }
    if mistakes.is_empty() { Ok(first) } else { Err(mistakes) }
}

pub(super) fn file_named_in(args: &[OsString]) -> Option<OsString> {
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

/// The command line with the file's values under the flags of `role`, once for each `[[upstream]]` when that
/// is the role.
///
/// # Errors
/// Every mistake.
pub(super) fn apply(text: &str, role: &str) -> Result<Vec<clap::Command>, Vec<String>> {
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return Err(vec![error.to_string().trim_end().replace('\n', "\n  ")]),
    };
    let mut mistakes = Vec::new();
    let mut line = command();
    // The keys at the top first: a role's own win.
    for (key, value) in &table {
        if !matches!(value, Value::Table(_)) && tables(value).is_none() {
            set(&mut line, &ROLES, role, key, key, value, &mut mistakes);
        }
    }
    let mut lines = Vec::new();
    for (key, value) in &table {
        match (value, tables(value)) {
            (Value::Table(section), _) if ROLES.contains(&key.as_str()) => {
                for (key_in, value) in section {
                    let place = format!("{key}.{key_in}");
                    set(&mut line, &[key], role, key_in, &place, value, &mut mistakes);
                }
            }
            (_, Some(sections)) if key == SEVERAL => {
                lines = several(&sections, &line, role, &mut mistakes);
            }
            (_, Some(_)) if ROLES.contains(&key.as_str()) => {
                mistakes.push(format!("[[{key}]]: only [[{SEVERAL}]] may be there more than once"));
            }
            (Value::Table(_), _) | (_, Some(_)) => {
                mistakes.push(format!("[{key}]: no such role; there are {}", ROLES.join(", ")));
            }
            (_, None) => {}
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(if lines.is_empty() || role != SEVERAL { vec![line] } else { lines })
}

/// The tables of an array of them.
fn tables(value: &Value) -> Option<Vec<&Table>> {
    value.as_array().filter(|items| !items.is_empty())?.iter().map(Value::as_table).collect()
}

/// A command line for each `[[upstream]]`.
fn several(
    sections: &[&Table],
    line: &clap::Command,
    role: &str,
    mistakes: &mut Vec<String>,
) -> Vec<clap::Command> {
    if sections.len() > MAX_UPSTREAMS {
        mistakes.push(format!("[[{SEVERAL}]]: an agent serves at most {MAX_UPSTREAMS} upstreams"));
        return Vec::new();
    }
    let process = Process::augment_args(clap::Command::new("process"));
    let of_process = |key: &str| process.get_arguments().any(|arg| is_called(arg, key));
    let mut lines = Vec::new();
    for (number, section) in sections.iter().enumerate() {
        let mut line = line.clone();
        let name = section.get("name").and_then(Value::as_str).map(str::to_owned);
        let name = name.unwrap_or_else(|| (number + 1).to_string());
        for (key, value) in *section {
            let place = format!("{SEVERAL} {name}: {key}");
            if of_process(key) {
                mistakes.push(format!("{place}: is the whole process's; write it at the top of the file"));
            } else {
                set(&mut line, &[SEVERAL], role, key, &place, value, mistakes);
            }
        }
        lines.push(line);
    }
    lines
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
        let is_key = |arg: &&Arg| is_called(arg, key) && arg.get_id() != "config";
        let Some(arg) = sub.get_arguments().find(is_key).cloned() else { continue };
        if let (false, Some(why)) = (known, refused(sub, &arg, &values)) {
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

/// Whether a key is a flag's name, or another that it has.
fn is_called(arg: &Arg, key: &str) -> bool {
    arg.get_long() == Some(key) || arg.get_all_aliases().is_some_and(|names| names.contains(&key))
}

/// What the flag's own parser says against the values.
fn refused(role: &clap::Command, arg: &Arg, values: &[String]) -> Option<String> {
    let long = arg.get_long()?;
    let flags = values.iter().map(|value| format!("--{long}={value}"));
    // With the role's other flags, as it may name one of them.
    let probe = role
        .clone()
        .no_binary_name(true)
        .mut_args(|arg| arg.required(false).env(None::<&str>).default_values(Vec::<String>::new()));
    let error = probe.try_get_matches_from(flags).err()?;
    match error.kind() {
        // The companion of `--nats-cert` is judged with everything else, later.
        clap::error::ErrorKind::MissingRequiredArgument => None,
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            Some(line.trim_start_matches("error: ").to_owned())
        }
    }
}

/// What is wrong, in one line.
fn told(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    said.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_owned()
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

const ROLES: [&str; 4] = ["client", "upstream", "broker", "socket"];
/// The role that may have several tables.
const SEVERAL: &str = "upstream";
/// Upstreams of one agent at most.
const MAX_UPSTREAMS: usize = 256;
