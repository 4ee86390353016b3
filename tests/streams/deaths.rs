//! Agents that die or freeze while a body is on its way: it breaks off, at both ends, and never hangs.

use std::time::{Duration, Instant};

use crate::{
    seen::{get, nothing_is_left, put, relay, upgrade},
    site::{self, Upload},
    support::*,
};

#[tokio::test]
async fn a_download_whose_upstream_agent_dies_breaks_off() {
    let (relay, _site) = relay().await;
    let mut downloads = Vec::new();
    for path in ["/endless", "/first/text+plain", "/size/1000000000"] {
        let mut raw = relay.raw().await;
        raw.send(get(path)).await;
        raw.says(b"200 OK").await;
        downloads.push(raw);
    }
    relay.agent.counts("relay_streams", "", 3.0).await;
    relay.agent.kill9();
    for mut raw in downloads {
        let rest = raw.until_closed().await;
        assert!(!rest.ends_with(b"0\r\n\r\n"));
    }
    eventually("the log has all three", || relay.client.lines("decision=agent_gone").len() == 3).await;
    nothing_is_left(&[&relay.client]).await;
}

#[tokio::test]
async fn an_upload_whose_upstream_agent_dies_is_answered() {
    for broker in [true, false] {
        let (origin, site) = site::Site::start().await;
        let plan = Relay::to(origin);
        let relay = if broker { plan.start().await } else { plan.no_broker().start().await };
        let mut raw = relay.raw().await;
        raw.send(put("/upload", 1 << 20)).await;
        raw.send(site::pattern(0, 300_000)).await;
        site.reads(300_000).await;
        relay.agent.kill9();
        let answer = within(GONE, "an answer", raw.try_answer()).await.expect("an answer");
        answer.problem().names("agent").is(502, "agent_gone", &answer.problem().raised_by);
        eventually("the upload ends", || site.uploads() == [Upload::Cut(300_000)]).await;
        nothing_is_left(&[&relay.client]).await;
    }
}

#[tokio::test]
async fn a_download_whose_client_agent_dies_leaves_its_origin() {
    let (relay, _site) = relay().await;
    let mut callers = Vec::new();
    for path in ["/endless", "/first/text+plain"] {
        let mut raw = relay.raw().await;
        raw.send(get(path)).await;
        raw.says(b"200 OK").await;
        callers.push(raw);
    }
    relay.client.kill9();
    within(GONE, "the origin is left", eventually("", || relay.origin.connected() == 0)).await;
    nothing_is_left(&[&relay.agent]).await;
}

#[tokio::test]
async fn an_upload_whose_client_agent_dies_is_cut_for_the_origin() {
    let (relay, site) = relay().await;
    let mut raw = relay.raw().await;
    raw.send(put("/upload", 1 << 20)).await;
    raw.send(site::pattern(0, 300_000)).await;
    site.reads(300_000).await;
    relay.client.kill9();
    within(GONE, "the upload ends", eventually("", || site.uploads() == [Upload::Cut(300_000)])).await;
    nothing_is_left(&[&relay.agent]).await;
}

#[tokio::test]
async fn a_websocket_whose_agent_dies_is_closed() {
    let (relay, _site) = relay().await;
    let mut raw = relay.raw().await;
    raw.send(upgrade("/ws")).await;
    raw.says(b"101").await;
    relay.agent.kill9();
    within(GONE, "the caller's connection ends", raw.until_closed()).await;
    nothing_is_left(&[&relay.client]).await;
}

#[tokio::test]
async fn a_half_closed_websocket_whose_agent_dies_is_closed() {
    let (relay, _site) = relay().await;
    let mut raw = relay.raw().await;
    raw.send(upgrade("/half")).await;
    raw.says(b"bye").await;
    // The origin has said all it will; the caller has not.
    relay.agent.counts("relay_streams", "", 1.0).await;
    relay.agent.kill9();
    nothing_is_left(&[&relay.client]).await;
    eventually_async("the caller's connection is let go", || async {
        relay.client.metric("relay_connections", "").await == 0.0
            && !relay.client.lines("decision=agent_gone").is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_frozen_upstream_agent_is_noticed() {
    let (relay, site) = relay().await;
    let mut raw = relay.raw().await;
    raw.send(get("/endless")).await;
    raw.says(b"200 OK").await;
    let mut uploading = relay.raw().await;
    uploading.send(put("/upload", 1 << 20)).await;
    uploading.send(site::pattern(0, 300_000)).await;
    site.reads(300_000).await;
    relay.agent.stop();
    let started = Instant::now();
    let both = async { tokio::join!(raw.until_closed(), uploading.try_answer()) };
    let (rest, answer) = within(GONE, "both end", both).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    assert!(answer.expect("an answer").status >= 500, "after {:?}", started.elapsed());
    relay.agent.cont();
    eventually("the origin is left", || relay.origin.connected() == 0).await;
    assert_eq!(site.uploads(), [Upload::Cut(300_000)]);
    nothing_is_left(&[&relay.agent, &relay.client]).await;
    assert_eq!(relay.get("/").await.text().await.unwrap(), "hello");
}

#[tokio::test]
async fn a_frozen_client_agent_is_noticed() {
    let (relay, site) = relay().await;
    let mut raw = relay.raw().await;
    raw.send(get("/endless")).await;
    raw.says(b"200 OK").await;
    let mut uploading = relay.raw().await;
    uploading.send(put("/upload", 1 << 20)).await;
    uploading.send(site::pattern(0, 300_000)).await;
    site.reads(300_000).await;
    relay.client.stop();
    within(GONE, "the origin is left", eventually("", || relay.origin.connected() == 0)).await;
    nothing_is_left(&[&relay.agent]).await;
    assert_eq!(site.uploads(), [Upload::Cut(300_000)]);
    relay.client.cont();
    assert!(!raw.until_closed().await.ends_with(b"0\r\n\r\n"));
    nothing_is_left(&[&relay.client]).await;
    assert_eq!(relay.get("/").await.text().await.unwrap(), "hello");
}

/// How soon the other side of a stream is known to be gone, on a busy machine.
const GONE: Duration = Duration::from_secs(28);
