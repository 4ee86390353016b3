//! What is logged, and what never is.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::*;

#[tokio::test]
async fn the_access_log_tells_of_each_request() {
    let relay = Relay::start().await;
    assert_eq!(relay.post("/some/path?token=abc", "12345").await.status(), 200);
    let line = relay.client.says("request").await;
    for part in
        ["upstream=hello", "method=POST", "status=200", "bytes_in=5", "bytes_out=5", "peer=127.0.0.1", "ms="]
    {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(line.contains("id=client.") && line.contains("agent.") && line.contains("response"), "{line}");

    relay.agent.term();
    relay.agent.ended().await;
    relay.broker.as_ref().unwrap().kill9();
    let fault = problem(relay.get("/").await).await;
    let line = relay.client.says("no_agent").await;
    assert!(line.contains(&fault.request_id) && line.contains("status=503"), "{line}");
}

#[tokio::test]
async fn json_logs_are_one_object_a_line() {
    let json = ["--log-format", "json"];
    let relay = Relay::to(Origin::echo().await).client(&json).agent(&json).broker(&json).start().await;
    assert_eq!(relay.post("/", "12345").await.status(), 200);
    relay.client.says("bytes_in").await;
    for role in [&relay.client, &relay.agent, relay.broker.as_ref().unwrap()] {
        role.term();
        role.ended().await;
        let log = role.log();
        assert!(log.lines().count() > 2);
        for line in log.lines() {
            let json: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert!(json["level"].is_string() && json["timestamp"].is_string(), "{line}");
        }
    }
    let line = relay.client.says("bytes_in").await;
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((json["upstream"].as_str(), json["status"].as_u64()), (Some("hello"), Some(200)), "{line}");
    assert_eq!(json["decision"].as_str(), Some("response"), "{line}");
    assert!(json["id"].as_str().is_some_and(|id| id.starts_with("client.")), "{line}");
    assert!(json["agent"].as_str().is_some_and(|id| id.starts_with("agent.")), "{line}");
    assert!(
        json["ms"].as_str().and_then(|ms| ms.parse::<f64>().ok()).or(json["ms"].as_f64()).is_some(),
        "{line}"
    );
}

#[tokio::test]
async fn the_access_log_can_be_switched_off() {
    let relay = Relay::to(Origin::echo().await).client(&["--access-log", "off"]).start().await;
    assert_eq!(relay.get("/").await.status(), 200);
    relay.client.term();
    relay.client.ended().await;
    assert!(relay.client.lines("status=200").is_empty());
}

#[tokio::test]
async fn no_secret_and_no_callers_data_is_ever_logged() {
    let nats = Nats::with("authorization { user: relay, password: s3cr3t-pass }\n").await;
    let origin = Origin::start(|_| async {
        let mut answer = answer(200, "s3cr3t-answer");
        answer.headers_mut().insert("set-cookie", http::HeaderValue::from_static("id=s3cr3t-cookie"));
        answer
    });
    let origin = origin.await;
    let to = origin.url();
    let variables = [("NATS_USER", "relay"), ("NATS_PASSWORD", "s3cr3t-pass"), ("RUST_LOG", "relay=trace")];
    let start = |role: &str, flags: &[&str]| Role::spawn(&nats.url(), role, flags, &variables).ready();
    let (client, agent, broker) = tokio::join!(
        start("client", &["--upstream", "hello"]),
        start("upstream", &["--name", "hello", "--to", &to]),
        start("broker", &[]),
    );
    let url = client.url("/path?token=s3cr3t-query").await;
    let request =
        http().post(url).header("authorization", "Bearer s3cr3t-bearer").header("cookie", "s3cr3t-cookie");
    assert_eq!(request.body("s3cr3t-body").send().await.unwrap().status(), 200);
    client.says("status=200").await;
    for role in [&client, &agent, &broker] {
        role.term();
        role.ended().await;
        assert!(!role.log().contains("s3cr3t"), "{}", role.log());
    }
}

#[tokio::test]
async fn a_refused_secret_is_not_shown() {
    let nats = Nats::with("authorization { user: relay, password: right }\n").await;
    let in_url = format!("nats://relay:s3cr3t@{}", nats.address());
    for (server, password) in [(nats.url(), Some("s3cr3t")), (in_url, None)] {
        let mut variables = vec![("RUST_LOG", "relay=trace")];
        variables.extend(
            password.into_iter().flat_map(|password| [("NATS_USER", "relay"), ("NATS_PASSWORD", password)]),
        );
        let client = Role::spawn(&server, "client", &["--upstream", "hello"], &variables);
        client.says("uthorization").await;
        assert!(!client.log().contains("s3cr3t"), "{}", client.log());
        let mut ps = process::relay(&["ps", "--server", &server]);
        ps.envs(variables.iter().copied());
        let ps = process::run(ps).await;
        assert!(!ps.status.success() && !format!("{ps:?}").contains("s3cr3t"), "{ps:?}");
    }
}

#[tokio::test]
async fn a_user_in_a_servers_url_is_used_and_not_shown() {
    let nats = Nats::with("authorization { user: relay, password: \"s3cr3t@/\" }\n").await;
    let origin = Origin::echo().await;
    let url = format!("nats://relay:s3cr3t%40%2F@{}", nats.address());
    let start =
        |role: &str, flags: &[&str]| Role::spawn(&url, role, flags, &[("RUST_LOG", "relay=trace")]).ready();
    let to = origin.url();
    let (client, agent) = tokio::join!(
        start("client", &["--upstream", "hello"]),
        start("upstream", &["--name", "hello", "--to", &to])
    );
    assert_eq!(client.get("/").await.status(), 200);
    let ps = process::run(process::relay(&["ps", "--server", &url])).await;
    assert!(ps.status.success() && ps.out.contains("upstream"), "{ps:?}");
    for role in [&client, &agent] {
        assert!(!role.log().contains("s3cr3t"), "{}", role.log());
    }
    let up = Process::spawn("relay up", process::relay(&["up", "--listen", "127.0.0.1:0", "--server", &url]));
    up.says("Ctrl-C").await;
    assert!(!up.log().contains("s3cr3t"), "{}", up.log());
}

#[tokio::test]
async fn refused_credentials_are_said_once_and_not_at_each_attempt() {
    let nats = Nats::with("authorization { user: relay, password: right }\n").await;
    let variables = [("NATS_USER", "relay"), ("NATS_PASSWORD", "wrong"), ("RUST_LOG", "info")];
    let client = Role::spawn(&nats.url(), "client", &["--upstream", "hello"], &variables);
    client.says("NATS refuses the credentials").await;
    let attempts = || nats.process().lines("authentication error").len();
    eventually("it tries again", || attempts() >= 6).await;
    assert!(client.lines("ERROR").is_empty(), "{}", client.log());
    assert_eq!(client.lines("uthorization").len(), 1, "{}", client.log());
}

#[tokio::test]
async fn an_unreachable_server_is_named_and_said_once() {
    let server = format!("nats://relay:s3cr3t@127.0.0.1:{}", origin::unused_port());
    let client = Role::spawn(&server, "client", &["--upstream", "hello"], &[("RUST_LOG", "relay=debug")]);
    let said = client.says("NATS can't be reached").await;
    assert!(said.contains(&server.replace("relay:s3cr3t@", "")), "{said}");
    eventually("it tries again", || client.lines("DEBUG NATS").len() >= 3).await;
    assert_eq!(client.lines("NATS can't be reached").len(), 1, "{}", client.log());
}

#[tokio::test]
async fn a_server_that_ends_every_connection_does_not_fill_the_log() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", server.local_addr().unwrap());
    let client = Role::spawn(&url, "client", &["--upstream", "hello"], &[]);
    for _ in 0..400 {
        let (mut connection, _) = server.accept().await.unwrap();
        connection.write_all(b"INFO {\"server_id\":\"x\",\"version\":\"2.14.0\",\"proto\":1,\"headers\":true,\"max_payload\":1048576}\r\n").await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"PING\r\n") && connection.read_buf(&mut said).await.is_ok_and(|read| read > 0)
        {
        }
        connection.write_all(b"PONG\r\n").await.ok();
    }
    let said = client.lines("the connection to NATS is gone").len();
    assert!((1..200).contains(&said), "{said} lines for 400 connections");
}

#[tokio::test]
async fn losing_nats_and_finding_it_again_is_said_once() {
    let relay = Relay::start().await;
    let Relay { client, agent, broker, nats, .. } = relay;
    nats.process().kill9();
    client.says("the connection to NATS is gone").await;
    // Several attempts later.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let warnings = client.lines("WARN").len();
    assert!(warnings <= 4, "{}", client.log());
    let _nats = nats.restart().await;
    client.says("connected to NATS again").await;
    drop((agent, broker));
}
