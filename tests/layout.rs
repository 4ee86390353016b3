//! The shape of the source, read from the source: who imports whom, who may name what, how long a file is.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// `panics` is what ends a process, `sync` its locks and `output` what writes its log, for all. `bin` → `role` → {`front`, `origin`} → `store` → `stream` → {`bus`, `proto`, `cache`} → `wire`; `framing` is what `front` and
/// `origin` have in common of HTTP/1; `config` and `telemetry` are leaves that roles and fronts share. `config` names `bus` for one thing: it turns what the flags say into
/// `bus::Credentials`, so that the bus need not know of flags.
const MAY_IMPORT: [(&str, &[&str]); 16] = [
    ("panics", &[]),
    ("sync", &[]),
    ("output", &[]),
    ("wire", &[]),
    ("framing", &[]),
    ("proto", &["wire"]),
    ("cache", &["wire"]),
    ("bus", &["wire"]),
    ("descriptors", &["telemetry"]),
    ("origin", &["wire", "framing", "config", "descriptors"]),
    ("stream", &["wire", "proto", "bus"]),
    ("store", &["wire", "proto", "bus", "stream"]),
    (
        "front",
        &[
            "wire",
            "framing",
            "proto",
            "cache",
            "bus",
            "stream",
            "store",
            "telemetry",
            "config",
            "descriptors",
        ],
    ),
    ("config", &["wire", "cache", "bus"]),
    ("telemetry", &["wire", "config"]),
    (
        "role",
        &[
            "wire",
            "proto",
            "cache",
            "bus",
            "origin",
            "stream",
            "store",
            "front",
            "config",
            "telemetry",
            "descriptors",
        ],
    ),
];

/// What every layer may import.
const FOR_ALL: [&str; 3] = ["panics", "sync", "output"];

#[test]
fn imports_run_one_way() {
    let mut wrong = Vec::new();
    for file in sources("src") {
        let module = file.module();
        if module == "lib" {
            continue;
        }
        let row = MAY_IMPORT.iter().find(|(name, _)| *name == module);
        let (_, allowed) = row.unwrap_or_else(|| panic!("{}: which layer is it?", file.path.display()));
        for other in file.imports() {
            if other != module && !allowed.contains(&other.as_str()) && !FOR_ALL.contains(&other.as_str()) {
                wrong.push(format!("{} imports {other}", file.path.display()));
            }
        }
        if file.code.contains("super::super") {
            wrong.push(format!("{} climbs with super::super; write crate::", file.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_library_has_the_layers_that_are_checked_and_no_others() {
    let declared: BTreeSet<String> = sources("src")
        .iter()
        .filter(|file| file.module() == "lib")
        .flat_map(|file| {
            file.code.lines().filter_map(|line| line.strip_prefix("pub mod ")).map(token).collect::<Vec<_>>()
        })
        .collect();
    let checked = MAY_IMPORT.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(declared, checked);
}

#[test]
fn only_the_bus_knows_the_nats_client() {
    let naming = naming(&["async_nats"]);
    let others: Vec<_> = naming.iter().filter(|file| !file.starts_with("src/bus")).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn only_the_origin_calls_out_for_a_relayed_request() {
    // hyper's client is used by nobody; who reads messages by hand is the origin's own client, and the listener.
    assert_eq!(naming(&["hyper", "client::conn"]), [""; 0]);
    let by_hand = ["src/framing/body.rs", "src/front/http1/head.rs", "src/origin/http1/head.rs"];
    assert_eq!(naming(&["httparse"]), by_hand);
    assert_eq!(naming(&["h2::", "client"]), ["src/origin/http2.rs"]);
    // The command line's own questions to an admin address are the one other use of HTTP outwards.
    assert_eq!(naming(&["reqwest"]), ["src/role/tools.rs"]);
}

/// Whoever finds a lock poisoned has nothing to decide: docs/decisions/16.
#[test]
fn only_one_file_knows_of_poisoned_locks() {
    let mut wrong = Vec::new();
    for file in sources("src").into_iter().filter(|file| file.name() != "src/sync.rs") {
        let std_sync = file.code.split("use std::").skip(1).filter_map(|rest| rest.split(';').next());
        let own = std_sync
            .filter(|list| list.contains("sync"))
            .any(|list| list.contains("Mutex") || list.contains("RwLock"));
        if own || file.code.contains("std::sync::Mutex") || file.code.contains("std::sync::RwLock") {
            wrong.push(format!("{} has a lock of std's; use crate::sync", file.name()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_one_file_starts_other_programs() {
    assert_eq!(naming(&["process::", "Stdio"]), ["src/role/up.rs"]);
}

/// Texts that begin like a subject: a kind's token between dots, or `relay.`.
#[test]
fn only_one_file_writes_subjects() {
    let kinds = [
        "req", "ack", "resp", "body", "hold", "lease", "probe", "here", "gone", "who", "cache", "session",
        "meet",
    ];
    let mut wrong = Vec::new();
    for file in sources("src").into_iter().filter(|file| file.name() != "src/wire/subjects.rs") {
        for text in &file.texts {
            let is_subject =
                |kind: &&str| text.contains(&format!(".{kind}.")) || text.ends_with(&format!(".{kind}"));
            if text.starts_with("relay.") || text.starts_with("{prefix}.") || kinds.iter().any(is_subject) {
                wrong.push(format!("{}: {text:?}", file.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn decisions_do_not_look_at_a_clock_and_do_no_io() {
    let mut wrong = Vec::new();
    for file in sources("src").into_iter().filter(|file| file.module() == "proto" || file.module() == "wire")
    {
        for forbidden in ["Instant::now", "SystemTime", "tokio", "TcpStream", "std::fs", "async fn", ".await"]
        {
            if file.code.contains(forbidden) {
                wrong.push(format!("{} has {forbidden}", file.path.display()));
            }
        }
    }
    // HTTP's dates are clock time, so a cache gets it as an argument.
    for file in sources("src").into_iter().filter(|file| file.module() == "cache") {
        for forbidden in ["::now()", "tokio", "TcpStream", "std::fs", "async fn", ".await"] {
            if file.code.contains(forbidden) {
                wrong.push(format!("{} has {forbidden}", file.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_is_too_long_to_read_at_once() {
    let mut long = Vec::new();
    for folder in ["src", "bin", "tests", "benches"] {
        for path in rust_files(&root().join(folder)) {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            if lines > MAX_LINES {
                long.push(format!("{}: {lines} lines", path.display()));
            }
        }
    }
    assert!(long.is_empty(), "over {MAX_LINES}: {long:#?}");
}

#[test]
fn every_file_says_first_what_it_owns() {
    let mut silent = Vec::new();
    for folder in ["src", "bin", "tests", "benches"] {
        for path in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            // A module's unit tests in a file of their own need no introduction.
            let is_tests = path.file_name().is_some_and(|name| name == "tests.rs");
            if !is_tests && !text.starts_with("//! ") {
                silent.push(path.display().to_string());
            }
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
}

const MAX_LINES: usize = 600;

/// One source file, without comments and without its tests.
struct Source {
    path: PathBuf,
    /// The code, with texts left empty.
    code: String,
    /// The texts in it.
    texts: Vec<String>,
}

impl Source {
    fn read(path: PathBuf) -> Source {
        let text = fs::read_to_string(&path).unwrap();
        let (code, texts) = split(text.split("#[cfg(test)]").next().unwrap_or_default());
        Source { path, code, texts }
    }

    /// Its path under the repository.
    fn name(&self) -> String {
        self.path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()
    }

    /// The layer it belongs to: the first name under `src`.
    fn module(&self) -> String {
        self.name().trim_start_matches("src/").split('/').next().unwrap().trim_end_matches(".rs").to_owned()
    }

    /// The layers it names: what follows `crate::`, one name or a list in braces.
    fn imports(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (at, path) in self.code.match_indices("crate::") {
            let rest = &self.code[at + path.len()..];
            match rest.strip_prefix('{') {
                Some(list) => names.extend(first_names(list)),
                None => drop(names.insert(token(rest))),
            }
        }
        names
    }
}

/// The names at the first level of `a, b::{c, d}, e}…`.
fn first_names(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                names.push(token(list[start..at].trim_start()));
                start = at + 1;
            }
            _ => {}
        }
        if c == '}' && depth == 0 && start == at + 1 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn token(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Files of `src` that contain all of `words` in their code.
fn naming(words: &[&str]) -> Vec<String> {
    let all = sources("src").into_iter().filter(|file| words.iter().all(|word| file.code.contains(word)));
    all.map(|file| file.name()).collect()
}

fn sources(folder: &str) -> Vec<Source> {
    // A check of no files would pass.
    assert!(root().join(folder).is_dir(), "there is no {folder}");
    let files = rust_files(&root().join(folder)).into_iter();
    files.filter(|path| path.file_name().is_none_or(|name| name != "tests.rs")).map(Source::read).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Code without comments, its texts taken out of it.
fn split(source: &str) -> (String, Vec<String>) {
    let mut code = String::new();
    let mut texts = Vec::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if let Some(after) = rest.strip_prefix("/*") {
            rest = after.find("*/").map_or("", |end| &after[end + 2..]);
        } else if let Some((text, after)) = raw_text(rest).or_else(|| plain_text(rest)) {
            code.push_str("\"\"");
            texts.push(text);
            rest = after;
        } else if let Some(after) = character(rest) {
            code.push_str("' '");
            rest = after;
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    (code, texts)
}

fn raw_text(rest: &str) -> Option<(String, &str)> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.chars().take_while(|c| *c == '#').count();
    let text = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let at = text.find(&end)?;
    Some((text[..at].to_owned(), &text[at + end.len()..]))
}

fn plain_text(rest: &str) -> Option<(String, &str)> {
    let text = rest.strip_prefix('"')?;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return Some((text[..at].to_owned(), &text[at + 1..])),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

/// A character, not a lifetime.
fn character(rest: &str) -> Option<&str> {
    let inside = rest.strip_prefix('\'')?;
    let mut chars = inside.char_indices();
    let (_, first) = chars.next()?;
    if first == '\\' {
        // What is escaped may itself be a quote.
        let end = inside[2..].find('\'')? + 2;
        return Some(&inside[end + 1..]);
    }
    let (at, second) = chars.next()?;
    (second == '\'').then(|| &inside[at + 1..])
}

mod the_reader {
    use super::*;

    #[test]
    fn leaves_out_comments_and_texts_and_keeps_lifetimes() {
        let source = "fn a<'a>(x: &'a str) { // crate::no\n f(\"crate::no \\\" \", 'x', '\\'', r#\"q\"q\"#); /* crate::no */ crate::yes }";
        let (code, texts) = split(source);
        assert!(!code.contains("no") && code.contains("crate::yes") && code.contains("<'a>"), "{code}");
        assert_eq!(texts, ["crate::no \\\" ", "q\"q"]);
    }

    #[test]
    fn finds_what_is_imported_in_a_list() {
        let code =
            "use crate::{\n    a::{b, c},\n    d,\n    e::f,\n};\nuse crate::g::h; fn x(i: crate::j::K) {}"
                .to_owned();
        let source = Source { path: root().join("src/x.rs"), code, texts: Vec::new() };
        assert_eq!(source.imports().into_iter().collect::<Vec<_>>(), ["a", "d", "e", "g", "j"]);
    }
}
