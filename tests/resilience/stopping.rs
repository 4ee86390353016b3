//! Processes that are told to stop.

use std::time::Duration;

use tokio::sync::watch;

use crate::support::*;

#[tokio::test]
async fn an_agent_told_to_stop_finishes_what_it_has() {
    let gate = watch::Sender::new(false);
    let relay = Relay::to(Origin::gated(&gate).await).start().await;
    let elsewhere = Origin::saying("the other").await;
    let events = async {
        eventually("the origin has the request", || relay.origin.open() == 1).await;
        let broker = relay.broker.as_ref().unwrap();
        broker.counts("relay_agents", "", 1.0).await;
        relay.agent.term();
        eventually_async("it has left", || async { broker.metric("relay_agents", "").await == 0.0 }).await;
        assert_eq!(relay.agent.page("/readyz").await.0, 503);
        let other = relay.nats.upstream("hello", &elsewhere.url(), &[]).await;
        for _ in 0..20 {
            assert_eq!(relay.get("/").await.text().await.unwrap(), "the other", "it gets nothing new");
        }
        gate.send_replace(true);
        other
    };
    let (answer, _other) = tokio::join!(relay.post("/", "finished"), events);
    assert_eq!(answer.text().await.unwrap(), "finished");
    assert!(relay.agent.ended().await.success());
}

#[tokio::test]
async fn a_client_agent_told_to_stop_finishes_what_it_has() {
    let gate = watch::Sender::new(false);
    let relay = Relay::to(Origin::gated(&gate).await).start().await;
    let address = relay.client.address().await;
    let mut idle = relay.raw().await;
    let events = async {
        eventually("the origin has the request", || relay.origin.open() == 1).await;
        relay.client.term();
        eventually_async("it takes no new connections", || async {
            tokio::net::TcpStream::connect(address).await.is_err()
        })
        .await;
        assert_eq!(relay.client.page("/readyz").await.0, 503);
        assert_eq!(idle.until_closed().await, b"", "an idle connection is closed");
        gate.send_replace(true);
    };
    let (answer, ()) = tokio::join!(relay.post("/", "finished"), events);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["connection"], "close", "the caller is told to come back on another");
    assert_eq!(answer.text().await.unwrap(), "finished");
    assert!(relay.client.ended().await.success());
}

#[tokio::test]
async fn a_process_does_not_wait_longer_than_its_grace() {
    let relay = Relay::to(Origin::silent().await)
        .client(&["--grace", "300ms"])
        .agent(&["--grace", "300ms"])
        .start()
        .await;
    let mut raw = relay.raw().await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the origin has the request", || relay.origin.open() == 1).await;
    for role in [&relay.agent, &relay.client] {
        role.term();
        assert!(within(Duration::from_secs(10), "the grace ends", role.ended()).await.success());
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_waiting() {
    let relay = Relay::to(Origin::silent().await).start().await;
    let mut raw = relay.raw().await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the origin has the request", || relay.origin.open() == 1).await;
    for role in [&relay.agent, &relay.client] {
        role.term();
        role.says("stopping: requests in flight may finish").await;
        assert!(role.is_running());
        role.interrupt();
        within(Duration::from_secs(10), "it ends at once", role.ended()).await;
    }
}

#[tokio::test]
async fn idle_processes_stop_at_once() {
    let relay = Relay::start().await;
    assert_eq!(relay.get("/").await.status(), 200);
    for role in [&relay.client, &relay.agent, relay.broker.as_ref().unwrap()] {
        role.term();
        assert!(within(Duration::from_secs(10), "nothing to wait for", role.ended()).await.success());
    }
}
