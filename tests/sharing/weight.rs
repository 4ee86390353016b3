//! Weights.

use crate::support::{load::counted, *};

#[tokio::test]
async fn an_agent_gets_requests_by_its_weight() {
    let relay = Relay::to(Origin::echo().await).agent(&["--weight", "4"]).start().await;
    let other = relay.another_agent(&[]).await;
    let load = Load::start(&relay.client, 8).await;
    load.goes_on(2000).await;
    let (asked, failed) = load.end().await;
    assert!(failed.is_empty(), "{:?}", counted(&failed));
    let share = other.metric("relay_origin_calls_total", "answered").await / asked as f64;
    // A fifth: of 2,000 that is 400, give or take 18.
    assert!((0.14..0.26).contains(&share), "{share}");
    assert_eq!(relay.origin.hits(), asked);
}

#[tokio::test]
async fn a_heavy_agent_leaves_without_losing_a_request() {
    let relay = Relay::to(Origin::echo().await).agent(&["--weight", "20"]).start().await;
    let other = relay.another_agent(&[]).await;
    let load = Load::start(&relay.client, 8).await;
    load.goes_on(300).await;
    relay.agent.term();
    assert!(relay.agent.ended().await.success());
    load.goes_on(100).await;
    let (asked, failed) = load.end().await;
    assert!(failed.is_empty(), "of {asked}: {:?}", counted(&failed));
    assert_eq!(relay.origin.hits(), asked, "each ran once");
    drop(other);
}

#[tokio::test]
async fn a_new_weight_fails_no_request_of_an_agent_that_is_alone() {
    let origin = Origin::echo().await;
    let nats = Nats::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |more: &str| {
        let text = format!("[[upstream]]\nname = \"hello\"\nto = \"{}\"\n{more}\n", origin.url());
        std::fs::write(file.path(), text).unwrap();
    };
    write("");
    let agent = nats.spawn("upstream", &["--config", file.path().to_str().unwrap()]);
    // Without a broker, so that a request that reaches nobody fails.
    let (agent, client) = tokio::join!(agent.ready(), nats.client(&["--upstream", "hello"]));
    let load = Load::start(&client, 4).await;
    for weight in ["weight = 10", "weight = 3", ""] {
        load.goes_on(100).await;
        write(weight);
        agent.hangup();
        load.goes_on(300).await;
    }
    let (asked, failed) = load.end().await;
    assert!(failed.is_empty(), "of {asked}: {:?}", counted(&failed));
    assert_eq!(agent.lines("new settings").len(), 3);
}
