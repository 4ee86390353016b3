//! Agents that are told to stop while bodies are on their way.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::{
    seen::{get, nothing_is_left, put, relay, upgrade},
    site::{self, Site, Upload},
    support::*,
};

#[tokio::test]
async fn an_upstream_agent_told_to_stop_finishes_its_streams() {
    let (relay, site) = relay().await;
    let mut reading = relay.raw().await;
    reading.send(get("/gated/text+plain")).await;
    reading.says(b"first").await;
    let mut writing = relay.raw().await;
    writing.send(put("/upload", 400_000)).await;
    writing.send(site::pattern(0, 300_000)).await;
    site.reads(300_000).await;
    let other = relay.another_agent(&[]).await;
    relay.agent.term();
    relay.agent.says("stopping: requests in flight may finish").await;
    for _ in 0..20 {
        assert_eq!(relay.get("/").await.text().await.unwrap(), "hello", "the other agent has it");
    }
    assert!(relay.agent.is_running());
    writing.send(site::pattern(300_000, 100_000)).await;
    assert_eq!(writing.answer().await.text(), "400000");
    site.open();
    reading.says(b"last").await;
    reading.says(b"0\r\n\r\n").await;
    let ended = within(Duration::from_secs(5), "it need not wait for its grace", relay.agent.ended()).await;
    assert!(ended.success());
    assert_eq!(site.uploads(), [Upload::Whole(400_000)]);
    nothing_is_left(&[&relay.client, &other]).await;
}

#[tokio::test]
async fn a_client_agent_told_to_stop_finishes_its_streams() {
    let (relay, site) = relay().await;
    let address = relay.client.address().await;
    let mut reading = relay.raw().await;
    reading.send(get("/gated/text+plain")).await;
    reading.says(b"first").await;
    let mut tunnel = relay.raw().await;
    tunnel.send(upgrade("/ws")).await;
    tunnel.says(b"101").await;
    relay.client.term();
    eventually_async("it takes no new connections", || async { TcpStream::connect(address).await.is_err() })
        .await;
    tunnel.send("still there").await;
    tunnel.says(b"still there").await;
    site.open();
    reading.says(b"last").await;
    reading.says(b"0\r\n\r\n").await;
    assert!(relay.client.is_running());
    drop(tunnel);
    let ended = within(Duration::from_secs(5), "it need not wait for its grace", relay.client.ended()).await;
    assert!(ended.success());
    nothing_is_left(&[&relay.agent]).await;
}

#[tokio::test]
async fn streams_break_off_when_the_upstream_agents_grace_ends() {
    let (origin, site) = Site::start().await;
    let relay = Relay::to(origin).agent(&["--grace", "1s"]).start().await;
    let (mut reading, mut writing, mut tunnel) = streams(&relay, &site).await;
    relay.agent.term();
    assert!(within(Duration::from_secs(5), "the grace ends", relay.agent.ended()).await.success());
    let soon = Duration::from_secs(3);
    let rest = within(soon, "the download ends", reading.until_closed()).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    let answer = within(soon, "the upload is answered", writing.try_answer()).await.expect("an answer");
    answer.problem().is(502, "stream_cut", "upstream");
    within(soon, "the tunnel ends", tunnel.until_closed()).await;
    eventually("all are told", || relay.client.lines("decision=stream_cut").len() == 3).await;
    eventually("the origin is left", || relay.origin.connected() == 0).await;
    assert_eq!(site.uploads(), [Upload::Cut(300_000)]);
    nothing_is_left(&[&relay.client]).await;
}

#[tokio::test]
async fn streams_break_off_when_the_client_agents_grace_ends() {
    let (origin, site) = Site::start().await;
    let relay = Relay::to(origin).client(&["--grace", "1s"]).start().await;
    let (mut reading, _writing, mut tunnel) = streams(&relay, &site).await;
    relay.client.term();
    assert!(within(Duration::from_secs(5), "the grace ends", relay.client.ended()).await.success());
    assert!(!reading.until_closed().await.ends_with(b"0\r\n\r\n"));
    tunnel.until_closed().await;
    let left = Instant::now();
    eventually("the origin is left", || relay.origin.connected() == 0).await;
    assert!(left.elapsed() < Duration::from_secs(3), "{:?}", left.elapsed());
    assert_eq!(site.uploads(), [Upload::Cut(300_000)]);
    nothing_is_left(&[&relay.agent]).await;
}

/// A download, an upload and a tunnel, all of them under way.
async fn streams(relay: &Relay, site: &Site) -> (Raw, Raw, Raw) {
    let mut reading = relay.raw().await;
    reading.send(get("/first/text+plain")).await;
    reading.says(b"first").await;
    let mut writing = relay.raw().await;
    writing.send(put("/upload", 400_000)).await;
    writing.send(site::pattern(0, 300_000)).await;
    site.reads(300_000).await;
    let mut tunnel = relay.raw().await;
    tunnel.send(upgrade("/ws")).await;
    tunnel.says(b"101").await;
    (reading, writing, tunnel)
}
