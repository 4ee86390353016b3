//! Callers that go away.

use std::time::Duration;

use crate::support::*;

#[tokio::test]
async fn a_caller_that_goes_away_cancels_the_origin_call() {
    for flags in [&["--ack-delay", "0s"], &["--ack-delay", "10ms"]] {
        let relay = Relay::to(Origin::silent().await).agent(flags).start().await;
        let mut raw = relay.raw().await;
        raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").await;
        eventually("the origin has the request", || relay.origin.open() == 1).await;
        drop(raw);
        let hung_up = eventually("the origin's caller hangs up", || relay.origin.cancelled() == 1);
        within(Duration::from_secs(5), "the origin is told soon", hung_up).await;
        relay.client.counts("relay_requests_abandoned_total", "", 1.0).await;
        assert_eq!(relay.client.metric("relay_requests_in_flight", "").await, 0.0);
        assert_eq!(relay.agent.metric("relay_requests_in_flight", "").await, 0.0);
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_before_anybody_took_the_request_leaves_nothing_behind() {
    let nats = Nats::start().await;
    let (client, broker) =
        tokio::join!(nats.client(&["--upstream", "hello"]), nats.broker(&["--wait", "25s"]));
    let mut raw = client.raw().await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    broker.counts("relay_requests_held", "", 1.0).await;
    drop(raw);
    eventually_async("the broker forgets it", || async {
        broker.metric("relay_requests_held", "").await == 0.0
    })
    .await;
    assert_eq!(client.metric("relay_requests_in_flight", "").await, 0.0);
    let origin = Origin::echo().await;
    let _agent = nats.upstream("hello", &origin.url(), &[]).await;
    assert_eq!(client.get("/next").await.status(), 200);
    assert_eq!(origin.only().target, "/next", "what nobody waits for is not run");
}

#[tokio::test]
async fn a_caller_that_goes_away_halfway_through_its_body_sends_nothing() {
    let relay = Relay::start().await;
    for head in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let mut raw = relay.raw().await;
        raw.send(format!("POST /cut HTTP/1.1\r\nHost: a\r\n{head}")).await;
        drop(raw);
    }
    assert_eq!(relay.get("/next").await.status(), 200);
    assert_eq!(relay.origin.only().target, "/next");
}
