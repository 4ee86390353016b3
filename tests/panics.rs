//! A panic ends its process, whichever task it stops. No input is known that makes relay panic, so the process is this
//! test program, started again: it runs a role as the relay command does, and beside it a task that panics when told to.

use std::{
    io::{self, Write},
    net::SocketAddr,
    process::{Command, ExitCode, Stdio},
    sync::Arc,
};

use relay::{
    config::{self, LogFormat},
    panics, role,
    sync::Mutex,
    telemetry,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::support::*;

mod support;

#[tokio::test]
async fn a_process_in_which_a_task_panicked_is_not_ready_finishes_and_ends() {
    let nats = Nats::start().await;
    let gate = watch::Sender::new(false);
    let origin = Origin::gated(&gate).await;
    let _agent = nats.upstream("hello", &origin.url(), &[]).await;
    let client = panicking(&nats, "task", "client", &["--upstream", "hello"]).ready().await;
    let mut raw = Raw::connect(client.address().await).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("it is at the origin", || origin.open() == 1).await;
    client.usr1();
    client.says("panicked at").await;
    client.says("stopping").await;
    let (status, why) = client.page("/readyz").await;
    assert!(status == 503 && why.contains("panicked"), "{status} {why}");
    gate.send_replace(true);
    assert_eq!(raw.answer().await.status, 200, "what is in flight is answered");
    assert_eq!(client.ended().await.code(), Some(70), "{}", client.log());
    let told = client.lines("a test says so");
    assert!(told.len() == 1 && told[0].contains("tests/panics.rs"), "{told:?}");
}

#[tokio::test]
async fn every_role_ends() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let upstream = ["--name", "hello", "--to", &origin.url()].map(str::to_owned);
    let upstream = upstream.each_ref().map(String::as_str);
    let client = nats.client(&["--upstream", "hello", "--patience", "50ms"]).await;
    for (role, flags) in [("upstream", &upstream[..]), ("broker", &[]), ("client", &["--upstream", "hello"])]
    {
        let process = panicking(&nats, "task", role, flags).ready().await;
        if role == "upstream" {
            assert_eq!(client.raw().await.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
        }
        process.usr1();
        assert_eq!(process.ended().await.code(), Some(70), "{role}: {}", process.log());
    }
}

#[tokio::test]
async fn a_lock_that_a_panic_left_behind_is_not_taken_again() {
    let nats = Nats::start().await;
    let client = panicking(&nats, "lock", "client", &["--upstream", "hello"]).ready().await;
    client.usr1();
    assert_eq!(client.ended().await.code(), Some(70), "{}", client.log());
    assert_eq!(client.lines("ending at once: a lock was held").len(), 1, "{}", client.log());
    assert!(client.lines("half changed").is_empty(), "{}", client.log());
}

#[tokio::test]
async fn a_panic_in_the_main_task_or_in_another_thread_ends_the_process_as_well() {
    let nats = Nats::start().await;
    for kind in ["main", "thread"] {
        let client = panicking(&nats, kind, "client", &["--upstream", "hello"]).ready().await;
        client.usr1();
        assert_eq!(client.ended().await.code(), Some(70), "{kind}: {}", client.log());
        assert_eq!(client.lines("a test says so").len(), 1, "{kind}: {}", client.log());
    }
}

#[tokio::test]
async fn what_never_finishes_does_not_keep_the_process() {
    let nats = Nats::start().await;
    let gate = watch::Sender::new(false);
    let origin = Origin::gated(&gate).await;
    let _agent = nats.upstream("hello", &origin.url(), &[]).await;
    let client = panicking(&nats, "task", "client", &["--upstream", "hello"]).ready().await;
    let mut raw = Raw::connect(client.address().await).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("it is at the origin", || origin.open() == 1).await;
    client.usr1();
    assert_eq!(client.ended().await.code(), Some(70), "{}", client.log());
    client.lines("the grace period is over").first().expect("it ended by itself");
}

#[tokio::test]
async fn a_process_that_cannot_say_that_it_panicked_ends_all_the_same() {
    let nats = Nats::start().await;
    let (unread, full) = io::pipe().unwrap();
    (&full).write_all(&[b'-'; 1 << 16]).unwrap();
    for log in [full, io::pipe().unwrap().1] {
        for kind in ["task", "main", "thread", "lock"] {
            let address = SocketAddr::from(([127, 0, 0, 1], origin::unused_port()));
            let command = panicking_command(&nats, kind, "broker", &["--admin", &address.to_string()]);
            let log = log.try_clone().unwrap();
            let broker = Process::spawn_saying_to("broker", command, Stdio::null(), log.into());
            let is_ready =
                || async { Raw::get(address, "/readyz").await.is_ok_and(|answer| answer.status == 200) };
            eventually_async("it is ready", is_ready).await;
            broker.usr1();
            assert_eq!(broker.ended().await.code(), Some(70), "{kind}");
        }
    }
    drop(unread);
}

#[tokio::test]
async fn without_a_panic_the_exit_code_is_the_commands_own() {
    let nats = Nats::start().await;
    let client = panicking(&nats, "none", "client", &["--upstream", "hello"]).ready().await;
    client.term();
    assert_eq!(client.ended().await.code(), Some(0), "{}", client.log());
}

/// A process of `role` in which a panic of this `kind` happens on SIGUSR1.
fn panicking(nats: &Nats, kind: &str, role: &str, flags: &[&str]) -> Role {
    Role::of(role, panicking_command(nats, kind, role, &[&["--admin", "127.0.0.1:0"], flags].concat()))
}

fn panicking_command(nats: &Nats, kind: &str, role: &str, flags: &[&str]) -> Command {
    let mut args = vec!["relay", role];
    let url = nats.url();
    args.extend(["--server", &url]);
    args.extend(if role == "client" { &["--listen", "127.0.0.1:0"][..] } else { &[] });
    args.extend(flags);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_process_of_these_tests", "--nocapture", "--test-threads=1"]);
    command.env(KIND, kind).env(ARGS, args.join("\n"));
    command
}

/// What a started test program runs; nothing in the test run itself.
#[test]
fn a_process_of_these_tests() {
    let (Ok(kind), Ok(args)) = (std::env::var(KIND), std::env::var(ARGS)) else { return };
    let code = panics::supervise(|| match run(&kind, &args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => panic!("{error:#}"),
    });
    std::process::exit(if code == ExitCode::SUCCESS { 0 } else { panics::EXIT_CODE.into() });
}

fn run(kind: &str, args: &str) -> anyhow::Result<()> {
    let command = config::parse(args.lines().map(Into::into).collect::<Vec<std::ffi::OsString>>())?;
    telemetry::init_logs("info", LogFormat::Human)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut told = signal(SignalKind::user_defined1())?;
        let (kind, is_main) = (kind.to_owned(), kind == "main");
        let happens = async move {
            told.recv().await;
            happen(&kind).await;
        };
        let role = async {
            match command {
                config::Command::Client(settings) => role::client::run(settings).await,
                config::Command::Broker(settings) => role::broker::run(settings).await,
                config::Command::Upstream(settings) => role::upstream::run(settings, Vec::new()).await,
                _ => unreachable!("these tests start no other"),
            }
        };
        if is_main {
            tokio::select! {
                ended = role => ended,
                () = happens => unreachable!("it panics"),
            }
        } else {
            tokio::spawn(happens);
            role.await
        }
    })
}

async fn happen(kind: &str) {
    match kind {
        "task" | "main" => panic!("a test says so"),
        "thread" => drop(std::thread::spawn(|| panic!("a test says so"))),
        "lock" => {
            let lock = Arc::new(Mutex::new("whole"));
            let holder = Arc::clone(&lock);
            let held = tokio::spawn(async move {
                let mut guarded = holder.lock();
                *guarded = "half changed";
                panic!("a test says so");
            });
            held.await.ok();
            eprintln!("somebody sees it {}", lock.lock());
        }
        other => panic!("no kind of panic: {other}"),
    }
}

const KIND: &str = "PANIC_KIND";
const ARGS: &str = "PANIC_ARGS";
