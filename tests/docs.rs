//! One truth: what the documentation says of commands, settings, faults, metrics, constants and files is
//! compared with the program.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command as Program,
};

use clap::{CommandFactory, Parser, error::ErrorKind};
use relay::{
    config::{self, Cli, Command, requests::Requests},
    wire::Code,
};

#[path = "docs/text.rs"]
mod text;

use text::{Doc, Table, commands, words};

#[test]
fn every_command_line_is_one_that_relay_takes() {
    let mut lines = 0;
    let mut wrong = Vec::new();
    for doc in docs() {
        for line in doc.blocks().flat_map(|(_, block)| commands(&block)) {
            lines += 1;
            if let Err(error) = Cli::try_parse_from(&line) {
                wrong.push(format!("{}: {}: {error}", doc.name, line.join(" ")));
            }
        }
        // In a sentence a command may be short: required settings can be left out.
        for span in doc.code_spans().filter(|span| is_command(span)) {
            let line = words(&span);
            lines += 1;
            if let Err(error) = Cli::try_parse_from(&line)
                && error.kind() != ErrorKind::MissingRequiredArgument
            {
                wrong.push(format!("{}: `{span}`: {error}", doc.name));
            }
        }
    }
    assert!(lines > 20, "only {lines} lines were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_unit_and_the_images_start_relay_with_what_it_takes() {
    let mut lines: Vec<Vec<String>> = Vec::new();
    let unit = read("docs/relay.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/")).unwrap();
    lines.extend(ROLES.map(|role| words(&start.replace("%i", role))));
    // A command of compose comes after the image's entry point; its settings may be variables.
    let compose = read("docker-compose.yml");
    let lists = compose.lines().filter_map(|line| line.trim().strip_prefix("command: "));
    let own = lists.map(list).filter(|list| subcommands().contains(&list[0]));
    lines.extend(own.map(|rest| ["relay".to_owned()].into_iter().chain(rest).collect()));
    let image = read("Dockerfile");
    let checks = image.lines().chain(compose.lines()).filter_map(|line| line.split_once("\"relay\", "));
    lines.extend(checks.map(|(_, rest)| list(&format!("[\"relay\", {rest}"))));
    assert!(lines.len() >= 8, "{lines:?}");
    for line in lines {
        match Cli::try_parse_from(&line).map_err(|error| error.kind()) {
            Ok(_) | Err(ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelp) => {}
            Err(kind) => panic!("{}: {kind}", line.join(" ")),
        }
    }
}

#[test]
fn every_flag_that_is_mentioned_exists() {
    let mut known: BTreeSet<String> = FOREIGN_FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
    let mut commands: Vec<_> = Cli::command().get_subcommands().cloned().collect();
    while let Some(command) = commands.pop() {
        for arg in command.get_arguments() {
            let names = arg.get_long().into_iter().chain(arg.get_all_aliases().into_iter().flatten());
            known.extend(names.map(|name| format!("--{name}")));
        }
        commands.extend(command.get_subcommands().cloned());
    }
    for doc in docs() {
        for flag in doc.flags() {
            assert!(known.contains(&flag), "{}: {flag}", doc.name);
        }
    }
}

#[test]
fn every_variable_that_is_mentioned_exists() {
    let mut known: BTreeSet<String> =
        help().into_values().flatten().map(|setting| setting.variable).collect();
    // Those that NATS's own configurations take.
    for name in ["accounts.conf", "tls.conf"] {
        known.extend(Doc::new(name, read(&format!("nats/{name}"))).variables());
    }
    let places = ["docker-compose.yml", "Dockerfile", "docs/relay.service", "bin/up"];
    let others = places.map(|name| Doc::new(name, read(name)));
    for doc in docs().into_iter().chain(others) {
        for variable in doc.variables() {
            assert!(known.contains(&variable), "{}: {variable}", doc.name);
        }
    }
}

#[test]
fn the_tables_of_settings_are_true() {
    let help = help();
    for doc in docs() {
        for table in doc.tables().filter(|table| table.has(&["role", "flag", "variable", "default"])) {
            for row in &table.rows {
                let flag = flag_of(&table, row);
                for role in roles_of(&table.cell(row, "role")) {
                    let setting = help[role].iter().find(|setting| setting.flag == flag);
                    let setting = setting.unwrap_or_else(|| panic!("{}: {role} has no {flag}", doc.name));
                    let place = format!("{}: {role} {flag}", doc.name);
                    assert_eq!(code(&table.cell(row, "variable")), setting.variable, "{place}");
                    let default = table.cell(row, "default");
                    match &setting.default {
                        Some(true_default) => assert_eq!(code(&default), *true_default, "{place}"),
                        None if setting.required => assert_eq!(default, "required", "{place}"),
                        None => assert!(["", "by role"].contains(&default.as_str()), "{place}: {default}"),
                    }
                }
            }
        }
    }
}

#[test]
fn every_setting_is_in_the_table_of_the_operators() {
    let doc = doc("docs/OPERATING.md");
    let mut listed = BTreeSet::new();
    for table in doc.tables().filter(|table| table.has(&["role", "flag", "variable", "default"])) {
        for row in &table.rows {
            listed.extend(
                roles_of(&table.cell(row, "role")).into_iter().map(|role| (role, flag_of(&table, row))),
            );
        }
    }
    let connection: BTreeSet<String> = help()["broker"].iter().map(|setting| setting.flag.clone()).collect();
    for (command, settings) in help() {
        for Setting { flag, .. } in settings {
            // `relay ps` and the like have the settings of a connection too; they are told once.
            let told = ["ps", "routes"].contains(&command) && connection.contains(&flag);
            assert!(told || listed.contains(&(command, flag.clone())), "relay {command} {flag}");
        }
    }
}

#[test]
fn the_settings_file_that_is_shown_is_read() {
    let mut files = 0;
    for doc in docs() {
        for (language, block) in doc.blocks().filter(|(language, _)| language == "toml") {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(&file, &block).unwrap();
            // A socket's requests are in a file of their own.
            if block.starts_with("[request.") {
                Requests::load(file.path()).unwrap_or_else(|mistakes| panic!("{}: {mistakes}", doc.name));
                continue;
            }
            for role in ["client", "upstream", "broker"] {
                let line = ["relay", role, "--config", file.path().to_str().unwrap()];
                let command = config::parse(line.map(Into::into))
                    .unwrap_or_else(|error| panic!("{language}: {error:#}"));
                assert!(matches!(command, Command::Client(_) | Command::Upstream(_) | Command::Broker(_)));
            }
            files += 1;
        }
    }
    assert!(files > 0);
}

#[test]
fn every_fault_is_in_every_table_of_faults_as_it_is() {
    for name in ["README.md", "docs/OPERATING.md", "docs/PROTOCOL.md"] {
        let doc = doc(name);
        let table = doc.tables().find(|table| table.has(&["code", "status"])).expect(name);
        let listed: Vec<String> = table.rows.iter().map(|row| code(&table.cell(row, "code"))).collect();
        let all: Vec<String> = Code::ALL.iter().map(|code| code.row().text.to_owned()).collect();
        assert_eq!(listed, all, "{name}, in the order of the code");
        for (row, code_of) in table.rows.iter().zip(Code::ALL) {
            let truth = code_of.row();
            assert_eq!(table.cell(row, "status"), truth.status.to_string(), "{name}: {code_of}");
            let optional = [
                ("meaning", truth.meaning.to_owned()),
                ("`maybe_seen`", if truth.maybe_seen { "yes" } else { "no" }.to_owned()),
                ("`Retry-After`", truth.retry_after.map(|s| format!("{s} s")).unwrap_or_default()),
                ("`Proxy-Status`", format!("`{}`", truth.proxy_error)),
            ];
            for (column, truth) in optional.into_iter().filter(|(column, _)| table.has(&[column])) {
                assert_eq!(table.cell(row, column), truth, "{name}: {code_of}");
            }
        }
    }
}

#[test]
fn every_metric_is_in_the_table_and_no_other() {
    let doc = doc("docs/OPERATING.md");
    let table = doc.tables().find(|table| table.has(&["metric"])).unwrap();
    let listed: BTreeSet<String> = table.rows.iter().map(|row| code(&table.cell(row, "metric"))).collect();
    let source = read("src/telemetry.rs");
    let registered = source.lines().filter_map(|line| line.trim().strip_prefix("registry.register(\""));
    let registered: BTreeSet<&str> = registered.filter_map(|rest| rest.split('"').next()).collect();
    let bare = |name: &String| {
        let name = name.strip_prefix("relay_").expect("the prefix");
        name.trim_end_matches("_total").trim_end_matches("_info").to_owned()
    };
    assert_eq!(
        listed.iter().map(bare).collect::<BTreeSet<_>>(),
        registered.into_iter().map(str::to_owned).collect()
    );
    // What is mentioned elsewhere is one of them.
    for doc in docs() {
        for name in doc.code_spans().flat_map(|span| words(&span)).filter(|word| word.starts_with("relay_")) {
            let name = name.trim_end_matches("[5m])").to_owned();
            assert!(listed.contains(&name), "{}: {name}", doc.name);
        }
    }
}

#[test]
fn the_constants_of_the_protocol_are_those_of_the_code() {
    let doc = doc("docs/PROTOCOL.md");
    let table = doc.tables().find(|table| table.has(&["name", "value"])).unwrap();
    let sources: Vec<String> =
        files("src", "rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    for row in &table.rows {
        let name = code(&table.cell(row, "name"));
        let start = format!("const {name}: ");
        let found: Vec<String> = sources
            .iter()
            .flat_map(|source| source.lines())
            .filter_map(|line| line.split_once(&start))
            .filter_map(|(_, rest)| rest.split_once(" = "))
            .map(|(_, value)| value.trim_end_matches(';').replace("Duration::from_", "").replace('_', ""))
            .collect();
        let told = match table.cell(row, "value").split_once(' ') {
            Some((number, "s")) => format!("secs({number})"),
            Some((number, "ms")) => format!("millis({number})"),
            Some(_) | None => table.cell(row, "value"),
        };
        assert_eq!(found, [told], "{name}");
    }
}

#[test]
fn every_file_that_is_linked_or_named_is_there() {
    for doc in docs() {
        let folder = root().join(&doc.name).parent().unwrap().to_owned();
        for target in doc.links() {
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if path.is_empty() { root().join(&doc.name) } else { folder.join(path) };
            assert!(file.exists(), "{}: {target}", doc.name);
            if !anchor.is_empty() {
                let headings = Doc::new(path, fs::read_to_string(&file).unwrap()).anchors();
                assert!(headings.contains(anchor), "{}: {target}", doc.name);
            }
        }
        for span in doc.code_spans() {
            let path = words(&span).into_iter().next().unwrap_or_default();
            let is_path =
                FOLDERS.iter().any(|folder| path.starts_with(folder)) && !path.contains(['<', '*', '{']);
            assert!(!is_path || root().join(&path).exists(), "{}: `{span}`", doc.name);
        }
    }
}

#[test]
fn nothing_points_at_the_machine_it_was_written_on() {
    let home = std::env::var("HOME").unwrap_or_default();
    for doc in docs() {
        for place in ["work", "root", "tmp", "home"].map(|folder| format!("/{folder}/")).iter().chain([&home])
        {
            assert!(place.len() < 3 || !doc.text.contains(place), "{}: {place}", doc.name);
        }
    }
}

/// Flags of other programs that the documentation shows.
const FOREIGN_FLAGS: [&str; 5] = ["--inbox-prefix", "--translate", "--scale", "--now", "--fuzz"];
const ROLES: [&str; 4] = ["client", "upstream", "broker", "socket"];
const FOLDERS: [&str; 7] = ["docs/", "nats/", "src/", "bin/", "tests/", "benches/", ".ci/"];

/// One flag as `--help` tells of it.
struct Setting {
    flag: String,
    variable: String,
    default: Option<String>,
    required: bool,
}

/// Every flag of every command. The variables are the running program's: they are not part of the
/// declaration, but added to it.
fn help() -> BTreeMap<&'static str, Vec<Setting>> {
    let mut all = BTreeMap::new();
    for command in ["client", "upstream", "broker", "socket", "up", "ps", "routes", "decode", "demo"] {
        let output = Program::new(env!("CARGO_BIN_EXE_relay")).args([command, "--help"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (_, options) = text.split_once("Options:").unwrap();
        let text = options.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = format!(" {text}");
        let cli = Cli::command();
        let declared = cli.find_subcommand(command).unwrap().get_arguments();
        let mut settings = Vec::new();
        for arg in declared.filter(|arg| arg.get_id() != "help") {
            let Some(long) = arg.get_long() else { continue };
            let flag = format!("--{long}");
            let about = text.split(&format!(" {flag} ")).nth(1).unwrap_or_else(|| panic!("{command} {flag}"));
            // Up to the next flag.
            let about = about.split(" --").next().unwrap();
            let variable = about.split("[env: ").nth(1).and_then(|rest| rest.split(['=', ']']).next());
            let default = arg.get_default_values().first().and_then(|value| value.to_str());
            settings.push(Setting {
                flag,
                variable: variable.unwrap_or_default().to_owned(),
                default: default.filter(|_| arg.get_action().takes_values()).map(str::to_owned),
                required: arg.is_required_set(),
            });
        }
        all.insert(command, settings);
    }
    all
}

fn subcommands() -> BTreeSet<String> {
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// Whether a span is a command of ours and not the beginning of a sentence about relay.
fn is_command(span: &str) -> bool {
    let second = span.strip_prefix("relay ").and_then(|rest| rest.split(' ').next());
    second.is_some_and(|name| subcommands().contains(name)) && !span.contains('…')
}

fn roles_of(cell: &str) -> Vec<&'static str> {
    match cell {
        "all" => ROLES.to_vec(),
        cell => {
            let known = ["client", "upstream", "broker", "socket", "up", "ps", "routes", "decode", "demo"];
            vec![known.into_iter().find(|name| *name == cell).unwrap_or_else(|| panic!("role '{cell}'"))]
        }
    }
}

/// The long form in a cell that may have the short one as well.
fn flag_of(table: &Table, row: &[String]) -> String {
    code(table.cell(row, "flag").split(',').next().unwrap_or_default())
}

fn code(cell: &str) -> String {
    cell.trim().trim_matches('`').to_owned()
}

/// `["a", "b"]`, as compose and Dockerfiles have it.
fn list(text: &str) -> Vec<String> {
    let end = text.find(']').unwrap();
    text[..end]
        .trim_start_matches('[')
        .split(',')
        .map(|item| item.trim().trim_matches('"').to_owned())
        .collect()
}

fn docs() -> Vec<Doc> {
    let mut names = vec![PathBuf::from("README.md"), PathBuf::from("CHANGELOG.md")];
    names.extend(files("docs", "md").iter().map(|path| path.strip_prefix(root()).unwrap().to_owned()));
    names.iter().map(|name| doc(name.to_str().unwrap())).collect()
}

fn doc(name: &str) -> Doc {
    Doc::new(name, read(name))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
