//! Brokers that go away, and no broker at all.

use std::time::Duration;

use crate::support::*;

#[tokio::test]
async fn a_broker_killed_while_it_holds_requests_is_replaced_by_another() {
    let nats = Nats::start().await;
    let flags = ["--wait", "25s"];
    let (client, one, two) =
        tokio::join!(nats.client(&["--upstream", "hello"]), nats.broker(&flags), nats.broker(&flags));
    let origin = Origin::echo().await;
    let requests = futures_util::future::join_all((0..6).map(|i| client.post("/", format!("{i}"))));
    let events = async {
        eventually_async("the brokers hold all", || async { held(&one).await + held(&two).await >= 6.0 })
            .await;
        let (dies, stays) = if held(&one).await > 0.0 { (&one, &two) } else { (&two, &one) };
        dies.kill9();
        stays.counts("relay_requests_held", "", 6.0).await;
        nats.upstream("hello", &origin.url(), &[]).await
    };
    let (answers, _agent) = tokio::join!(requests, events);
    for (i, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), i.to_string());
    }
    assert_eq!(origin.hits(), 6);
}

#[tokio::test]
async fn a_broker_that_stops_hands_over() {
    let nats = Nats::start().await;
    let flags = ["--wait", "25s"];
    let (client, first) = tokio::join!(nats.client(&["--upstream", "hello"]), nats.broker(&flags));
    let origin = Origin::echo().await;
    let events = async {
        first.counts("relay_requests_held", "", 1.0).await;
        let second = nats.broker(&flags).await;
        first.term();
        assert!(first.ended().await.success());
        second.counts("relay_requests_held", "", 1.0).await;
        (second, nats.upstream("hello", &origin.url(), &[]).await)
    };
    let (answer, _rest) = tokio::join!(client.get("/"), events);
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn when_the_only_broker_dies_nobody_waits_for_it() {
    let nats = Nats::start().await;
    let (client, broker) =
        tokio::join!(nats.client(&["--upstream", "hello"]), nats.broker(&["--wait", "60s"]));
    let death = async {
        broker.counts("relay_requests_held", "", 1.0).await;
        broker.kill9();
    };
    let (answer, ()) = within(Duration::from_secs(15), "far before --wait and --ttl", async {
        tokio::join!(client.get("/"), death)
    })
    .await;
    problem(answer).await.is(503, "no_agent", "client");
}

#[tokio::test]
async fn a_client_agent_that_dies_leaves_nothing_at_the_broker() {
    let nats = Nats::start().await;
    let (client, broker) =
        tokio::join!(nats.client(&["--upstream", "hello"]), nats.broker(&["--wait", "300s"]));
    let mut raw = client.raw().await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    broker.counts("relay_requests_held", "", 1.0).await;
    client.kill9();
    eventually_async("the broker forgets what is not renewed", || async { held(&broker).await == 0.0 }).await;
}

#[tokio::test]
async fn a_request_at_its_origin_outlives_every_broker() {
    let gate = tokio::sync::watch::Sender::new(false);
    let relay = Relay::to(Origin::gated(&gate).await).start().await;
    let events = async {
        relay.client.counts("relay_requests_held", "", 1.0).await;
        relay.broker.as_ref().unwrap().kill9();
        eventually_async("the client agent knows that its broker is gone", || async {
            relay.client.metric("relay_requests_held", "").await == 0.0
        })
        .await;
        gate.send_replace(true);
    };
    let (answer, ()) = tokio::join!(relay.post("/", "still there"), events);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "still there");
    assert_eq!(relay.origin.hits(), 1);
}

#[tokio::test]
async fn ordinary_requests_need_no_broker() {
    let origin = Origin::start(|seen| async move {
        let slow = seen.target == "/slow";
        tokio::time::sleep(Duration::from_millis(if slow { 900 } else { 0 })).await;
        answer(200, seen.target)
    });
    let relay = Relay::to(origin.await).client(&["--patience", "100ms"]).no_broker().start().await;
    for target in ["/", "/slow", "/again"] {
        let answer = relay.get(target).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), target);
    }
    assert_eq!(relay.origin.hits(), 3);
}

#[tokio::test]
async fn a_broker_that_starts_late_learns_who_is_there_and_watches() {
    let relay = Relay::to(Origin::silent().await).no_broker().start().await;
    let late = async {
        eventually("the origin has the request", || relay.origin.hits() == 1).await;
        let broker = relay.nats.broker(&["--response-wait", "600ms"]).await;
        broker.counts("relay_agents", "", 1.0).await;
        broker
    };
    let (answer, _broker) = tokio::join!(relay.get("/"), late);
    problem(answer).await.is(504, "response_timeout", "broker");
}

async fn held(broker: &Role) -> f64 {
    broker.metric("relay_requests_held", "").await
}
