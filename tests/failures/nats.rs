//! NATS that is not there.

use std::time::Duration;

use crate::support::*;

#[tokio::test]
async fn without_nats_the_answer_is_503_at_once() {
    let relay = Relay::start().await;
    assert_eq!(relay.get("/").await.status(), 200);
    relay.nats.process().kill9();
    eventually_async("the client agent notices", || async { relay.client.page("/readyz").await.0 == 503 })
        .await;
    for _ in 0..3 {
        let answer = within(Duration::from_secs(5), "an answer at once", relay.get("/")).await;
        let answer = problem(answer).await;
        answer.is(503, "nats_unreachable", "client");
        assert!(answer.retry_after.is_some());
    }
    for role in [&relay.client, &relay.agent, relay.broker.as_ref().unwrap()] {
        eventually_async("every process says so", || async { role.page("/readyz").await.0 == 503 }).await;
        assert_eq!(role.page("/healthz").await.0, 200, "it is alive all the same");
        assert_eq!(role.metric("relay_nats_connected", "").await, 0.0);
    }
}

#[tokio::test]
async fn a_frozen_nats_server_is_noticed_within_seconds_and_answered_for_with_503() {
    let relay = Relay::start().await;
    assert_eq!(relay.get("/").await.status(), 200);
    relay.nats.process().stop();
    for role in [&relay.client, &relay.agent, relay.broker.as_ref().unwrap()] {
        let noticed =
            eventually_async("every process notices", || async { role.page("/readyz").await.0 == 503 });
        within(Duration::from_secs(8), "far before TCP does", noticed).await;
    }
    problem(relay.get("/").await).await.is(503, "nats_unreachable", "client");
    relay.nats.process().cont();
    eventually_async("all is well again", || async { relay.get("/").await.status() == 200 }).await;
}

#[tokio::test]
async fn a_client_agent_that_never_found_nats_answers_503() {
    let nowhere = origin::unused_port();
    let client = Role::spawn(&format!("nats://127.0.0.1:{nowhere}"), "client", &["--upstream", "hello"], &[]);
    let answer = within(Duration::from_secs(10), "an answer at once", client.get("/")).await;
    problem(answer).await.is(503, "nats_unreachable", "client");
    let (status, text) = client.page("/readyz").await;
    assert_eq!(status, 503);
    assert!(text.contains("NATS"), "{text}");
}

#[tokio::test]
async fn processes_find_nats_when_it_comes_later() {
    let origin = Origin::echo().await;
    let nats = Nats::start().await;
    nats.process().kill9();
    let client = nats.spawn("client", &["--upstream", "hello"]);
    let agent = nats.spawn("upstream", &["--name", "hello", "--to", &origin.url()]);
    assert_eq!(client.get("/").await.status(), 503);
    let _nats = nats.restart().await;
    let (client, _agent) = tokio::join!(client.ready(), agent.ready());
    assert_eq!(client.get("/").await.status(), 200);
}
