//! `relay ps`, `relay decode`, `relay health`, `relay demo`.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use relay::wire::{Name, ProcessId, Reply, RequestId, codec::encode};

use crate::support::{process::run, *};

#[tokio::test]
async fn ps_shows_who_is_there() {
    let relay = Relay::start().await;
    let other = relay.another_agent(&["--max-in-flight", "7"]).await;
    assert_eq!(relay.get("/").await.status(), 200);
    let ps = run(process::relay(&["ps", "--server", &relay.nats.url()])).await;
    assert!(ps.status.success(), "{ps:?}");
    let lines: Vec<&str> = ps.out.lines().collect();
    assert!(lines[0].starts_with("ROLE ") && lines[0].contains("IN FLIGHT"), "{}", ps.out);
    let roles: Vec<&str> = lines[1..].iter().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(roles, ["broker", "client", "upstream", "upstream"], "{}", ps.out);
    assert!(ps.out.contains("0/7") && ps.out.contains("hello") && ps.out.contains(env!("CARGO_PKG_VERSION")));

    let ps = run(process::relay(&["ps", "--json", "--server", &relay.nats.url()])).await;
    let rows: serde_json::Value = serde_json::from_str(&ps.out).unwrap();
    let client = rows.as_array().unwrap().iter().find(|row| row["role"] == "client").unwrap();
    assert_eq!(
        (client["upstream"].as_str(), client["requests"].as_u64()),
        (Some("hello"), Some(1)),
        "{client}"
    );
    assert_eq!(client["accepting"], true);

    other.kill9();
    let ps = run(process::relay(&["ps", "--server", &relay.nats.url()])).await;
    assert_eq!(ps.out.matches("upstream ").count(), 1, "who is gone is gone at once: {}", ps.out);
}

#[tokio::test]
async fn ps_says_when_nobody_or_no_nats_is_there() {
    let nats = Nats::start().await;
    let ps = run(process::relay(&["ps", "--server", &nats.url()])).await;
    assert!(ps.status.success() && ps.out.contains("nobody is there"), "{ps:?}");
    let nowhere = format!("nats://127.0.0.1:{}", origin::unused_port());
    let ps = run(process::relay(&["ps", "--server", &nowhere])).await;
    assert!(!ps.status.success() && ps.out.is_empty(), "{ps:?}");
    assert!(ps.err.contains(&nowhere), "{ps:?}");
}

#[tokio::test]
async fn decode_prints_a_message_as_text() {
    let name: Name = "hello".parse().unwrap();
    let process: ProcessId = "client.abc".parse().unwrap();
    let mut headers = relay::wire::Headers::new();
    headers.insert(http::header::SET_COOKIE, http::HeaderValue::from_static("hidden=1"));
    let status = http::StatusCode::OK;
    let reply = Reply::response(RequestId::new(&process, &name, 0x2a), status, headers, "some text".into());
    let message = encode(&reply);
    let (text, success) = piped(&["decode"], &message).await;
    assert!(success);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["client_req_id"], "client.abc.hello.2a");
    assert_eq!((json["status_code"].as_u64(), json["body"].as_str()), (Some(200), Some("some text")));
    assert!(!text.contains("hidden=1"), "credentials are not shown: {text}");
    let (text, _) = piped(&["decode", "--full"], &message).await;
    assert!(text.contains("hidden=1"), "{text}");
    // What is no message passes as it is.
    for other in ["", "{\"a\":1}\n", "plain text"] {
        assert_eq!(piped(&["decode"], other.as_bytes()).await, (other.to_owned(), true));
    }
}

#[tokio::test]
async fn health_tells_by_its_exit_code() {
    let nats = Nats::start().await;
    let client = nats.client(&["--upstream", "hello"]).await;
    let admin = client.admin().await.to_string();
    for url in [admin.clone(), format!("http://{admin}"), format!("http://{admin}/")] {
        let health = run(process::relay(&["health", &url])).await;
        assert!(health.status.success(), "{health:?}");
        assert_eq!(health.out, "ready\n");
    }
    // As Docker sets it in a container; nothing listens there.
    let proxy = format!("http://127.0.0.1:{}", origin::unused_port());
    let mut health = process::relay(&["health", &admin]);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        health.env(name, &proxy);
    }
    let health = run(health).await;
    assert!(health.status.success(), "{health:?}");
    nats.process().kill9();
    eventually_async("the client agent notices", || async { client.page("/readyz").await.0 == 503 }).await;
    let health = run(process::relay(&["health", &admin])).await;
    assert!(!health.status.success() && health.err.contains("NATS"), "{health:?}");
    drop(client);
    let health = run(process::relay(&["health", &admin])).await;
    assert!(!health.status.success() && health.err.contains("--admin"), "{health:?}");
}

#[tokio::test]
async fn demo_answers_with_what_it_received() {
    let demo = Process::spawn("relay demo", process::relay(&["demo", "--listen", "127.0.0.1:0"]));
    let line = demo.says("demo origin on http://").await;
    let url = line.split_whitespace().last().unwrap().to_owned();
    let text = http().post(format!("{url}/a?b")).header("x-mine", "1").body("data").send().await.unwrap();
    let text = text.text().await.unwrap();
    assert!(text.contains("POST /a?b") && text.contains("x-mine: 1") && text.contains("data"), "{text}");
    demo.interrupt();
    assert!(demo.ended().await.success());
}

/// Standard output of relay with `input` on standard input.
async fn piped(args: &[&str], input: &[u8]) -> (String, bool) {
    let mut command: Command = process::relay(args);
    let input = input.to_vec();
    let work = tokio::task::spawn_blocking(move || {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&input).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = within(std::time::Duration::from_secs(30), "relay ends", work).await.unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
}
