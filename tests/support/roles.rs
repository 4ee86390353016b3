//! Relay processes: each role by itself, or all of them together.

use std::{net::SocketAddr, ops::Deref, process::Command};

use super::{
    caller::{self, Raw},
    nats::Nats,
    origin::Origin,
    process::{self, Process},
    wait::eventually_async,
};

/// One client agent, upstream agent or broker.
pub struct Role {
    process: Process,
    listens: bool,
}

impl Deref for Role {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Nats {
    /// A client agent that is ready.
    pub async fn client(&self, flags: &[&str]) -> Role {
        self.spawn("client", flags).ready().await
    }

    /// An upstream agent for `name` that is ready.
    pub async fn upstream(&self, name: &str, origin: &str, flags: &[&str]) -> Role {
        self.spawn("upstream", &[&["--name", name, "--to", origin], flags].concat()).ready().await
    }

    /// A broker that is ready.
    pub async fn broker(&self, flags: &[&str]) -> Role {
        self.spawn("broker", flags).ready().await
    }

    /// Any role, started and not waited for.
    pub fn spawn(&self, role: &str, flags: &[&str]) -> Role {
        Role::spawn(&self.url(), role, flags, &[])
    }
}

impl Role {
    /// A process of `role` at the NATS server `url`, with flags and variables.
    pub fn spawn(url: &str, role: &str, flags: &[&str], variables: &[(&str, &str)]) -> Role {
        let mut args = vec![role, "--server", url];
        for (flag, value) in [("--admin", "127.0.0.1:0"), ("--listen", "127.0.0.1:0")] {
            if !flags.contains(&flag) && (role == "client" || flag != "--listen") {
                args.extend([flag, value]);
            }
        }
        // What went wrong is what tests read.
        if role == "client" && !flags.contains(&"--fault-details") {
            args.extend(["--fault-details", "on"]);
        }
        let mut command = process::relay(&[&args, flags].concat());
        command.envs(variables.iter().copied());
        Role::of(role, command)
    }

    /// A process of `role` by a command of the test's own.
    pub fn of(role: &str, command: Command) -> Role {
        Role { process: Process::spawn(&format!("relay {role}"), command), listens: role == "client" }
    }

    /// Waits until it says that it is ready.
    pub async fn ready(self) -> Role {
        let admin = self.admin().await;
        eventually_async("the process is ready", || async move {
            Raw::get(admin, "/readyz").await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
        if self.listens {
            self.process.says("client agent listens").await;
        }
        self
    }

    /// Where its admin listener is.
    pub async fn admin(&self) -> SocketAddr {
        address_in(&self.process.says("admin listener").await)
    }

    /// Where a client agent takes requests.
    pub async fn address(&self) -> SocketAddr {
        address_in(&self.process.says("client agent listens").await)
    }

    /// The status and the text of a page of the admin listener.
    pub async fn page(&self, path: &str) -> (u16, String) {
        let answer = Raw::get(self.admin().await, path).await.expect("the admin listener answers");
        (answer.status, answer.text())
    }

    /// All metrics.
    pub async fn metrics(&self) -> String {
        self.page("/metrics").await.1
    }

    /// The id a process gave itself, as its log tells it.
    pub async fn process_id(&self) -> String {
        let line = self.says("connected to NATS id=").await;
        line.split("id=").nth(1).unwrap().split(' ').next().unwrap().to_owned()
    }

    /// The sum of the samples of one metric whose labels contain `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.metrics().await;
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (of, value) = rest.rsplit_once(' ')?;
            ((of.is_empty() || of.starts_with('{')) && of.contains(labels))
                .then(|| value.parse::<f64>().ok())?
        });
        samples.sum()
    }

    /// Waits until a metric is at least `least`.
    pub async fn counts(&self, name: &str, labels: &str, least: f64) {
        let what = format!("{name}{{{labels}}} is at least {least}");
        eventually_async(&what, || async { self.metric(name, labels).await >= least }).await;
    }

    /// `http://…` of a client agent, with a path.
    pub async fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address().await)
    }

    /// GETs a path of a client agent.
    pub async fn get(&self, path: &str) -> reqwest::Response {
        caller::http().get(self.url(path).await).send().await.expect("the client agent answers")
    }

    /// POSTs to a path of a client agent.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
        caller::http().post(self.url(path).await).body(body).send().await.expect("the client agent answers")
    }

    /// A connection to a client agent, byte by byte.
    pub async fn raw(&self) -> Raw {
        Raw::connect(self.address().await).await
    }
}

/// A nats-server, a broker, a client agent, an upstream agent called `hello`, and its origin.
pub struct Relay {
    pub client: Role,
    pub agent: Role,
    pub broker: Option<Role>,
    pub nats: Nats,
    pub origin: Origin,
}

/// A relay that is not started yet.
pub struct Plan<'a> {
    origin: Origin,
    config: Option<&'a str>,
    client: &'a [&'a str],
    agent: &'a [&'a str],
    broker: Option<&'a [&'a str]>,
}

impl Relay {
    /// In front of an origin that sends bodies back.
    pub async fn start() -> Relay {
        Relay::to(Origin::echo().await).start().await
    }

    /// In front of this origin.
    pub fn to<'a>(origin: Origin) -> Plan<'a> {
        Plan { origin, config: None, client: &[], agent: &[], broker: Some(&[]) }
    }

    /// GETs a path.
    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(path).await
    }

    /// POSTs to a path.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
        self.client.post(path, body).await
    }

    /// The URL of a path.
    pub async fn url(&self, path: &str) -> String {
        self.client.url(path).await
    }

    /// A connection to the client agent, byte by byte.
    pub async fn raw(&self) -> Raw {
        self.client.raw().await
    }

    /// One more upstream agent of the same name, ready.
    pub async fn another_agent(&self, flags: &[&str]) -> Role {
        self.nats.upstream("hello", &self.origin.url(), flags).await
    }
}

impl<'a> Plan<'a> {
    /// Configuration of nats-server.
    pub fn nats(self, config: &'a str) -> Self {
        Plan { config: Some(config), ..self }
    }

    /// Flags of the client agent.
    pub fn client(self, flags: &'a [&'a str]) -> Self {
        Plan { client: flags, ..self }
    }

    /// Flags of the upstream agent.
    pub fn agent(self, flags: &'a [&'a str]) -> Self {
        Plan { agent: flags, ..self }
    }

    /// Flags of the broker.
    pub fn broker(self, flags: &'a [&'a str]) -> Self {
        Plan { broker: Some(flags), ..self }
    }

    /// Without a broker.
    pub fn no_broker(self) -> Self {
        Plan { broker: None, ..self }
    }

    /// Everything, ready.
    pub async fn start(self) -> Relay {
        let nats = match self.config {
            Some(config) => Nats::with(config).await,
            None => Nats::start().await,
        };
        let url = self.origin.url();
        let (client, agent, broker) = tokio::join!(
            async { nats.client(&[&["--upstream", "hello"], self.client].concat()).await },
            nats.upstream("hello", &url, self.agent),
            async {
                match self.broker {
                    Some(flags) => Some(nats.broker(flags).await),
                    None => None,
                }
            },
        );
        Relay { client, agent, broker, nats, origin: self.origin }
    }
}

/// The `address=…` of a log line, human or JSON.
fn address_in(line: &str) -> SocketAddr {
    let rest = line.split("address").nth(1).unwrap_or_default().trim_start_matches(['=', '"', ':', ' ']);
    let text: String = rest.chars().take_while(|c| !matches!(c, ' ' | '"' | ',' | '}')).collect();
    text.parse().unwrap_or_else(|_| panic!("no address in '{line}'"))
}
