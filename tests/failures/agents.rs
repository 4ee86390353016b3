//! Agents that die with a request in their hands.

use std::time::Duration;

use crate::support::*;

#[tokio::test]
async fn an_agent_that_dies_with_a_post_is_502_as_soon_as_it_is_known() {
    let relay = Relay::to(Origin::silent().await).start().await;
    let elsewhere = Origin::saying("a second time").await;
    let post = relay.post("/pay", "once");
    let death = async {
        eventually("the origin has the request", || relay.origin.hits() == 1).await;
        // Somebody else is there who could take it, and must not.
        let other = relay.nats.upstream("hello", &elsewhere.url(), &[]).await;
        acknowledged(&relay).await;
        relay.agent.kill9();
        other
    };
    let (answer, _other) = within(Duration::from_secs(10), "far before --response-wait (30 s)", async {
        tokio::join!(post, death)
    })
    .await;
    problem(answer).await.is(502, "agent_gone", "broker");
    assert_eq!((relay.origin.hits(), elsewhere.hits()), (1, 0), "it ran once");
    assert_eq!(relay.get("/").await.text().await.unwrap(), "a second time", "the upstream goes on");
}

#[tokio::test]
async fn a_get_whose_agent_dies_is_answered_by_another() {
    let relay = Relay::to(Origin::silent().await).start().await;
    let elsewhere = Origin::saying("from the other").await;
    let get = relay.get("/");
    let death = async {
        eventually("the origin has the request", || relay.origin.hits() == 1).await;
        let other = relay.nats.upstream("hello", &elsewhere.url(), &[]).await;
        acknowledged(&relay).await;
        relay.agent.kill9();
        other
    };
    let (answer, _other) = within(Duration::from_secs(10), "far before --response-wait (30 s)", async {
        tokio::join!(get, death)
    })
    .await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "from the other");
    assert_eq!(elsewhere.hits(), 1);
}

#[tokio::test]
async fn a_get_whose_only_agent_dies_is_502_and_does_not_wait_for_the_ttl() {
    let relay = Relay::to(Origin::silent().await).start().await;
    let get = relay.get("/");
    let death = async {
        eventually("the origin has the request", || relay.origin.hits() == 1).await;
        acknowledged(&relay).await;
        relay.agent.kill9();
    };
    let (answer, ()) = within(Duration::from_secs(10), "far before --response-wait (30 s)", async {
        tokio::join!(get, death)
    })
    .await;
    problem(answer).await.is(502, "agent_gone", "broker");
}

/// Waits until a broker watches the request and has probed who took it: from then on its death is known.
async fn acknowledged(relay: &Relay) {
    relay.client.counts("relay_requests_held", "", 1.0).await;
}
