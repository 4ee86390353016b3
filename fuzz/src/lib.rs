//! One function for each parser of what strangers, peers and operators write: it panics when the parser does, or when it
//! breaks a promise. `fuzz_targets/` hands them to cargo-fuzz, `mutations.rs` runs them on any compiler.

use std::{cell::RefCell, ffi::OsString, path::PathBuf};

mod http1;
mod texts;
mod wire;

/// The corpus of HTTP/1, which the tests have too.
#[path = "../../tests/parsers/corpus.rs"]
pub mod corpus;
/// One of each message, as the tests of the protocol have them.
#[allow(dead_code)]
#[path = "../../tests/protocol/messages.rs"]
mod messages;
/// What mutates a corpus, as in the tests.
#[path = "../../tests/parsers/mutate.rs"]
pub mod mutate;

/// A parser to be tried.
pub struct Target {
    /// Its name, also that of its file in `fuzz_targets/`.
    pub name: &'static str,
    /// Tries it.
    pub run: fn(&[u8]),
    /// What its mutations begin as.
    pub corpus: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "request_head", run: http1::request_head, corpus: corpus::requests },
    Target { name: "response_head", run: http1::response_head, corpus: http1::responses },
    Target { name: "chunked_body", run: http1::chunked_body, corpus: http1::bodies },
    Target { name: "proxy_protocol", run: texts::proxy_protocol, corpus: texts::proxies },
    Target { name: "wire_messages", run: wire::messages, corpus: wire::corpus },
    Target { name: "wire_batch", run: wire::batch, corpus: wire::batches },
    Target { name: "decode", run: wire::decode, corpus: wire::corpus },
    Target { name: "subjects", run: wire::subjects, corpus: wire::subject_texts },
    Target { name: "targets", run: texts::targets, corpus: texts::urls },
    Target { name: "forward_lists", run: texts::forward_lists, corpus: texts::lists },
    Target { name: "json_lines", run: texts::json_lines, corpus: texts::lines },
    Target { name: "request_templates", run: texts::request_templates, corpus: texts::request_files },
    Target { name: "config_file", run: texts::config_file, corpus: texts::config_files },
    Target { name: "cache_control", run: texts::cache_control, corpus: texts::directives },
    Target { name: "conditions", run: texts::conditions, corpus: texts::conditions_of_requests },
];

/// The target of this name.
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("there is no target {name}"))
}

/// A text of `data`; of what is no text nothing is tried.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// A file with these bytes, for parsers that open one.
fn file(name: &str, data: &[u8]) -> PathBuf {
    thread_local! {
        static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
    }
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| tempfile::tempdir().expect("a folder can be made"));
        let path = folder.path().join(name);
        std::fs::write(&path, data).expect("a file can be written");
        path
    })
}

fn args(args: &[&str], path: PathBuf) -> Vec<OsString> {
    args.iter().map(Into::into).chain([path.into_os_string()]).collect()
}
