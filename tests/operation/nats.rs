//! The `nats` command sees relay: its processes are services, its traffic is readable.

use std::process::Command;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::support::{
    process::{Ended, run, tool},
    *,
};

#[tokio::test]
async fn processes_are_nats_services() {
    let relay = Relay::start().await;
    assert_eq!(relay.get("/").await.status(), 200);
    let list = nats(&relay, &["micro", "ls"]).await.out;
    for service in ["relay-client", "relay-upstream-hello", "relay-broker"] {
        assert!(list.contains(service), "{list}");
        let info = nats(&relay, &["micro", "info", service]).await.out;
        assert!(info.contains(env!("CARGO_PKG_VERSION")), "{info}");
    }
    let info = nats(&relay, &["micro", "info", "relay-upstream-hello"]).await.out;
    assert!(info.contains("relay.req.hello"), "{info}");
    let stats = nats(&relay, &["micro", "stats", "relay-upstream-hello"]).await.out;
    assert!(stats.contains("requests"), "{stats}");
    let ping = nats(&relay, &["micro", "ping"]).await.out;
    assert!(ping.contains("relay-client"), "{ping}");
}

#[tokio::test]
async fn traffic_is_readable() {
    let relay = Relay::start().await;
    let translate = format!("{} decode", env!("CARGO_BIN_EXE_relay"));
    let mut sub = cli(&relay);
    sub.args(["sub", "relay.req.hello", "--count", "1", "--translate", &translate]);
    let sub = Process::spawn("nats sub", sub);
    // It says so before NATS has it; requests go on until one is seen.
    sub.says("Subscribing on").await;
    eventually_async("a request is seen", || async {
        assert_eq!(relay.post("/watched", "some text").await.status(), 200);
        !sub.lines("/watched").is_empty()
    })
    .await;
    let line = sub.says("/watched").await;
    for part in ["\"method\":\"POST\"", "\"upstream_target\":\"hello\"", "some text"] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[tokio::test]
async fn two_relays_in_one_nats_account_do_not_meet() {
    let nats = Nats::start().await;
    let (one, two) = (Origin::saying("one").await, Origin::saying("two").await);
    let (one, two) = (one.url(), two.url());
    let start = |prefix: &'static str, to: &str| {
        let client = nats.spawn("client", &["--prefix", prefix, "--upstream", "hello"]);
        let agent = nats.spawn("upstream", &["--prefix", prefix, "--name", "hello", "--to", to]);
        async { tokio::join!(client.ready(), agent.ready()) }
    };
    let ((here, _here), (there, _there)) = (start("here", &one).await, start("there", &two).await);
    for _ in 0..10 {
        assert_eq!(here.get("/").await.text().await.unwrap(), "one");
        assert_eq!(there.get("/").await.text().await.unwrap(), "two");
    }
}

#[tokio::test]
async fn a_request_goes_to_the_upstream_it_is_for() {
    let nats = Nats::start().await;
    let (one, two) = (Origin::saying("one").await, Origin::saying("two").await);
    let (one, two) = (one.url(), two.url());
    let (_one, _two, to_one, to_two, to_none) = tokio::join!(
        nats.upstream("one", &one, &[]),
        nats.upstream("two", &two, &[]),
        nats.client(&["--upstream", "one"]),
        nats.client(&["--upstream", "two"]),
        nats.client(&["--upstream", "three"]),
    );
    for _ in 0..10 {
        assert_eq!(to_one.get("/").await.text().await.unwrap(), "one");
        assert_eq!(to_two.get("/").await.text().await.unwrap(), "two");
    }
    problem(to_none.get("/").await).await.is(503, "no_agent", "client").names("three");
}

#[tokio::test]
async fn an_old_nats_server_is_warned_about() {
    let old = Origin::tcp(old_server).await;
    let broker = Role::spawn(&format!("nats://{}", old.address()), "broker", &[], &[]).ready().await;
    let line = broker.says("2.9.25").await;
    assert!(broker.lines("please upgrade").iter().any(|line| line.contains("WARN")), "{line}");
}

/// As much of a NATS server of long ago as a process needs to hear itself.
async fn old_server(stream: TcpStream) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let info = r#"INFO {"server_id":"x","version":"2.9.25","proto":1,"headers":true,"max_payload":1048576}"#;
    let mut say = format!("{info}\r\n");
    let mut inbox = None;
    loop {
        // Whoever is gone needs no answer.
        if write.write_all(say.as_bytes()).await.is_err() {
            return;
        }
        let Ok(Some(line)) = lines.next_line().await else { return };
        let words: Vec<&str> = line.split_whitespace().collect();
        say = match words[..] {
            ["PING"] => "PONG\r\n".into(),
            ["SUB", subject, sid] if subject.starts_with("relay.*.") => {
                inbox = Some(sid.to_owned());
                String::new()
            }
            ["PUB", subject, size] if subject.ends_with(".ready") => {
                let mut payload = vec![0; size.parse::<usize>().unwrap() + 2];
                lines.get_mut().read_exact(&mut payload).await.unwrap();
                let head = inbox.as_ref().map(|sid| format!("MSG {subject} {sid} {size}\r\n"));
                write.write_all(head.unwrap_or_default().as_bytes()).await.unwrap();
                write.write_all(&payload).await.unwrap();
                String::new()
            }
            _ => String::new(),
        };
    }
}

async fn nats(relay: &Relay, args: &[&str]) -> Ended {
    let mut command = cli(relay);
    command.args(args);
    let ended = run(command).await;
    assert!(ended.status.success(), "nats {args:?}: {ended:?}");
    ended
}

/// The `nats` command with no settings of whoever runs the tests.
fn cli(relay: &Relay) -> Command {
    let mut command = Command::new(tool("NATS_CLI", "nats"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NATS_")) {
        command.env_remove(name);
    }
    let home = relay.nats.directory();
    command.env("HOME", home).env("XDG_CONFIG_HOME", home).env("NO_COLOR", "1");
    command.args(["--server", &relay.nats.url()]);
    command
}
