//! A real nats-server on a free port of the loopback.

use std::{fs, net::SocketAddr, process::Command};

use relay::bus::{Bus, Credentials, Event, Subscription};
use tempfile::TempDir;

use super::{
    process::{Process, tool},
    wait::found,
};

/// A running nats-server. `restart` starts it again on the port it had.
pub struct Nats {
    process: Process,
    directory: TempDir,
    config: Option<String>,
    port: u16,
}

impl Nats {
    /// A server with its defaults.
    pub async fn start() -> Nats {
        Nats::launch(TempDir::new().unwrap(), None, None).await
    }

    /// A server with this configuration; the listener is set here. `$DIR` is a directory of its own.
    pub async fn with(config: &str) -> Nats {
        Nats::launch(TempDir::new().unwrap(), Some(config.to_owned()), None).await
    }

    /// A server with JetStream, which keeps what it has over a restart.
    pub async fn with_jetstream() -> Nats {
        Nats::with("jetstream { store_dir: \"$DIR/jetstream\" }").await
    }

    /// The same server again on the same port, as if its machine had been restarted.
    pub async fn restart(self) -> Nats {
        let Nats { process, directory, config, port } = self;
        drop(process);
        Nats::launch(directory, config, Some(port)).await
    }

    /// The same, when `meanwhile` was done with its directory.
    pub async fn restart_after(self, meanwhile: impl FnOnce(&std::path::Path)) -> Nats {
        let Nats { process, directory, config, port } = self;
        drop(process);
        meanwhile(directory.path());
        Nats::launch(directory, config, Some(port)).await
    }

    /// Lets it write no file further than to `bytes`, as on a disk that is full.
    pub fn limit_files(&self, bytes: u64) {
        let limit = [format!("--pid={}", self.process.id()), format!("--fsize={bytes}")];
        assert!(Command::new("prlimit").args(limit).status().is_ok_and(|status| status.success()));
    }

    async fn launch(directory: TempDir, config: Option<String>, port: Option<u16>) -> Nats {
        let path = directory.path();
        let ports = path.join("ports");
        fs::remove_dir_all(&ports).ok();
        fs::create_dir(&ports).unwrap();
        let mut command = Command::new(tool("RELAY_NATS_SERVER", "nats-server"));
        command.args(["-a", "127.0.0.1", "-p", &port.map_or("-1".to_owned(), |port| port.to_string())]);
        command.arg("--ports_file_dir").arg(&ports);
        if let Some(config) = &config {
            let file = path.join("nats.conf");
            fs::write(&file, config.replace("$DIR", &path.to_string_lossy())).unwrap();
            command.arg("-c").arg(file);
        }
        let process = Process::spawn("nats-server", command);
        let port = found("nats-server says its port", || {
            assert!(process.is_running(), "nats-server ended");
            let file = fs::read_dir(&ports).unwrap().filter_map(Result::ok).next()?;
            let said: serde_json::Value = serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
            said["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
        })
        .await;
        Nats { process, directory, config, port }
    }

    /// `nats://…`
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The server itself.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its own directory.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// A connection of the test's own.
    pub async fn connect(&self) -> Bus {
        self.connect_as(Credentials::default()).await
    }

    /// A connection of the test's own, as somebody.
    pub async fn connect_as(&self, credentials: Credentials) -> Bus {
        let credentials = Credentials { servers: self.url(), name: "test".into(), ..credentials };
        let (bus, mut events) = Bus::connect(&credentials).await.unwrap();
        loop {
            match events.recv().await {
                Some(Event::Connected) => break,
                Some(Event::LoginRefused(why) | Event::Unreachable(why) | Event::Trouble(why)) => {
                    panic!("cannot connect to NATS: {why}")
                }
                Some(_) => {}
                None => panic!("the connection to NATS is closed"),
            }
        }
        // Whatever comes later must not fill the queue.
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        bus
    }
}

/// Subscribes, and waits until that is in force.
pub async fn listen(bus: &Bus, subject: &str) -> Subscription {
    let subscription = bus.subscribe(subject.to_owned()).await.unwrap();
    let mut own = bus.subscribe("test.ready".into()).await.unwrap();
    bus.publish("test.ready".into(), bytes::Bytes::new()).unwrap();
    own.next().await;
    subscription
}
