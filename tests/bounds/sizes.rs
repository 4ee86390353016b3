//! Bodies, header blocks and request targets.

use crate::support::{origin::serve_once, *};

#[tokio::test]
async fn a_body_over_the_limit_is_413_that_names_the_limit() {
    let relay = Relay::to(Origin::echo().await).client(&["--max-body", "10KiB"]).start().await;
    assert_eq!(relay.post("/", vec![b'x'; 10 * 1024]).await.status(), 200);
    let answer = problem(relay.post("/", vec![b'x'; 10 * 1024 + 1]).await).await;
    answer.is(413, "body_too_large", "client").names("--max-body").names("10240");

    let mut raw = relay.raw().await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..11 {
        // It may be refused before all is sent.
        raw.try_send(format!("400\r\n{}\r\n", "x".repeat(1024))).await.ok();
    }
    raw.try_send("0\r\n\r\n").await.ok();
    raw.answer().await.problem().is(413, "body_too_large", "client").names("--max-body");
    assert_eq!(relay.origin.hits(), 1);
}

#[tokio::test]
async fn an_endless_body_is_refused_before_it_ends() {
    let relay = Relay::to(Origin::echo().await).client(&["--max-body", "10KiB"]).start().await;
    let mut raw = relay.raw().await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n").await;
    let answer = raw.try_answer().await.expect("an answer without waiting for the body");
    assert!((400..500).contains(&answer.status), "{}", answer.head);

    let mut raw = relay.raw().await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..20 {
        raw.try_send(format!("400\r\n{}\r\n", "x".repeat(1024))).await.ok();
    }
    raw.answer().await.problem().is(413, "body_too_large", "client");
    assert_eq!(relay.get("/").await.status(), 200);
}

#[tokio::test]
async fn a_connection_header_that_names_too_much_is_431() {
    let relay = Relay::to(Origin::echo().await).start().await;
    let ask = |header: String| format!("GET / HTTP/1.1\r\nHost: a\r\nX-1: 1\r\nX-Stays: 1\r\n{header}\r\n");
    let names = |count: usize| (0..count).map(|i| format!("x-{i}")).collect::<Vec<_>>().join(",");
    let few = format!("Connection: {}\r\n", names(100));
    assert_eq!(relay.raw().await.ask(ask(few)).await.status, 200);
    let seen = relay.origin.only();
    assert!(seen.values("x-1").is_empty() && seen.value("x-stays") == "1");
    let one = format!("Connection: {}\r\n", names(101));
    let empty = format!("Connection: {}\r\n", ",".repeat(31_000));
    let several = format!("Connection: {}\r\n", names(2)).repeat(51);
    for many in [one, empty, several] {
        relay
            .raw()
            .await
            .ask(ask(many))
            .await
            .problem()
            .is(431, "headers_too_large", "client")
            .names("Connection");
    }
    assert_eq!(relay.origin.hits(), 1);
}

#[tokio::test]
async fn as_many_headers_are_taken_over_http2_as_over_http1() {
    let relay = Relay::to(Origin::echo().await).start().await;
    let tcp = tokio::net::TcpStream::connect(relay.client.address().await).await.unwrap();
    let (sender, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    // The origin of this test takes a hundred as well, those included that tell it who asks.
    for (count, status) in [(90, 200), (101, 431)] {
        let mut request = http::Request::get("http://test/");
        for number in 0..count {
            request = request.header(format!("x-{number}"), "1");
        }
        let (response, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), status, "{count}");
    }
    assert_eq!(relay.origin.hits(), 1);
}

#[tokio::test]
async fn a_header_block_over_the_limit_is_431_that_names_the_limit() {
    let relay = Relay::to(Origin::echo().await).client(&["--max-header-bytes", "8KiB"]).start().await;
    let with = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX-Large: {}\r\n\r\n", "x".repeat(bytes));
    assert_eq!(relay.raw().await.ask(with(7 * 1024)).await.status, 200);
    let answer = relay.raw().await.ask(with(9 * 1024)).await;
    answer.problem().is(431, "headers_too_large", "client").names("--max-header-bytes").names("8192");
    // Far above it nobody reads to the end.
    let mut raw = relay.raw().await;
    raw.try_send(with(200 * 1024)).await.ok();
    if let Ok(answer) = raw.try_answer().await {
        assert_eq!(answer.status, 431, "{}", answer.head);
    }
    let many: String = (0..5000).map(|i| format!("X-{i}: 1\r\n")).collect();
    let mut raw = relay.raw().await;
    raw.try_send(format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")).await.ok();
    if let Ok(answer) = raw.try_answer().await {
        assert_eq!(answer.status, 431, "{}", answer.head);
    }
    assert_eq!(relay.origin.hits(), 1);
}

#[tokio::test]
async fn a_target_over_the_limit_is_414_that_names_the_limit() {
    let relay = Relay::start().await;
    let with = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(bytes));
    assert_eq!(relay.raw().await.ask(with(32 * 1024 - 1)).await.status, 200);
    assert_eq!(relay.origin.only().target.len(), 32 * 1024);
    let answer = relay.raw().await.ask(with(32 * 1024)).await;
    answer.problem().is(414, "target_too_long", "client").names("32768");
    let mut raw = relay.raw().await;
    raw.try_send(with(400 * 1024)).await.ok();
    if let Ok(answer) = raw.try_answer().await {
        assert!([414, 431].contains(&answer.status), "{}", answer.head);
    }
    assert_eq!(relay.origin.hits(), 1);
}

#[tokio::test]
async fn a_response_over_the_agents_limit_is_502() {
    let origin =
        Origin::start(|seen| async move { answer(200, vec![b'x'; seen.target[1..].parse().unwrap()]) });
    let relay = Relay::to(origin.await).agent(&["--max-body", "10KiB"]).start().await;
    assert_eq!(relay.get("/10240").await.bytes().await.unwrap().len(), 10 * 1024);
    let answer = problem(relay.get("/10241").await).await;
    answer.is(502, "response_too_large", "upstream").names("--max-body").names("10240");

    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5000\r\n{}\r\n0\r\n\r\n",
        "x".repeat(0x5000)
    );
    let chunked: &'static str = chunked.leak();
    let origin = Origin::tcp(move |stream| serve_once(stream, chunked)).await;
    let relay = Relay::to(origin).agent(&["--max-body", "10KiB"]).start().await;
    let answer = problem(relay.get("/").await).await;
    answer.is(502, "response_too_large", "upstream").names("--max-body");
}

#[tokio::test]
async fn a_small_max_payload_limits_heads_but_not_bodies() {
    let origin = Origin::start(|seen| async move {
        match seen.target[1..].parse() {
            Ok(bytes) => answer(200, vec![b'x'; bytes]),
            Err(_) => {
                let mut large = answer(200, "x");
                let value = "x".repeat(40 * 1024).parse().unwrap();
                large.headers_mut().insert("x-large", value);
                large
            }
        }
    });
    let relay = Relay::to(origin.await).nats("max_payload: 32KB\n").start().await;
    assert_eq!(relay.post("/1", vec![b'x'; 500 * 1024]).await.status(), 200);
    assert_eq!(relay.origin.only().body.len(), 500 * 1024);
    assert_eq!(relay.get("/500000").await.bytes().await.unwrap().len(), 500_000);

    let head = format!("GET /1 HTTP/1.1\r\nHost: a\r\nX-Large: {}\r\n\r\n", "x".repeat(40 * 1024));
    let answer = relay.raw().await.ask(head).await.problem();
    answer.is(431, "headers_too_large", "client").names("max_payload").names("32768");
    let answer = problem(relay.get("/large").await).await;
    answer.is(502, "response_too_large", "upstream").names("max_payload");
    for _ in 0..3 {
        assert_eq!(relay.get("/1").await.status(), 200, "the connection to NATS still stands");
    }
    assert_eq!(relay.client.metric("relay_nats_reconnects_total", "").await, 0.0);
    assert_eq!(relay.agent.metric("relay_nats_reconnects_total", "").await, 0.0);
}

#[tokio::test]
async fn a_response_head_beyond_reason_is_502() {
    let head: String = (0..2000).map(|i| format!("X-{i}: {i}\r\n")).collect();
    let many: &'static str = format!("HTTP/1.1 200 OK\r\n{head}Content-Length: 0\r\n\r\n").leak();
    let long: &'static str =
        format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(2 << 20)).leak();
    for answer in [many, long] {
        let relay = Relay::to(Origin::tcp(move |stream| serve_once(stream, answer)).await).start().await;
        let answer = problem(relay.get("/").await).await;
        assert_eq!(answer.status, 502);
        assert!(["origin_broken", "response_too_large"].contains(&answer.code.as_str()), "{answer:?}");
    }
}
