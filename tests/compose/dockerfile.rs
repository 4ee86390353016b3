//! The Dockerfile and what it is given to build from.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use super::file::root;
use crate::support::process::run;

#[test]
fn the_final_stage_is_small_and_not_root() {
    let image = Dockerfile::read();
    let stages = image.stages();
    assert!(stages.len() > 1, "what compiles is not what runs");
    let last = stages.last().unwrap();
    let user = last.iter().rfind(|(word, _)| word == "USER").map(|(_, user)| user.as_str()).expect("a user");
    let ids: Vec<u32> =
        user.split(':').map(|id| id.parse().expect("a number, that Kubernetes can check")).collect();
    assert!(ids.iter().all(|id| *id != 0), "{user}");
    let built = last.iter().any(|(_, rest)| rest.contains("cargo"));
    assert!(!built, "nothing is compiled in the final stage");
}

#[test]
fn every_copied_file_exists() {
    let image = Dockerfile::read();
    let (mut stages, mut copied) = (Vec::new(), 0);
    for stage in image.stages() {
        for (_, rest) in stage.iter().filter(|(word, _)| word == "COPY" || word == "ADD") {
            let mut words: Vec<_> = rest.split_whitespace().collect();
            let target = words.pop().expect("a target");
            assert!(target == "." || target.starts_with('/'), "{target}");
            match words.first().and_then(|word| word.strip_prefix("--from=")) {
                Some(from) => {
                    let text: &String =
                        stages.iter().find_map(|(name, text)| (name == from).then_some(text)).unwrap();
                    words[1..]
                        .iter()
                        .for_each(|source| assert!(text.contains(source), "{from} makes no {source}"));
                }
                None => words.iter().for_each(|source| assert!(root().join(source).exists(), "{source}")),
            }
            copied += 1;
        }
        let name = stage[0].1.rsplit_once(" AS ").map_or("", |(_, name)| name).to_owned();
        let runs = stage.iter().filter(|(word, _)| word == "RUN").map(|(_, rest)| rest.as_str());
        stages.push((name, runs.collect::<Vec<_>>().join("\n")));
    }
    assert!(copied >= 2, "the sources, and the program");
}

#[tokio::test]
async fn the_build_is_given_all_that_cargo_needs() {
    let ignored = fs::read_to_string(root().join(".dockerignore")).unwrap();
    let ignored: Vec<_> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(ignored.iter().all(|line| !line.contains(['*', '/', '!'])), "this test only knows plain names");
    assert!(["target", ".git"].iter().all(|large| ignored.contains(large)), "{ignored:?}");
    let context = tempfile::TempDir::new().unwrap();
    for entry in fs::read_dir(root()).unwrap().map(Result::unwrap) {
        if !ignored.contains(&entry.file_name().to_str().unwrap()) {
            copy(&entry.path(), &context.path().join(entry.file_name()));
        }
    }
    let (all, given) = (targets(root()).await, targets(context.path()).await);
    assert_eq!(given, all);
    assert!(given.contains("bin relay"), "{given:?}");
    // The image is built with the versions of the lock file or not at all.
    let mut locked = cargo(context.path());
    locked.args(["tree", "--locked", "--offline", "--quiet", "--edges", "normal"]);
    let locked = run(locked).await;
    assert!(locked.status.success(), "{}", locked.err);
}

/// What the manifest in `directory` builds. Cargo looks for tests by itself and misses none.
async fn targets(directory: &Path) -> BTreeSet<String> {
    let mut metadata = cargo(directory);
    metadata.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let metadata = run(metadata).await;
    assert!(metadata.status.success(), "{}", metadata.err);
    let metadata: serde_json::Value = serde_json::from_str(&metadata.out).unwrap();
    let targets = metadata["packages"][0]["targets"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let targets =
        targets.iter().map(|target| format!("{} {}", text(&target["kind"][0]), text(&target["name"])));
    targets.filter(|target| !target.starts_with("test ")).collect()
}

fn cargo(directory: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(directory);
    cargo
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}

/// The instructions, in order.
pub struct Dockerfile {
    instructions: Vec<(String, String)>,
    pub comments: Vec<String>,
}

impl Dockerfile {
    pub fn read() -> Dockerfile {
        let text = fs::read_to_string(root().join("Dockerfile")).unwrap();
        let (comments, lines): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with('#'));
        let joined = lines.join("\n").replace("\\\n", " ");
        let instructions = joined.lines().filter(|line| !line.trim().is_empty()).map(|line| {
            let (word, rest) = line.split_once(' ').expect("an instruction and what it is about");
            assert!(KNOWN.contains(&word), "{word} is no instruction");
            (word.to_owned(), rest.trim().to_owned())
        });
        let instructions: Vec<_> = instructions.collect();
        assert_eq!(instructions[0].0, "FROM");
        Dockerfile { instructions, comments: comments.into_iter().map(str::to_owned).collect() }
    }

    /// Each stage with its own instructions, `FROM` first.
    pub fn stages(&self) -> Vec<&[(String, String)]> {
        let starts = self.instructions.iter().enumerate().filter(|(_, (word, _))| word == "FROM");
        let mut starts: Vec<_> = starts.map(|(at, _)| at).collect();
        starts.push(self.instructions.len());
        starts.windows(2).map(|part| &self.instructions[part[0]..part[1]]).collect()
    }

    /// The images it is built on.
    pub fn images(&self) -> Vec<String> {
        let names = self.stages().into_iter().map(|stage| stage[0].1.split(' ').next().unwrap().to_owned());
        names.collect()
    }

    /// Whether the final stage has such an instruction.
    pub fn has(&self, word: &str) -> bool {
        self.stages().last().unwrap().iter().any(|(other, _)| other == word)
    }

    /// The words of an instruction of the final stage, written as a JSON list.
    pub fn words(&self, word: &str) -> Vec<String> {
        let found = self.stages().last().unwrap().iter().find(|(other, _)| other == word);
        let (_, rest) = found.unwrap_or_else(|| panic!("no {word}"));
        let list = &rest[rest.find('[').unwrap_or_else(|| panic!("{word} is no list: {rest}"))..];
        serde_json::from_str(list).unwrap_or_else(|error| panic!("{word}: {error}"))
    }

    /// The words of the health check.
    pub fn health_check(&self) -> Vec<String> {
        self.words("HEALTHCHECK")
    }

    /// What `ENV` sets in the final stage.
    pub fn variables(&self) -> Vec<(String, String)> {
        let set = self.stages().last().unwrap().iter().filter(|(word, _)| word == "ENV");
        let set =
            set.flat_map(|(_, rest)| rest.split(' ').map(|part| part.split_once('=').expect("NAME=value")));
        set.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

const KNOWN: &[&str] = &[
    "FROM",
    "WORKDIR",
    "COPY",
    "ADD",
    "RUN",
    "USER",
    "ENV",
    "ARG",
    "EXPOSE",
    "LABEL",
    "HEALTHCHECK",
    "ENTRYPOINT",
    "CMD",
];
