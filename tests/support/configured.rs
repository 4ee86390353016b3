//! A real nats-server that runs one of the configurations in `nats/`, and what it takes to know whom it
//! refused.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use relay::bus::{Bus, Credentials, Event};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{
    process::{Process, tool},
    wait::found,
};

/// A running nats-server. It ends with its handle.
pub struct Server {
    process: Process,
    directory: TempDir,
    ports: serde_json::Value,
}

impl Server {
    /// Runs `nats/<file>` as it is, but on free ports.
    pub async fn of(file: &str, variables: &[(&str, &str)]) -> Server {
        let config = configuration(file);
        Server::by(TempDir::new().unwrap(), &["-c", config.to_str().unwrap()], variables).await
    }

    /// Runs `nats/<file>` with each first text replaced by the second: for ports that no flag can change.
    pub async fn changed(file: &str, changes: &[(&str, &str)], variables: &[(&str, &str)]) -> Server {
        let directory = TempDir::new().unwrap();
        let copy = directory.path().join("nats.conf");
        let text = fs::read_to_string(configuration(file)).unwrap();
        let text = changes.iter().fold(text, |text, (from, to)| {
            assert!(text.contains(from), "{file} has no {from}");
            text.replace(from, to)
        });
        // What it stores is this server's alone.
        let text = text.replace("/tmp/relay-nats", directory.path().to_str().unwrap());
        fs::write(&copy, text).unwrap();
        Server::by(directory, &["-c", copy.to_str().unwrap()], variables).await
    }

    /// Runs it with arguments of the test's own, but on free ports.
    pub async fn by(directory: TempDir, args: &[&str], variables: &[(&str, &str)]) -> Server {
        let ports = directory.path().join("ports");
        fs::create_dir(&ports).unwrap();
        // The last of each flag counts.
        let mut command = nats_server(args, variables);
        command.args(["-a", "127.0.0.1", "-p", "-1", "-m", "-1", "--ports_file_dir"]).arg(&ports);
        // What it keeps, it keeps there.
        command.current_dir(directory.path());
        let process = Process::spawn("nats-server", command);
        let ports = found("nats-server says its ports", || {
            assert!(process.is_running(), "nats-server ended");
            let file = fs::read_dir(&ports).unwrap().filter_map(Result::ok).next()?;
            serde_json::from_slice(&fs::read(file.path()).ok()?).ok()
        })
        .await;
        Server { process, directory, ports }
    }

    /// `nats://127.0.0.1:…`
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port("nats"))
    }

    /// The port of one of its listeners, as its ports file calls it.
    pub fn port(&self, listener: &str) -> u16 {
        let url =
            self.ports[listener][0].as_str().unwrap_or_else(|| panic!("no {listener} in {}", self.ports));
        url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
    }

    /// The server itself.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A connection of the test's own, which is told what it may not do.
    pub async fn person(&self, user: &str, password: &str) -> Person {
        let credentials = Credentials {
            servers: self.url(),
            name: user.to_owned(),
            user: Some((user.to_owned(), password.to_owned())),
            ..Credentials::default()
        };
        let (bus, mut events) = Bus::connect(&credentials).await.unwrap();
        match events.recv().await {
            Some(Event::Connected) => Person { bus, events },
            other => panic!("{user} cannot connect to NATS: {other:?}"),
        }
    }

    /// Waits until the server has written down all it refused so far, and returns that, line by line.
    /// `person` does something that nobody may do; its line is left out, as it must come last.
    pub async fn refusals(&self, person: &Person) -> Vec<String> {
        let last = person.do_what_nobody_may();
        let named = format!("\"{last}\"");
        self.process.says(&named).await;
        let lines = self.process.lines("Violation").into_iter();
        lines.filter(|line| !line.contains(NOBODY)).collect()
    }
}

/// A connection that knows what NATS refuses it.
pub struct Person {
    /// The connection.
    pub bus: Bus,
    events: mpsc::Receiver<Event>,
}

impl Person {
    /// Whether NATS lets it publish this.
    pub async fn may_publish(&mut self, subject: &str, payload: impl Into<bytes::Bytes>) -> bool {
        self.bus.publish(subject.to_owned(), payload.into()).unwrap();
        self.was_allowed(&Event::PublishDenied(subject.to_owned())).await
    }

    /// Whether NATS lets it subscribe to this.
    pub async fn may_subscribe(&mut self, subject: &str) -> bool {
        let _subscription = self.bus.subscribe(subject.to_owned()).await.unwrap();
        self.was_allowed(&Event::SubscribeDenied(subject.to_owned())).await
    }

    /// Whether NATS lets it join relay's queue group there.
    pub async fn may_join(&mut self, subject: &str) -> bool {
        let _subscription = self.bus.join(subject.to_owned()).await.unwrap();
        self.was_allowed(&Event::SubscribeDenied(subject.to_owned())).await
    }

    /// Those of `subjects` that NATS does not let it publish.
    pub async fn refused_to_publish(&mut self, subjects: &[String]) -> Vec<String> {
        for subject in subjects {
            self.bus.publish(subject.clone(), bytes::Bytes::new()).unwrap();
        }
        self.refusals().await
    }

    /// Those of `subjects` that NATS does not let it subscribe to; with `join`, in relay's queue group.
    pub async fn refused_to_subscribe(&mut self, subjects: &[String], join: bool) -> Vec<String> {
        let mut subscriptions = Vec::new();
        for subject in subjects {
            let subject = subject.clone();
            let subscription =
                if join { self.bus.join(subject).await } else { self.bus.subscribe(subject).await };
            subscriptions.push(subscription.unwrap());
        }
        self.refusals().await
    }

    /// What NATS has refused it since it was asked last.
    pub async fn refusals(&mut self) -> Vec<String> {
        let last = self.do_what_nobody_may();
        let mut refused = Vec::new();
        loop {
            match super::within(ANSWER, "NATS refuses", self.events.recv()).await {
                Some(Event::PublishDenied(subject)) if subject == last => return refused,
                Some(Event::PublishDenied(subject) | Event::SubscribeDenied(subject)) => {
                    refused.push(subject)
                }
                other => panic!("while waiting for {last}: {other:?}"),
            }
        }
    }

    /// NATS says nothing of what it allows. It answers in order, though: when it has refused what it
    /// always refuses, it has refused all it would before.
    async fn was_allowed(&mut self, refusal: &Event) -> bool {
        let last = Event::PublishDenied(self.do_what_nobody_may());
        let mut allowed = true;
        loop {
            match super::within(ANSWER, "NATS refuses", self.events.recv()).await {
                Some(event) if event == *refusal => allowed = false,
                Some(event) if event == last => return allowed,
                other => panic!("while waiting for {last:?}: {other:?}"),
            }
        }
    }

    fn do_what_nobody_may(&self) -> String {
        static TRIED: AtomicU32 = AtomicU32::new(0);
        let subject = format!("{NOBODY}.{}", TRIED.fetch_add(1, Ordering::Relaxed));
        self.bus.publish(subject.clone(), bytes::Bytes::new()).unwrap();
        subject
    }
}

/// The command of a nats-server with these variables and no others of ours.
pub fn nats_server(args: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(tool("RELAY_NATS_SERVER", "nats-server"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RELAY_NATS_") {
            command.env_remove(&name);
        }
    }
    command.args(args).envs(variables.iter().copied());
    command
}

/// A file of `nats/`.
pub fn configuration(file: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("nats").join(file);
    assert!(path.is_file(), "there is no {}", path.display());
    path
}

const NOBODY: &str = "nobody.may";
const ANSWER: std::time::Duration = std::time::Duration::from_secs(20);
