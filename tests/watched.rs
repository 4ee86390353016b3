//! Somebody watches the traffic with a subscription to `relay.>`. NATS counts him as interest in everything, so
//! it never says "no responders": what that word tells must be found out in other ways.

mod support;

use std::time::{Duration, Instant};

use relay::bus::Subscription;
use support::*;

#[tokio::test]
async fn a_missing_agent_is_still_waited_for() {
    let nats = Nats::start().await;
    let _watcher = watch(&nats).await;
    let (_broker, client) =
        (nats.broker(&["--wait", "700ms"]).await, nats.client(&["--upstream", "hello"]).await);
    problem(client.get("/").await).await.is(503, "no_agent", "broker");

    let origin = Origin::saying("here").await;
    let url = origin.url();
    let (_late, answer) = tokio::join!(nats.upstream("hello", &url, &[]), client.post("/", "once"));
    assert_eq!(answer.text().await.unwrap(), "here");
    assert_eq!(origin.hits(), 1);
}

#[tokio::test]
async fn an_agent_that_dies_is_noticed_long_before_the_response_wait() {
    let nats = Nats::start().await;
    let _watcher = watch(&nats).await;
    let origin = Origin::silent().await;
    let url = origin.url();
    let (_broker, agent, client) = tokio::join!(
        nats.broker(&["--response-wait", "60s"]),
        nats.upstream("hello", &url, &["--ack-delay", "0s"]),
        nats.client(&["--upstream", "hello"]),
    );
    let started = Instant::now();
    let dies = async {
        eventually("the origin has the request", || origin.hits() == 1).await;
        agent.kill9();
    };
    let (answer, ()) = tokio::join!(client.post("/", "once"), dies);
    problem(answer).await.is(502, "agent_gone", "broker");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_broker_that_dies_while_it_holds_a_request_is_replaced() {
    let nats = Nats::start().await;
    let _watcher = watch(&nats).await;
    let origin = Origin::saying("here").await;
    let first = nats.broker(&["--wait", "30s"]).await;
    let client = nats.client(&["--upstream", "hello"]).await;
    let change = async {
        first.counts("relay_requests_held", "", 1.0).await;
        first.kill9();
        let second = nats.broker(&["--wait", "30s"]).await;
        second.counts("relay_requests_held", "", 1.0).await;
        (nats.upstream("hello", &origin.url(), &[]).await, second)
    };
    let (answer, _others) = tokio::join!(client.post("/", "once"), change);
    assert_eq!(answer.text().await.unwrap(), "here");
    assert_eq!(origin.hits(), 1);
}

#[tokio::test]
async fn without_a_broker_requests_flow() {
    let nats = Nats::start().await;
    let _watcher = watch(&nats).await;
    let origin = Origin::saying("here").await;
    let url = origin.url();
    let (_agent, client) =
        tokio::join!(nats.upstream("hello", &url, &[]), nats.client(&["--upstream", "hello"]));
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text().await.unwrap(), "here");
    }
}

async fn watch(nats: &Nats) -> Subscription {
    nats.connect().await.subscribe("relay.>".into()).await.unwrap()
}
