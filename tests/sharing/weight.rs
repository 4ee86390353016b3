//! Weights.

use std::time::Duration;

use tempfile::NamedTempFile;

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
async fn a_new_weight_counts_at_once() {
    let relay = Relay::to(Origin::echo().await).start().await;
    let file = settings(&relay.origin, "");
    let agent = relay.nats.spawn("upstream", &["--config", file.path().to_str().unwrap()]).ready().await;
    let load = Load::start(&relay.client, 8).await;
    load.goes_on(100).await;
    write(&file, &relay.origin, "weight = 9");
    agent.hangup();
    agent.says("new settings").await;
    // Until the new subscriptions are in force and the old one has ended.
    load.goes_on(500).await;
    let calls = |agent| async move { Role::metric(agent, "relay_origin_calls_total", "answered").await };
    let (mine, others) = (calls(&agent).await, calls(&relay.agent).await);
    load.goes_on(1000).await;
    let (mine, others) = (calls(&agent).await - mine, calls(&relay.agent).await - others);
    let share = others / (mine + others);
    // A tenth: of 1,000 that is 100, give or take 9.
    assert!(share < 0.2, "{share}");
    let (_, failed) = load.end().await;
    assert!(failed.is_empty(), "{:?}", counted(&failed));
}

#[tokio::test]
async fn a_new_weight_fails_no_request_of_an_agent_that_is_alone_and_far_away() {
    let (origin, nats) = (Origin::echo().await, Nats::start().await);
    let far = Distance::to(nats.address(), Duration::from_millis(25)).await;
    let file = settings(&origin, "");
    let agent = Role::spawn(&far.url(), "upstream", &["--config", file.path().to_str().unwrap()], &[]);
    // Without a broker, so that a request that reaches nobody fails.
    let (agent, client) = tokio::join!(agent.ready(), nats.client(&["--upstream", "hello"]));
    let load = Load::start(&client, 16).await;
    for weight in ["weight = 10", "weight = 3", ""] {
        load.goes_on(50).await;
        write(&file, &origin, weight);
        agent.hangup();
        load.goes_on(500).await;
    }
    let (asked, failed) = load.end().await;
    assert!(failed.is_empty(), "of {asked}: {:?}", counted(&failed));
    assert_eq!(agent.lines("new settings").len(), 3);
}

fn settings(origin: &Origin, more: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    write(&file, origin, more);
    file
}

fn write(file: &NamedTempFile, origin: &Origin, more: &str) {
    let text = format!("[[upstream]]\nname = \"hello\"\nto = \"{}\"\n{more}\n", origin.url());
    std::fs::write(file.path(), text).unwrap();
}
