//! `/healthz`, `/readyz`, `/metrics`.

use crate::support::*;

#[tokio::test]
async fn every_process_tells_that_it_is_alive_and_ready() {
    let relay = Relay::start().await;
    for role in [&relay.client, &relay.agent, relay.broker.as_ref().unwrap()] {
        assert_eq!(role.page("/healthz").await, (200, "ok\n".into()));
        assert_eq!(role.page("/readyz").await, (200, "ready\n".into()));
        let (status, text) = role.page("/elsewhere").await;
        assert_eq!(status, 404);
        assert!(text.contains("/metrics"), "{text}");
        let admin = role.admin().await;
        assert!(admin.ip().is_loopback());
        let refused = Raw::connect(admin).await.ask("DELETE /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!((refused.status, refused.value("allow").as_str()), (405, "GET, HEAD"));
    }
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let origin =
        Origin::start(|seen| async move { answer(if seen.target == "/missing" { 404 } else { 200 }, "") });
    let relay = Relay::to(origin.await).client(&["--max-body", "512KiB"]).start().await;
    for path in ["/", "/", "/missing"] {
        relay.get(path).await;
    }
    relay.post("/", "x").await;
    let large = vec![b'x'; 600 * 1024];
    assert_eq!(relay.post("/", large).await.status(), 413);
    let client = &relay.client;
    for (name, labels, count) in [
        ("relay_requests_total", r#"method="GET",status="2xx""#, 2.0),
        ("relay_requests_total", r#"status="4xx""#, 2.0),
        ("relay_requests_total", r#"upstream="hello""#, 5.0),
        ("relay_faults_total", "", 1.0),
        ("relay_faults_total", r#"code="body_too_large",raised_by="client""#, 1.0),
        ("relay_request_duration_seconds_count", r#"upstream="hello""#, 5.0),
        ("relay_requests_in_flight", "", 0.0),
        ("relay_nats_connected", "", 1.0),
        ("relay_nats_reconnects_total", "", 0.0),
    ] {
        client.counts(name, labels, count).await;
        assert_eq!(client.metric(name, labels).await, count, "{name}{{{labels}}}");
    }
    assert_eq!(relay.agent.metric("relay_origin_calls_total", r#"outcome="answered""#).await, 4.0);
    relay.broker.as_ref().unwrap().counts("relay_agents", "", 1.0).await;
}

#[tokio::test]
async fn a_fault_is_counted_on_the_side_that_raised_it() {
    let nats = Nats::start().await;
    let (client, _broker) =
        tokio::join!(nats.client(&["--upstream", "hello"]), nats.broker(&["--wait", "200ms"]));
    problem(client.get("/").await).await.is(503, "no_agent", "broker");
    client.counts("relay_faults_total", r#"code="no_agent",raised_by="broker""#, 1.0).await;
}

#[tokio::test]
async fn metrics_are_well_formed_and_say_nothing_of_single_requests() {
    let relay = Relay::start().await;
    let http = http();
    for i in 0..20 {
        let url = relay.url(&format!("/customers/hidden-{i}?token=hidden")).await;
        let method = http::Method::from_bytes(format!("HIDDEN{i}").as_bytes()).unwrap();
        let request = http.request(method, url).header("host", format!("hidden-{i}.example"));
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    for role in [&relay.client, &relay.agent, relay.broker.as_ref().unwrap()] {
        let text = role.metrics().await;
        assert!(!text.to_lowercase().contains("hidden"), "{text}");
        assert!(text.ends_with("# EOF\n"));
        assert!(text.contains(concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"")), "{text}");
        assert!(text.lines().count() < 100, "the labels have few values");
        for line in text.lines() {
            let well_formed = line.starts_with("# ")
                || line.rsplit_once(' ').is_some_and(|(_, n)| n.parse::<f64>().is_ok());
            assert!(well_formed && (line.starts_with('#') || line.starts_with("relay_")), "{line}");
        }
    }
    assert_eq!(relay.client.metric("relay_requests_total", r#"method="OTHER""#).await, 20.0);
}

#[tokio::test]
async fn without_an_address_the_admin_listener_takes_what_is_free_on_the_loopback() {
    let nats = Nats::start().await;
    let start = || {
        let url = nats.url();
        let args = ["client", "--server", &url, "--listen", "127.0.0.1:0", "--upstream", "hello"];
        Role::of("client", process::relay(&args)).ready()
    };
    let (one, two) = (start().await, start().await);
    let (one, two) = (one.admin().await, two.admin().await);
    assert!(one.ip().is_loopback() && two.ip().is_loopback());
    assert_ne!(one, two);
}

#[tokio::test]
async fn the_admin_listener_can_be_switched_off() {
    let nats = Nats::start().await;
    let client = nats.spawn("client", &["--upstream", "hello", "--admin", "off"]);
    client.says("connected to NATS").await;
    assert!(client.lines("admin listener").is_empty());
}
