//! A child process: its log, its signals, its end. It is killed when its handle is dropped, by its own id.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::wait::{eventually, found};

/// A running child.
pub struct Process {
    name: String,
    child: Mutex<Child>,
    log: Log,
}

/// What a child has said on standard output and standard error, line by line.
#[derive(Clone, Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    /// Pipes that may still say something.
    open: Arc<AtomicUsize>,
}

/// What a child that ended had said.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Process {
    /// Starts `command`, called `name` where a test's failure is told.
    pub fn spawn(name: &str, command: Command) -> Process {
        let mut command = guarded(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let log = Log::default();
        log.follow(child.stdout.take());
        log.follow(child.stderr.take());
        Process { name: name.to_owned(), child: Mutex::new(child), log }
    }

    /// Starts `command` with standard output and standard error that are not read here.
    pub fn spawn_saying_to(name: &str, command: Command, out: Stdio, err: Stdio) -> Process {
        let mut command = guarded(command);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        Process { name: name.to_owned(), child: Mutex::new(child), log: Log::default() }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// Ends it without warning.
    pub fn kill9(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().ok();
        child.wait().ok();
    }

    /// Asks it to stop.
    pub fn term(&self) {
        self.signal("TERM");
    }

    /// What Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal("INT");
    }

    /// Tells it to read its settings again.
    pub fn hangup(&self) {
        self.signal("HUP");
    }

    /// Sends it a signal that has no meaning for relay.
    pub fn usr1(&self) {
        self.signal("USR1");
    }

    /// Tells a nats-server to send its clients away.
    pub fn usr2(&self) {
        self.signal("USR2");
    }

    /// Freezes it.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn cont(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "cannot send SIG{signal} to {}", self.name);
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.child.lock().unwrap().try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Waits for its end, and for its last word.
    pub async fn ended(&self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        let status = found(&what, || self.child.lock().unwrap().try_wait().ok().flatten()).await;
        eventually("its log ends", || self.log.open.load(Ordering::Relaxed) == 0).await;
        status
    }

    /// All it has said.
    pub fn log(&self) -> String {
        self.log.lines.lock().unwrap().join("\n")
    }

    /// The lines it has said that contain `part`.
    pub fn lines(&self, part: &str) -> Vec<String> {
        self.log.lines.lock().unwrap().iter().filter(|line| line.contains(part)).cloned().collect()
    }

    /// Waits for a line with `part` in it.
    pub async fn says(&self, part: &str) -> String {
        let what = format!("{} says '{part}'", self.name);
        found(&what, || {
            let said = self.lines(part).into_iter().next();
            assert!(said.is_some() || self.is_running(), "{} ended before it said '{part}'", self.name);
            said
        })
        .await
    }

    /// Bytes of memory it has in use.
    pub fn memory(&self) -> u64 {
        self.bytes_of("VmRSS:")
    }

    /// The most bytes of memory it has had in use.
    pub fn peak_memory(&self) -> u64 {
        self.bytes_of("VmHWM:")
    }

    /// Lets its peak be what it has in use now.
    pub fn forget_peak(&self) {
        // 5 is for the peak: proc_pid_clear_refs(5).
        std::fs::write(format!("/proc/{}/clear_refs", self.id()), "5").expect("its peak can be reset");
    }

    fn bytes_of(&self, row: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(row)).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if thread::panicking() {
            let lines = self.log.lines.lock().unwrap();
            eprintln!("--- {} said ({} lines, the last {SHOWN}):", self.name, lines.len());
            for line in lines.iter().skip(lines.len().saturating_sub(SHOWN)) {
                eprintln!("{line}");
            }
        }
    }
}

impl Log {
    fn follow(&self, pipe: Option<impl Read + Send + 'static>) {
        let Some(pipe) = pipe else { return };
        let Log { lines, open } = self.clone();
        open.fetch_add(1, Ordering::Relaxed);
        // A thread for each: a test's runtime may be busy, and a full pipe would stop the child.
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                lines.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Runs `command` to its end.
pub async fn run(command: Command) -> Ended {
    let mut command = command;
    command.stdin(Stdio::null());
    let shown = format!("{command:?}");
    let work = tokio::task::spawn_blocking(move || command.output());
    let output = super::wait::within(std::time::Duration::from_secs(60), &shown, work).await;
    let output = output.unwrap().unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
    Ended {
        status: output.status,
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A relay command without any setting of whoever runs the tests.
pub fn relay(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["RELAY_", "NATS_", "RUST_LOG"].iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    command.args(args);
    command
}

/// A program of ours that `variable` names, or that `bin/need` installed, or that is on the PATH.
pub fn tool(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) {
        return path.into();
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin").join(name);
    if installed.is_file() { installed } else { name.into() }
}

/// Lets a child end with the thread that started it, also when a test run is killed. Not every system
/// has `setpriv`.
fn guarded(command: Command) -> Command {
    if !Path::new("/usr/bin/setpriv").is_file() {
        return command;
    }
    let mut guarded = Command::new("/usr/bin/setpriv");
    guarded.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => guarded.env(name, value),
            None => guarded.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        guarded.current_dir(folder);
    }
    guarded
}

const SHOWN: usize = 150;
