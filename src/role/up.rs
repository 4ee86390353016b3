//! Everything in one process: a private nats-server as a child, a broker, a client agent, an upstream agent
//! and, when no origin is given, a demo origin. They talk over NATS, as they would between networks.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use tokio::{
    process::{Child, Command},
    task::JoinSet,
};

use super::{
    broker::Broker,
    client::{self, Client},
    service::Service,
    signals::Signals,
    upstream::Agent,
};
mod own;

use crate::{
    config::{self, HostHeader, Mode, Up as Settings},
    descriptors,
    front::{
        demo,
        entrance::{Address, Listener},
        listen,
    },
    output, panics,
};

/// Runs everything until it is told to stop.
///
/// # Errors
/// When a part can't start: each says what to do.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    descriptors::share_with_origins();
    let listener = Listener::bind(&settings.listen, SOCKET_MODE)
        .context("the address for requests can't be had; --listen takes another")?;
    let address = listener.address()?;
    if let Some(url) = &settings.url
        && own::leads_back(url, &address).await
    {
        bail!(
            "the origin {url} is where this relay takes requests itself: each would go in a circle. Give the URL of your \
             server, or another address with --listen"
        );
    }
    let mut nats = None;
    let server = match &settings.server {
        Some(server) => server.clone(),
        None => {
            let child = PrivateNats::start(&settings.nats_server, settings.nats_port).await?;
            let url = child.url.clone();
            nats = Some(child);
            url
        }
    };
    let origin = match &settings.url {
        Some(url) => url.to_string(),
        None => start_demo()?,
    };
    let mut parts = start_parts(&settings, &server, &origin, listener).await?;
    announce(&settings, &server, &origin, &address);
    tokio::select! {
        () = signals.stop() => {}
        why = died(&mut nats) => {
            parts.stop(Duration::ZERO).await;
            bail!("the private nats-server ended: {why}");
        }
    }
    output::announce("stopping");
    tokio::select! {
        () = parts.stop(panics::grace(settings.grace)) => {}
        () = signals.stop() => {}
    }
    // What goes away now is no trouble to any of them.
    for process in [parts.client.process(), parts.upstream.process(), parts.broker.process()] {
        process.tell_to_stop();
    }
    if let Some(nats) = nats {
        nats.stop().await;
    }
    Ok(())
}

struct Parts {
    broker: std::sync::Arc<Broker>,
    client: std::sync::Arc<Client>,
    upstream: std::sync::Arc<Agent>,
    serving: JoinSet<anyhow::Result<()>>,
}

async fn start_parts(
    settings: &Settings,
    server: &str,
    origin: &str,
    listener: Listener,
) -> anyhow::Result<Parts> {
    let name = settings.name.as_str();
    let host = match settings.host_header {
        HostHeader::Keep => "keep",
        HostHeader::Rewrite => "rewrite",
    };
    let common = ["--server", server, "--admin", "off"];
    let broker = match parse("broker", &common)? {
        config::Command::Broker(broker) => broker,
        _ => bail!("the broker's settings could not be made"),
    };
    let client_settings = match parse(
        "client",
        &[&common[..], &["--fault-details", "on", "--upstream", name, "--jobs", "on"]].concat(),
    )? {
        config::Command::Client(client) => client,
        _ => bail!("the client agent's settings could not be made"),
    };
    let flags = ["--name", name, "--to", origin, "--host-header", host];
    let upstream = match parse("upstream", &[&common[..], &flags].concat())? {
        config::Command::Upstream(upstream) => upstream,
        _ => bail!("the upstream agent's settings could not be made"),
    };
    let (running, events) = Broker::connect(&broker).await?;
    running.start(&broker, events).await?;
    let (agent, events) = Agent::connect(&upstream).await?;
    agent.start(&upstream, events).await?;
    let (asking, events) = Client::connect(&client_settings).await?;
    let mut serving = JoinSet::new();
    let opening = client::opening(&client_settings)?;
    let handle = std::sync::Arc::clone(&asking);
    serving.spawn(async move { handle.serve(listener, opening, &client_settings, events).await });
    ready(&running, &asking, &agent, server).await?;
    Ok(Parts { broker: running, client: asking, upstream: agent, serving })
}

/// Settings as a role's own flags would make them.
fn parse(role: &str, flags: &[&str]) -> anyhow::Result<config::Command> {
    config::from_flags(&[&["relay", role], flags].concat())
}

async fn ready(broker: &Broker, client: &Client, upstream: &Agent, server: &str) -> anyhow::Result<()> {
    let all = async {
        while !(client.process().is_ready() && upstream.process().is_ready() && broker.knows_of_jobs()) {
            if client.process().is_login_refused() {
                let server = config::shown(server);
                bail!(
                    "NATS at {server} refuses the credentials; are the user and the password in --server right?"
                );
            }
            tokio::time::sleep(READY_CHECK).await;
        }
        Ok(())
    };
    let late = || anyhow!("NATS at {} can't be reached; is --server right?", config::shown(server));
    tokio::time::timeout(START, all).await.map_err(|_| late())?
}

impl Parts {
    async fn stop(&mut self, grace: Duration) {
        let finish = async {
            self.client.process().tell_to_stop();
            while self.serving.join_next().await.is_some() {}
            self.upstream.finish().await;
        };
        let started = Instant::now();
        // What does not finish in time ends with the process.
        tokio::time::timeout(grace / 4 * 3, finish).await.ok();
        self.broker.tell_to_stop();
        self.broker.finish_within(grace.saturating_sub(started.elapsed())).await;
    }
}

fn start_demo() -> anyhow::Result<String> {
    let listener = listen::bind(([127, 0, 0, 1], 0).into())?;
    let origin = format!("http://{}", listener.local_addr()?);
    tokio::spawn(demo::serve(listener, std::future::pending()));
    Ok(origin)
}

fn announce(settings: &Settings, server: &str, origin: &str, address: &Address) {
    let name = &settings.name;
    let server = config::shown(server);
    let what = if settings.url.is_some() { "origin" } else { "demo origin" };
    let (requests, curl) = match address {
        Address::Tcp(address) => (format!("http://{address}"), format!("http://{address}/hello")),
        Address::Unix(path) => {
            (address.to_string(), format!("--unix-socket {} http://localhost/hello", path.display()))
        }
    };
    output::announce(&format!(
        "\nrelay is up\n\n  requests    {requests}\n  upstream    {name} -> {what} {origin}\n  NATS        {server}\n\n\
         try it:\n\n  curl -i {curl} -d 'some data'\n\n\
         look inside:\n\n  relay ps --server {server}\n  nats sub 'relay.>' --server {server} --translate 'relay decode'\n\n\
         Ctrl-C stops everything\n"
    ));
}

async fn died(nats: &mut Option<PrivateNats>) -> String {
    match nats {
        Some(nats) => match nats.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        },
        None => std::future::pending().await,
    }
}

/// A nats-server of our own, on loopback, that ends with us.
/// Who is silent is given up after 15 s at most; there is no flag for it.
const PINGS: &str = "ping_interval: \"5s\"\nping_max: 2\n";

struct PrivateNats {
    child: Child,
    url: String,
    directory: PathBuf,
}

impl PrivateNats {
    async fn start(program: &Path, port: u16) -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("relay-up-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let port = if port == 0 { "-1".to_owned() } else { port.to_string() };
        let child = Self::spawn(program, &port, &directory).map_err(|error| {
            std::fs::remove_dir_all(&directory).ok();
            match error.kind() {
                std::io::ErrorKind::NotFound => anyhow!(
                    "there is no '{}' to run: install nats-server (https://docs.nats.io/running-a-nats-service/introduction/installation), \
                     say where it is with --nats-server, or use a server of yours with --server",
                    program.display()
                ),
                _ => anyhow!("cannot run {}: {error}", program.display()),
            }
        })?;
        let mut nats = PrivateNats { child, url: String::new(), directory };
        nats.url = nats.wait_for_port().await?;
        Ok(nats)
    }

    fn spawn(program: &Path, port: &str, directory: &Path) -> std::io::Result<Child> {
        std::fs::write(directory.join("conf"), PINGS)?;
        let directory = directory.to_string_lossy();
        let flags = [
            "-a",
            "127.0.0.1",
            "-p",
            port,
            "--ports_file_dir",
            &directory,
            "-c",
            &format!("{directory}/conf"),
            "-l",
            &format!("{directory}/log"),
            "-js",
            "-sd",
            &format!("{directory}/jetstream"),
        ];
        // `setpriv` ends the child even when this process is killed; not every system has it.
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "KILL", "--"]).arg(program).args(flags);
        let mut plain = Command::new(program);
        plain.args(flags);
        if !exists(program) {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        let quiet = |command: &mut Command| {
            // Go's scheduler wakes its other threads for every message, which costs more than they do: a quarter of
            // the server's time beside agents on two cores. Its memory is small, and most of it short-lived: collecting
            // it a quarter as often gives large bodies a tenth more speed.
            for (name, value) in [("GOMAXPROCS", "1"), ("GOGC", "400")] {
                if std::env::var_os(name).is_none() {
                    command.env(name, value);
                }
            }
            let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            // Ctrl-C in a terminal goes to the whole group; the server must outlive the requests in flight.
            silent.process_group(0).kill_on_drop(true).spawn()
        };
        quiet(&mut guarded).or_else(|_| quiet(&mut plain))
    }

    /// The server writes the port it took into a file.
    async fn wait_for_port(&mut self) -> anyhow::Result<String> {
        let deadline = tokio::time::Instant::now() + START;
        while tokio::time::Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                bail!(
                    "nats-server ended at once ({status}): {}",
                    log.lines().last().unwrap_or("it said nothing")
                );
            }
            if let Some(url) = self.port_file() {
                return Ok(url);
            }
            tokio::time::sleep(READY_CHECK).await;
        }
        bail!("nats-server did not start within {} s", START.as_secs())
    }

    fn port_file(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Ports {
            nats: Vec<String>,
        }
        let files = std::fs::read_dir(&self.directory).ok()?.filter_map(Result::ok);
        let file =
            files.map(|file| file.path()).find(|path| path.extension().is_some_and(|e| e == "ports"))?;
        let ports: Ports = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        ports.nats.into_iter().next()
    }

    async fn stop(mut self) {
        // It has nothing to save; the process ends with it either way.
        self.child.kill().await.ok();
    }
}

impl Drop for PrivateNats {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

fn exists(program: &Path) -> bool {
    if program.components().count() > 1 {
        return program.is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// For the owner and the group, as a client agent's is by default.
const SOCKET_MODE: Mode = Mode(0o660);
const START: Duration = Duration::from_secs(10);
const READY_CHECK: Duration = Duration::from_millis(5);
