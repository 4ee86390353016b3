//! docker-compose.yml: anchors and merges resolved, and a typed look at what the tests ask of it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_yaml_ng::{Mapping, Value};

/// The whole file.
pub struct Compose {
    root: Mapping,
    pub comments: Vec<String>,
}

/// One service.
pub struct Service {
    pub name: String,
    fields: Mapping,
}

/// What is mounted where.
pub struct Mount {
    pub source: String,
    pub target: String,
}

impl Compose {
    pub fn read() -> Compose {
        let text = fs::read_to_string(root().join("docker-compose.yml")).unwrap();
        let mut value: Value = serde_yaml_ng::from_str(&text).expect("YAML");
        value.apply_merge().expect("merges of mappings");
        let comments = text.lines().map(str::trim).filter(|line| line.starts_with('#')).map(str::to_owned);
        Compose { root: mapping(&value), comments: comments.collect() }
    }

    pub fn services(&self) -> Vec<Service> {
        let services = mapping(&self.root["services"]);
        services.iter().map(|(name, fields)| Service { name: text(name), fields: mapping(fields) }).collect()
    }

    pub fn service(&self, name: &str) -> Service {
        let found = self.services().into_iter().find(|service| service.name == name);
        found.unwrap_or_else(|| panic!("no service {name}"))
    }

    /// Names of the declared volumes.
    pub fn volumes(&self) -> Vec<String> {
        mapping(&self.root["volumes"]).keys().map(text).collect()
    }

    /// Where a key stands that is none of the compose specification's.
    pub fn unknown_keys(&self) -> Vec<String> {
        let mut unknown = Vec::new();
        let mut check = |place: &str, value: &Mapping, known: &[&str]| {
            let keys =
                value.keys().map(text).filter(|key| !known.contains(&key.as_str()) && !key.starts_with("x-"));
            unknown.extend(keys.map(|key| format!("{place}.{key}")));
        };
        check("", &self.root, TOP);
        for service in self.services() {
            check(&service.name, &service.fields, SERVICE);
            if let Some(health) = service.get("healthcheck") {
                check(&format!("{}.healthcheck", service.name), &mapping(health), HEALTHCHECK);
            }
            if let Some(Value::Mapping(others)) = service.get("depends_on") {
                for other in others.values() {
                    check(&format!("{}.depends_on", service.name), &mapping(other), DEPENDENCY);
                }
            }
        }
        unknown
    }
}

impl Service {
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields.get(key)
    }

    pub fn text(&self, key: &str) -> String {
        text(self.get(key).unwrap_or_else(|| panic!("{} has no {key}", self.name)))
    }

    /// A list of words; a text would be split by a shell's rules, which nobody here wants to guess.
    pub fn words(&self, key: &str) -> Vec<String> {
        words(self.get(key).unwrap_or_else(|| panic!("{} has no {key}", self.name)))
    }

    /// Whether it is one of ours.
    pub fn is_relay(&self) -> bool {
        self.text("image") == "relay"
    }

    pub fn environment(&self) -> Vec<(String, String)> {
        let variables = self.get("environment").map(mapping).unwrap_or_default();
        variables.iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// The words of its own health check, after checking how often it runs.
    pub fn health_check(&self) -> Option<Vec<String>> {
        let health = mapping(self.get("healthcheck")?);
        for key in ["interval", "timeout", "start_period"] {
            health.get(key).map(|value| duration(&text(value)));
        }
        let mut test = words(&health["test"]);
        assert_eq!(test.remove(0), "CMD", "{}", self.name);
        Some(test)
    }

    /// Other services, and what of them it waits for.
    pub fn depends_on(&self) -> Vec<(String, String)> {
        let others = self.get("depends_on").map(mapping).unwrap_or_default();
        others.iter().map(|(other, how)| (text(other), text(&how["condition"]))).collect()
    }

    pub fn mounts(&self) -> Vec<Mount> {
        let mounts = self.get("volumes").map(words).unwrap_or_default();
        let parts = mounts.iter().map(|mount| mount.split(':').collect::<Vec<_>>());
        let mount = |parts: Vec<&str>| Mount { source: parts[0].to_owned(), target: parts[1].to_owned() };
        parts.map(mount).collect()
    }

    /// The container's ports that the host publishes.
    pub fn published_ports(&self) -> Vec<u16> {
        let ports = self.get("ports").map(words).unwrap_or_default();
        ports.iter().map(|port| port.rsplit(':').next().unwrap().parse().unwrap()).collect()
    }
}

impl Mount {
    /// The file of this repository; a named volume has none.
    pub fn host_path(&self) -> Option<PathBuf> {
        self.source.strip_prefix("./").map(|path| root().join(path))
    }
}

/// `70s`
pub fn duration(text: &str) -> Duration {
    humantime::parse_duration(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn mapping(value: &Value) -> Mapping {
    value.as_mapping().unwrap_or_else(|| panic!("not a mapping: {value:?}")).clone()
}

fn words(value: &Value) -> Vec<String> {
    value.as_sequence().unwrap_or_else(|| panic!("not a list: {value:?}")).iter().map(text).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value:?}")).to_owned()
}

// The parts of the compose specification that this file has a use for.
const TOP: &[&str] = &["name", "services", "volumes", "networks", "configs", "secrets", "include"];
const SERVICE: &[&str] = &[
    "build",
    "cap_add",
    "cap_drop",
    "command",
    "configs",
    "cpus",
    "depends_on",
    "deploy",
    "entrypoint",
    "env_file",
    "environment",
    "expose",
    "healthcheck",
    "image",
    "init",
    "labels",
    "logging",
    "mem_limit",
    "networks",
    "pids_limit",
    "ports",
    "profiles",
    "pull_policy",
    "read_only",
    "restart",
    "scale",
    "secrets",
    "security_opt",
    "stop_grace_period",
    "stop_signal",
    "tmpfs",
    "ulimits",
    "user",
    "volumes",
    "working_dir",
];
const HEALTHCHECK: &[&str] =
    &["test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"];
const DEPENDENCY: &[&str] = &["condition", "restart", "required"];
