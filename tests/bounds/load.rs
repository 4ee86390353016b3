//! More requests than there is room for.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;

use crate::support::*;

#[tokio::test]
async fn more_requests_than_the_client_agent_may_have_are_503() {
    for (flag, value) in [("--max-in-flight", "2"), ("--max-in-flight-per-upstream", "2")] {
        let gate = watch::Sender::new(false);
        let relay = Relay::to(Origin::gated(&gate).await).client(&[flag, value]).start().await;
        let third = async {
            eventually("two are at the origin", || relay.origin.open() == 2).await;
            let third = problem(relay.get("/").await).await;
            gate.send_replace(true);
            third
        };
        let (one, two, third) = tokio::join!(relay.get("/"), relay.get("/"), third);
        assert_eq!((one.status().as_u16(), two.status().as_u16()), (200, 200));
        third.is(503, "client_full", "client").names(flag);
        assert_eq!(third.retry_after, Some(1));
        assert_eq!(relay.get("/").await.status(), 200, "there is room again");
        assert_eq!(relay.origin.hits(), 3);
    }
}

#[tokio::test]
async fn more_connections_than_the_client_agent_may_have_are_503() {
    let relay = Relay::to(Origin::echo().await).client(&["--max-connections", "2"]).start().await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (mut one, mut two) = (relay.raw().await, relay.raw().await);
    assert_eq!((one.ask(request).await.status, two.ask(request).await.status), (200, 200));
    let mut third = relay.raw().await;
    third.ask(request).await.problem().is(503, "client_full", "client").names("--max-connections");
    third.until_closed().await;
    drop(one);
    eventually_async("there is room again", || async { relay.raw().await.ask(request).await.status == 200 })
        .await;
}

#[tokio::test]
async fn more_bytes_of_bodies_than_may_be_in_memory_are_503() {
    let gate = watch::Sender::new(false);
    let relay = Relay::to(Origin::gated(&gate).await).client(&["--max-buffered", "150KiB"]).start().await;
    let body = || vec![b'x'; 100 * 1024];
    let second = async {
        eventually("one is at the origin", || relay.origin.open() == 1).await;
        let second = problem(relay.post("/", body()).await).await;
        gate.send_replace(true);
        second
    };
    let (one, second) = tokio::join!(relay.post("/", body()), second);
    assert_eq!(one.status(), 200);
    second.is(503, "client_full", "client").names("--max-buffered");
    assert_eq!(one.bytes().await.unwrap().len(), 100 * 1024);
    assert_eq!(relay.post("/", body()).await.status(), 200, "there is room again");
}

#[tokio::test]
async fn an_agent_at_its_limit_leaves_requests_to_another() {
    let gate = watch::Sender::new(false);
    let one = ["--max-in-flight", "1"];
    let relay = Relay::to(Origin::gated(&gate).await).agent(&one).start().await;
    let other = relay.another_agent(&one).await;
    let opening = async {
        eventually("both agents have one", || relay.origin.open() == 2).await;
        assert_eq!(relay.agent.metric("relay_requests_in_flight", "").await, 1.0);
        assert_eq!(other.metric("relay_requests_in_flight", "").await, 1.0);
        gate.send_replace(true);
    };
    let (answers, ()) = tokio::join!(join_all((0..2).map(|_| relay.get("/"))), opening);
    assert!(answers.iter().all(|answer| answer.status() == 200));
    assert_eq!(relay.origin.hits(), 2);
}

#[tokio::test]
async fn when_all_agents_are_full_requests_wait_for_room() {
    let gate = watch::Sender::new(false);
    let one = ["--max-in-flight", "1"];
    let relay = Relay::to(Origin::gated(&gate).await).agent(&one).broker(&["--wait", "25s"]).start().await;
    let other = relay.another_agent(&one).await;
    let opening = async {
        eventually("both agents have one", || relay.origin.open() == 2).await;
        // Two are watched at the origin, four wait for room.
        relay.broker.as_ref().unwrap().counts("relay_requests_held", "", 6.0).await;
        gate.send_replace(true);
    };
    let (answers, ()) = tokio::join!(join_all((0..6).map(|i| relay.post("/", format!("{i}")))), opening);
    for (i, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), i.to_string());
    }
    assert_eq!(relay.origin.hits(), 6, "each ran once");
    drop(other);
}

#[tokio::test]
async fn agents_that_stay_full_are_503_after_the_wait() {
    let gate = watch::Sender::new(false);
    let relay = Relay::to(Origin::gated(&gate).await)
        .agent(&["--max-in-flight", "1"])
        .broker(&["--wait", "700ms"])
        .start()
        .await;
    let second = async {
        eventually("the agent has one", || relay.origin.open() == 1).await;
        let second = problem(relay.get("/").await).await;
        gate.send_replace(true);
        second
    };
    let (first, second) = tokio::join!(relay.get("/"), second);
    assert_eq!(first.status(), 200);
    second.is(503, "agents_full", "broker").names("hello");
    assert_eq!(relay.origin.hits(), 1);
}

#[tokio::test]
async fn more_requests_than_the_broker_may_hold_are_503() {
    let nats = Nats::start().await;
    let flags = ["--max-holds", "1", "--wait", "2s"];
    let (client, broker) = tokio::join!(nats.client(&["--upstream", "hello"]), nats.broker(&flags));
    let second = async {
        broker.counts("relay_requests_held", "", 1.0).await;
        problem(client.get("/").await).await
    };
    let (first, second) = tokio::join!(client.get("/"), second);
    second.is(503, "broker_full", "broker").names("--max-holds");
    problem(first).await.is(503, "no_agent", "broker");
}

#[tokio::test]
async fn a_burst_beyond_the_limits_of_agents_far_away_loses_no_request() {
    let origin = Origin::start(|seen| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        answer(200, seen.body)
    })
    .await;
    let nats = Nats::start().await;
    let far = Distance::to(nats.address(), Duration::from_millis(25)).await;
    let (url, to) = (far.url(), origin.url());
    let flags = ["--name", "hello", "--to", &to, "--max-in-flight", "10"];
    let start = || Role::spawn(&url, "upstream", &flags, &[]).ready();
    let waits = ["--wait", "25s", "--ack-wait", "2s"];
    let (client, _broker, _one, _two) =
        tokio::join!(nats.client(&["--upstream", "hello"]), nats.broker(&waits), start(), start());
    // What is on its way to an agent that has just become full must come back.
    for _ in 0..3 {
        let answers = join_all((0..100).map(|i| client.post("/", format!("{i}")))).await;
        for (i, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.text().await.unwrap(), i.to_string());
        }
    }
    assert_eq!(origin.hits(), 300, "each ran once");
}
