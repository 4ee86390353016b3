//! What a case needs: an origin, perhaps a relay before it, a folder that the origin and the callers share, and a
//! way to run a caller.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::*;

/// Makes of each case a test `directly::…` and a test `relayed::…`, on the stage that the plan before it tells.
macro_rules! cases {
    ($($plan:expr => $($case:ident),+ $(,)?;)+) => {
        mod directly {
            #[allow(unused_imports)]
            use super::*;
            $($(#[tokio::test]
            async fn $case() {
                super::$case(&$plan.directly().await).await;
            })+)+
        }
        mod relayed {
            #[allow(unused_imports)]
            use super::*;
            $($(#[tokio::test]
            async fn $case() {
                super::$case(&$plan.relayed().await).await;
            })+)+
        }
    };
}

/// A stage that is not set up yet.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    origin: &'static str,
    /// How the upstream agent speaks to the origin.
    scheme: &'static str,
    /// Whether callers speak TLS, to the client agent or, without a relay, to the origin.
    tls: bool,
    client: &'static [&'static str],
    agent: &'static [&'static str],
    broker: &'static [&'static str],
}

/// Everything is running. It ends with its handle.
pub struct Stage {
    /// Where callers go, without a slash at the end.
    pub url: String,
    /// The origin's folder, and the callers'.
    pub folder: PathBuf,
    _relay: Option<(Role, Role, Role, Nats)>,
    _origin: Process,
    _directory: tempfile::TempDir,
}

impl Plan {
    /// An origin of `programs/origins`.
    pub const fn of(origin: &'static str) -> Plan {
        Plan { origin, scheme: "http", tls: false, client: &[], agent: &[], broker: &[] }
    }

    /// The upstream agent speaks HTTP/2 to it, in cleartext.
    pub const fn h2c(self) -> Plan {
        Plan { scheme: "h2c", ..self }
    }

    /// Callers speak TLS and trust `certificate.pem` in the folder.
    pub const fn tls(self) -> Plan {
        Plan { tls: true, ..self }
    }

    /// Flags of the relay's roles.
    pub const fn flags(
        self,
        client: &'static [&'static str],
        agent: &'static [&'static str],
        broker: &'static [&'static str],
    ) -> Plan {
        Plan { client, agent, broker, ..self }
    }

    /// Callers go straight to the origin.
    pub async fn directly(self) -> Stage {
        let directory = folder();
        let pair = if self.tls { certificate(directory.path()) } else { Vec::new() };
        let (origin, port) = self.origin(directory.path(), &pair).await;
        self.stage(port, None, origin, directory)
    }

    /// Callers go to a client agent.
    pub async fn relayed(self) -> Stage {
        let directory = folder();
        let pair = if self.tls { certificate(directory.path()) } else { Vec::new() };
        let (origin, port) = self.origin(directory.path(), &[]).await;
        let nats = Nats::start().await;
        let mut front = vec!["--upstream", "hello"];
        if let [certificate, key] = &pair[..] {
            front.extend(["--tls-cert", certificate, "--tls-key", key]);
        }
        front.extend(self.client);
        let to = format!("{}://127.0.0.1:{port}", self.scheme);
        let (client, agent, broker) = tokio::join!(
            nats.client(&front),
            nats.upstream("hello", &to, self.agent),
            nats.broker(self.broker),
        );
        let port = client.address().await.port();
        self.stage(port, Some((client, agent, broker, nats)), origin, directory)
    }

    async fn origin(self, folder: &Path, pair: &[String]) -> (Process, u16) {
        let mut command = python(&format!("origins/{}.py", self.origin));
        command.arg(folder).args(pair);
        let origin = Process::spawn(self.origin, command);
        let said = origin.says("port ").await;
        let port = said.trim_start_matches("port ").parse();
        (origin, port.unwrap_or_else(|_| panic!("no port in '{said}'")))
    }

    fn stage(
        self,
        port: u16,
        relay: Option<(Role, Role, Role, Nats)>,
        origin: Process,
        directory: tempfile::TempDir,
    ) -> Stage {
        let scheme = if self.tls { "https" } else { "http" };
        let folder = directory.path().to_owned();
        let url = format!("{scheme}://127.0.0.1:{port}");
        Stage { url, folder, _relay: relay, _origin: origin, _directory: directory }
    }
}

impl Stage {
    /// Runs a case of a caller in `programs/callers`, which must succeed.
    pub async fn caller(&self, name: &str, case: &str) {
        let mut command = python(&format!("callers/{name}.py"));
        command.arg(&self.url).arg(case).arg(&self.folder);
        succeeds(command).await;
    }

    /// A file of this many bytes in the folder.
    pub fn file(&self, name: &str, size: usize) -> PathBuf {
        let path = self.path(name);
        let mut file = fs::File::create(&path).unwrap();
        let mut random = Random(0x5eed);
        let mut left = size;
        while left > 0 {
            let piece: Vec<u8> = (0..left.div_ceil(8).min(8192)).flat_map(|_| random.next()).collect();
            let piece = &piece[..piece.len().min(left)];
            file.write_all(piece).unwrap();
            left -= piece.len();
        }
        path
    }

    /// A file of the folder, there or not.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Two files of the folder must be the same, byte for byte.
    #[track_caller]
    pub fn same(&self, one: &str, other: &str) {
        let [a, b] = [one, other].map(|name| fs::read(self.path(name)).unwrap());
        assert_eq!(a.len(), b.len(), "bytes of {one} and {other}");
        let differs = a.iter().zip(&b).position(|(a, b)| a != b);
        assert_eq!(differs, None, "where {one} and {other} differ");
    }

    /// A program, run in the folder, without any setting of whoever runs the tests.
    pub fn program(&self, name: &str) -> Command {
        assert!(on_the_path(name), "{name} is not here: bin/need {name}");
        let mut command = Command::new(name);
        command.current_dir(&self.folder).env("HOME", &self.folder);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command
    }
}

/// Runs a program to its end, which must be a success; what it said.
pub async fn succeeds(command: Command) -> String {
    let (status, said) = run(command).await;
    assert_eq!(status, Some(0), "{said}");
    said
}

/// Runs a program to its end: its exit code and what it said. It is killed if it does not come to an end.
pub async fn run(command: Command) -> (Option<i32>, String) {
    let process = Process::spawn(&format!("{command:?}"), command);
    let status = process.ended().await;
    (status.code(), process.log())
}

/// A program of `tests/programs`, by the Python that has the packages.
pub fn python(script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".tools/python/bin/python");
    assert!(python.is_file(), "the Python packages are not here: bin/need python-packages");
    let mut command = Command::new(python);
    // Its imports are beside it; what they compile to must not be left there.
    command.arg("-B").arg(root.join("tests/programs").join(script));
    for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(variable);
    }
    command
}

fn on_the_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

fn folder() -> tempfile::TempDir {
    tempfile::TempDir::new().unwrap()
}

/// The paths of a certificate for the loopback and of its key, in the folder.
fn certificate(folder: &Path) -> Vec<String> {
    let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let files =
        [("certificate.pem", certificate.cert.pem()), ("key.pem", certificate.signing_key.serialize_pem())];
    let written = files.map(|(name, text)| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    });
    written.into()
}

/// A source of bytes that is the same every time.
struct Random(u64);

impl Random {
    /// xorshift64: no eight bytes come twice.
    fn next(&mut self) -> [u8; 8] {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.to_le_bytes()
    }
}
