//! A NATS server that is restarted.

use crate::support::{load::counted, *};

#[tokio::test]
async fn after_a_restart_of_nats_everything_is_back_by_itself() {
    let relay = Relay::start().await;
    assert_eq!(relay.get("/").await.status(), 200);
    let Relay { client, agent, broker, mut nats, origin } = relay;
    let broker = broker.unwrap();
    for round in 1..=2 {
        nats.process().kill9();
        for role in [&client, &agent, &broker] {
            eventually_async("every process notices", || async { role.page("/readyz").await.0 == 503 }).await;
        }
        nats = nats.restart().await;
        for role in [&client, &agent, &broker] {
            eventually_async("every process is back", || async { role.page("/readyz").await.0 == 200 }).await;
            assert_eq!(role.metric("relay_nats_reconnects_total", "").await, f64::from(round));
        }
        broker.counts("relay_agents", "", 1.0).await;
        assert_eq!(client.post("/", "again").await.text().await.unwrap(), "again");
    }
    assert_eq!(origin.hits(), 3);
}

#[tokio::test]
async fn a_request_at_its_origin_outlives_a_restart_of_nats() {
    let gate = tokio::sync::watch::Sender::new(false);
    let relay = Relay::to(Origin::gated(&gate).await).start().await;
    let Relay { client, agent, broker, nats, origin } = relay;
    let events = async {
        eventually("the origin has the request", || origin.hits() == 1).await;
        nats.process().kill9();
        eventually_async("the agent notices", || async { agent.page("/readyz").await.0 == 503 }).await;
        // The answer is there while NATS is not.
        gate.send_replace(true);
        eventually("the origin has answered", || origin.open() == 0).await;
        nats.restart().await
    };
    let (answer, _nats) = tokio::join!(client.post("/", "kept"), events);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "kept");
    assert_eq!(origin.hits(), 1, "it ran once");
    drop(broker);
}

#[tokio::test]
async fn a_held_request_outlives_a_restart_of_nats() {
    let nats = Nats::start().await;
    let (client, broker) =
        tokio::join!(nats.client(&["--upstream", "hello"]), nats.broker(&["--wait", "40s"]));
    let origin = Origin::echo().await;
    let events = async {
        broker.counts("relay_requests_held", "", 1.0).await;
        let nats = nats.restart().await;
        let agent = nats.upstream("hello", &origin.url(), &[]).await;
        (nats, agent)
    };
    let (answer, _rest) = tokio::join!(client.get("/"), events);
    assert_eq!(answer.status(), 200);
    assert_eq!(origin.hits(), 1);
}

#[tokio::test]
async fn under_load_a_restart_of_nats_costs_only_the_requests_of_that_time() {
    let relay =
        Relay::to(Origin::echo().await).client(&["--ttl", "8s"]).broker(&["--ack-wait", "1s"]).start().await;
    let Relay { client, agent, broker, nats, origin } = relay;
    let load = Load::start(&client, 4).await;
    load.goes_on(50).await;
    let nats = nats.restart().await;
    for role in [&client, &agent, broker.as_ref().unwrap()] {
        role.counts("relay_nats_reconnects_total", "", 1.0).await;
        eventually_async("every process is back", || async { role.page("/readyz").await.0 == 200 }).await;
    }
    let (_, failed) = load.end().await;
    let seen = counted(&failed);
    let told = ["nats_unreachable", "no_agent", "ack_timeout", "ttl_expired"];
    assert!(seen.keys().all(|what| told.iter().any(|code| what.ends_with(code))), "{seen:?}");
    let load = Load::start(&client, 4).await;
    load.goes_on(50).await;
    let (_, failed) = load.end().await;
    assert!(failed.is_empty(), "afterwards all is well: {:?}", counted(&failed));
    drop((nats, origin));
}
