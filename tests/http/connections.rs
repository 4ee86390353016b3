//! Connections: kept, pipelined, old, and closed behind the agent's back.

use std::time::Duration;

use crate::support::{origin::serve, *};

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let relay = Relay::start().await;
    let mut raw = relay.raw().await;
    for i in 0..20 {
        let answer =
            raw.ask(format!("POST /{i} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{i:02}")).await;
        assert_eq!(answer.text(), format!("{i:02}"));
    }
    assert_eq!(relay.origin.connections(), 1, "the agent keeps its connection too");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|seen| async move {
        // The first is the slowest.
        let pause = if seen.target == "/0" { 150 } else { 0 };
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        answer(200, seen.target)
    });
    let relay = Relay::to(origin.await).start().await;
    let mut raw = relay.raw().await;
    let requests: String = (0..5).map(|i| format!("GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    raw.send(requests).await;
    for i in 0..5 {
        assert_eq!(raw.answer().await.text(), format!("/{i}"));
    }
}

#[tokio::test]
async fn a_caller_that_wants_the_connection_closed_gets_it_closed() {
    let relay = Relay::start().await;
    let mut raw = relay.raw().await;
    let answer = raw.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    assert_eq!(raw.until_closed().await, b"");
}

#[tokio::test]
async fn http_1_0_callers_are_served() {
    let origin = Origin::start(|_| async { answer(200, "old but good") });
    let relay = Relay::to(origin.await).start().await;
    let mut raw = relay.raw().await;
    let answer = raw.ask("GET /a HTTP/1.0\r\n\r\n").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "old but good"));
    assert!(!answer.has("transfer-encoding"), "{}", answer.head);
    assert_eq!(raw.until_closed().await, b"");
    let seen = relay.origin.only();
    assert_eq!(seen.value("via"), "1.0 relay");
    assert_eq!(seen.value("host"), relay.origin.address().to_string(), "it named no host: the origin's own");

    let mut raw = relay.raw().await;
    for _ in 0..2 {
        let answer = raw.ask("GET /b HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").await;
        assert_eq!(answer.text(), "old but good");
    }
}

#[tokio::test]
async fn a_chunked_body_arrives_whole() {
    let relay = Relay::start().await;
    let mut raw = relay.raw().await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n").await;
    for part in ["5;ext=1\r\nhello\r\n", "1\r\n \r\n", "0", "5\r\nwor", "ld\r\n0\r\nX-T: 1\r\n\r\n"] {
        raw.send(part).await;
        tokio::task::yield_now().await;
    }
    let answer = raw.answer().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello world"));
    let seen = relay.origin.only();
    assert_eq!(seen.body, "hello world");
    // It came without a length and slowly, so it goes on as it came.
    assert_eq!(
        (seen.value("transfer-encoding"), seen.value("content-length")),
        ("chunked".into(), String::new())
    );
}

#[tokio::test]
async fn a_chunked_response_arrives_whole() {
    let origin = Origin::tcp(|stream| async move {
        let answer =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        serve(stream, |_| Some(answer.into())).await;
    });
    let relay = Relay::to(origin.await).start().await;
    let mut raw = relay.raw().await;
    for _ in 0..2 {
        let answer = raw.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello world"));
    }
}

#[tokio::test]
async fn a_response_that_ends_with_its_connection_arrives_whole() {
    let origin = Origin::tcp(|stream| async move {
        origin::serve_once(stream, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nno length at all")
            .await;
    });
    let relay = Relay::to(origin.await).start().await;
    let answer = relay.raw().await.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "no length at all"));
}

#[tokio::test]
async fn a_caller_that_waits_for_100_continue_gets_it() {
    let relay = Relay::start().await;
    let mut raw = relay.raw().await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 4\r\n\r\n").await;
    let interim = raw.answer().await;
    assert_eq!(interim.status, 100);
    raw.send("data").await;
    let answer = raw.answer().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "data"));
    assert_eq!(
        relay.origin.only().value("expect"),
        "100-continue",
        "it is the origin that says whether to go on"
    );
}

#[tokio::test]
async fn a_body_that_will_be_refused_is_not_asked_for() {
    let relay = Relay::to(Origin::echo().await).client(&["--max-body", "1MiB"]).start().await;
    let mut raw = relay.raw().await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n").await;
    raw.answer().await.problem().is(413, "body_too_large", "client");
    assert_eq!(relay.origin.hits(), 0);
}

#[tokio::test]
async fn any_other_expectation_is_417() {
    let relay = Relay::start().await;
    let answer = relay.raw().await.ask("GET / HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\n\r\n").await;
    answer.problem().is(417, "bad_expectation", "client");
    assert_eq!(relay.origin.hits(), 0);
}

#[tokio::test]
async fn a_connection_that_the_origin_closed_meanwhile_costs_no_request() {
    let relay = Relay::start().await;
    let mut raw = relay.raw().await;
    for i in 0..30 {
        let answer = raw.ask(format!("GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "request {i}: {}", answer.text());
        relay.origin.close_connections();
    }
    assert_eq!(relay.origin.hits(), 30);
}

#[tokio::test]
async fn a_connection_that_the_origin_closes_on_the_next_request_costs_no_get() {
    // The worst kind of origin: it says nothing, and hangs up when the second request arrives.
    let origin = Origin::tcp(|stream| async move {
        let mut answers = 0;
        serve(stream, move |_| {
            answers += 1;
            (answers == 1).then(|| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into())
        })
        .await;
    });
    let relay = Relay::to(origin.await).start().await;
    let mut raw = relay.raw().await;
    for i in 0..10 {
        let answer = raw.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "request {i}");
    }
}

#[tokio::test]
async fn a_connection_that_was_idle_for_too_long_is_not_used_again() {
    let relay = Relay::to(Origin::echo().await).agent(&["--pool-idle", "200ms"]).start().await;
    assert_eq!((relay.get("/").await.status().as_u16(), relay.origin.connections()), (200, 1));
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    assert_eq!((relay.get("/").await.status().as_u16(), relay.origin.connections()), (200, 2));
}

#[tokio::test]
async fn no_more_idle_connections_are_kept_than_allowed() {
    let gate = tokio::sync::watch::Sender::new(false);
    let relay = Relay::to(Origin::gated(&gate).await).agent(&["--pool-size", "2"]).start().await;
    let opening = async {
        eventually("all are at the origin", || relay.origin.open() == 8).await;
        gate.send_replace(true);
    };
    let requests = futures_util::future::join_all((0..8).map(|_| relay.get("/")));
    let (answers, ()) = tokio::join!(requests, opening);
    assert!(answers.iter().all(|answer| answer.status() == 200));
    eventually("the others are closed", || relay.origin.connected() == 2).await;
}

#[tokio::test]
async fn a_caller_that_ends_its_side_gets_its_answer() {
    let gate = tokio::sync::watch::Sender::new(false);
    let relay = Relay::to(Origin::gated(&gate).await).start().await;
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody".to_owned(),
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n".to_owned(),
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n{}", "x".repeat(300_000)),
    ] {
        let body = request.split("\r\n\r\n").nth(1).unwrap_or_default().len();
        let mut raw = relay.raw().await;
        raw.send(request).await;
        raw.end().await;
        eventually("the origin has the request", || relay.origin.open() == 1).await;
        // The pause is what this is about: the connection is looked at meanwhile.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        gate.send_replace(true);
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.value("connection").as_str()), (200, "close"), "{}", answer.head);
        assert!(body == 0 || !answer.body.is_empty());
        assert_eq!(raw.until_closed().await, b"");
        gate.send_replace(false);
    }
    assert_eq!(relay.client.metric("relay_requests_abandoned_total", "").await, 0.0);

    // One that is gone behind its end is noticed.
    let mut raw = relay.raw().await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    raw.end().await;
    eventually("the origin has the request", || relay.origin.open() == 1).await;
    drop(raw);
    eventually("the origin's caller hangs up", || relay.origin.cancelled() == 1).await;
}

#[tokio::test]
async fn a_connection_may_be_idle_for_longer_than_a_head_may_take() {
    let flags = ["--header-timeout", "300ms", "--keep-alive", "2s"];
    let relay = Relay::to(Origin::echo().await).client(&flags).start().await;
    let mut raw = relay.raw().await;
    for pause in [0, 1000, 1000] {
        // The pause is what this is about.
        tokio::time::sleep(Duration::from_millis(pause)).await;
        assert_eq!(raw.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
    }
    // A head that has begun must go on.
    raw.send("GET / HT").await;
    within(Duration::from_millis(1700), "the end after --header-timeout", raw.until_closed()).await;
    // And an idle connection ends in its time, in order.
    let mut raw = relay.raw().await;
    assert_eq!(raw.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
    assert_eq!(raw.until_closed().await, b"");
}

#[tokio::test]
async fn a_connection_to_the_origin_is_used_for_its_time_and_no_longer() {
    for (age, connections) in [("5m", 1), ("0s", 4)] {
        let relay = Relay::to(Origin::echo().await).agent(&["--pool-max-age", age]).start().await;
        for _ in 0..4 {
            assert_eq!(relay.get("/").await.status(), 200);
        }
        assert_eq!(relay.origin.connections(), connections, "{age}");
    }
}
