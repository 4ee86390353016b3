//! The three waits of the broker, and what happens without one.

use std::time::{Duration, Instant};

use crate::support::*;

#[tokio::test]
async fn no_agent_within_the_wait_is_503() {
    let nats = Nats::start().await;
    let (client, broker) = tokio::join!(nats.client(HELLO), nats.broker(&["--wait", "600ms"]));
    let started = Instant::now();
    let answer = problem(client.get("/").await).await;
    answer.is(503, "no_agent", "broker").names("hello").names("--wait");
    assert!(answer.retry_after.is_some());
    assert!(started.elapsed() >= Duration::from_millis(550), "it waited {:?}", started.elapsed());
    drop(broker);
}

#[tokio::test]
async fn no_agent_and_no_broker_is_503_at_once() {
    let nats = Nats::start().await;
    let client = nats.client(HELLO).await;
    let answer = within(Duration::from_secs(5), "an answer without a wait", client.get("/")).await;
    let answer = problem(answer).await;
    answer.is(503, "no_agent", "client").names("hello").names("no broker");
    assert!(answer.retry_after.is_some());
}

#[tokio::test]
async fn a_ttl_that_ends_before_the_wait_does_not_say_that_there_is_no_broker() {
    let nats = Nats::start().await;
    let flags = [HELLO, &["--ttl", "500ms", "--patience", "50ms"]].concat();
    let (client, broker) = tokio::join!(nats.client(&flags), nats.broker(&["--wait", "60s"]));
    let answer = problem(client.get("/").await).await;
    answer.is(503, "no_agent", "client").names("hello").names("--ttl");
    assert!(!answer.detail.contains("broker"), "{answer:?}");
    drop(broker);
}

#[tokio::test]
async fn a_request_waits_for_its_agent_to_appear() {
    let nats = Nats::start().await;
    let origin = Origin::echo().await;
    let (client, broker) = tokio::join!(nats.client(HELLO), nats.broker(&["--wait", "25s"]));
    let requests = (0..3).map(|i| client.post("/", format!("waiting {i}")));
    let agent = async {
        broker.counts("relay_requests_held", "", 3.0).await;
        nats.upstream("hello", &origin.url(), &[]).await
    };
    let (answers, _agent) = tokio::join!(futures_util::future::join_all(requests), agent);
    for (i, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), format!("waiting {i}"));
    }
    assert_eq!(origin.hits(), 3, "each ran once");
    eventually_async("the broker forgets what is answered", || async {
        broker.metric("relay_requests_held", "").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn no_acknowledgement_in_time_is_504() {
    let relay = Relay::to(Origin::echo().await).broker(&["--ack-wait", "500ms"]).start().await;
    assert_eq!(relay.get("/").await.status(), 200);
    relay.agent.stop();
    let started = Instant::now();
    let answer = within(Duration::from_secs(10), "an answer after --ack-wait", relay.get("/")).await;
    problem(answer).await.is(504, "ack_timeout", "broker").names("--ack-wait");
    assert!(started.elapsed() >= Duration::from_millis(450));
    relay.agent.cont();
    assert_eq!(relay.get("/").await.status(), 200, "it is back");
}

#[tokio::test]
async fn a_frozen_agent_does_not_stop_the_others() {
    let relay = Relay::to(Origin::echo().await).broker(&["--ack-wait", "1s"]).start().await;
    let frozen = relay.another_agent(&[]).await;
    frozen.stop();
    // Each has its own connection; the frozen one's share fails, the others' are answered meanwhile.
    let answers = futures_util::future::join_all((0..40).map(|_| relay.get("/"))).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    assert!(statuses.contains(&200), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 504].contains(status)), "{statuses:?}");
    for answer in answers.into_iter().filter(|answer| answer.status() == 504) {
        problem(answer).await.is(504, "ack_timeout", "broker");
    }
    frozen.kill9();
    for _ in 0..20 {
        assert_eq!(relay.get("/").await.status(), 200);
    }
}

#[tokio::test]
async fn no_response_in_time_is_504_and_the_origin_call_is_cancelled() {
    let relay = Relay::to(Origin::silent().await).broker(&["--response-wait", "700ms"]).start().await;
    let answer = within(Duration::from_secs(10), "an answer after --response-wait", relay.get("/")).await;
    problem(answer).await.is(504, "response_timeout", "broker").names("--response-wait");
    eventually("the origin's caller hangs up", || relay.origin.cancelled() == 1).await;
    relay.agent.counts("relay_origin_calls_total", "cancelled", 1.0).await;
    assert_eq!(relay.origin.hits(), 1);
}

#[tokio::test]
async fn the_client_agents_ttl_is_the_last_word() {
    for broker in [true, false] {
        let plan = Relay::to(Origin::silent().await).client(&["--ttl", "700ms"]);
        let relay = if broker { plan.start().await } else { plan.no_broker().start().await };
        let answer = within(Duration::from_secs(10), "an answer after --ttl", relay.get("/")).await;
        problem(answer).await.is(504, "ttl_expired", "client").names("--ttl");
        eventually("the origin's caller hangs up", || relay.origin.cancelled() == 1).await;
    }
}

#[tokio::test]
async fn the_agents_ttl_bounds_the_origin() {
    let relay = Relay::to(Origin::silent().await).agent(&["--ttl", "500ms"]).start().await;
    let answer = within(Duration::from_secs(10), "an answer after the agent's --ttl", relay.get("/")).await;
    problem(answer).await.is(504, "response_timeout", "upstream").names("--ttl 500ms");
    eventually("the origin's caller hangs up", || relay.origin.cancelled() == 1).await;
}

#[tokio::test]
async fn a_slow_response_within_the_waits_is_answered() {
    let origin = Origin::start(|seen| async move {
        tokio::time::sleep(Duration::from_millis(900)).await;
        answer(200, seen.target)
    });
    let relay = Relay::to(origin.await)
        .client(&["--patience", "100ms"])
        .broker(&["--ack-wait", "300ms"])
        .start()
        .await;
    let answer = relay.get("/slow").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "/slow");
    assert_eq!(relay.origin.hits(), 1);
}

const HELLO: &[&str] = &["--upstream", "hello"];
