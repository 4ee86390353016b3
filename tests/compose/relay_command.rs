//! Whether a command line with its environment is one that relay accepts.

use std::{collections::HashMap, process::Command as Program};

use clap::{Parser, error::ErrorKind};
use relay::config::{Cli, Command};

use crate::support::process::relay;

/// The command that relay makes of the arguments and the variables.
pub fn parse(args: &[String], variables: &[(String, String)]) -> Command {
    match try_parse(args, variables) {
        Ok(cli) => cli.command,
        Err(error) => panic!("relay {args:?} with {variables:?}: {error}"),
    }
}

/// It must be accepted, or ask for help.
pub fn check(args: &[String], variables: &[(String, String)]) {
    match try_parse(args, variables) {
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {}
        Ok(_) | Err(_) => drop(parse(args, variables)),
    }
}

/// A health check must ask relay, of an address.
pub fn check_health(words: Option<Vec<String>>) {
    let Some(words) = words else { return };
    assert_eq!(words[0], "relay");
    assert!(matches!(parse(&words[1..], &[]), Command::Health(_)), "{words:?}");
}

/// The variables that a role reads, each with its flag: as `relay <role> --help` tells them.
pub fn variables(role: &str) -> HashMap<String, String> {
    let mut program: Program = relay(&[role, "--help"]);
    let output = program.output().unwrap();
    assert!(output.status.success(), "relay {role} --help");
    let help = String::from_utf8(output.stdout).unwrap();
    let mut flag = String::new();
    let mut variables = HashMap::new();
    for line in help.lines() {
        let option = line.trim_start();
        // The values that a flag may have stand in lines that begin with one hyphen.
        let named = option.split([' ', ',']).find(|word| word.starts_with("--"));
        if let Some(named) = named.filter(|_| option.starts_with('-')) {
            flag = named.to_owned();
        }
        if let Some((_, rest)) = line.split_once("[env: ") {
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            variables.insert(name, flag.clone());
        }
    }
    assert!(variables.len() > 3 || role == "demo", "{help}");
    variables
}

fn try_parse(args: &[String], variables: &[(String, String)]) -> Result<Cli, clap::Error> {
    let mut line = vec!["relay".to_owned()];
    line.extend(args.iter().cloned());
    if !variables.is_empty() {
        let flags = self::variables(&args[0]);
        for (name, value) in variables {
            let flag = flags.get(name).unwrap_or_else(|| panic!("relay {} does not read {name}", args[0]));
            line.extend([flag.clone(), value.clone()]);
        }
    }
    Cli::try_parse_from(line)
}
