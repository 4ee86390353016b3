//! Limits that streamed bodies meet: their size, their number, and whom they count against.

use crate::{
    seen::{SOON, chunk, get, nothing_is_left, put, put_chunks, upgrade},
    site::{self, Site, Upload},
    support::*,
};

#[tokio::test]
async fn a_chunked_upload_over_the_limit_is_answered_413() {
    let (origin, site) = Site::start().await;
    let relay = Relay::to(origin).client(&["--max-body", "500kB"]).start().await;
    let mut raw = relay.raw().await;
    raw.send(put_chunks("/upload")).await;
    raw.send(chunk(0, 300_000)).await;
    site.reads(300_000).await;
    raw.send(chunk(300_000, 300_000)).await;
    raw.answer().await.problem().is(413, "body_too_large", "client").names("--max-body");
    eventually("the upload ends", || !site.uploads().is_empty()).await;
    assert!(matches!(site.uploads()[..], [Upload::Cut(..=500_000)]), "{:?}", site.uploads());
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

#[tokio::test]
async fn a_chunked_response_over_the_agents_limit_is_cut() {
    let (origin, _site) = Site::start().await;
    let relay = Relay::to(origin).agent(&["--max-body", "500kB"]).start().await;
    let mut raw = relay.raw().await;
    raw.send(get("/chunks/1000000")).await;
    let answer = raw.until_closed().await;
    assert!(answer.starts_with(b"HTTP/1.1 200") && !answer.ends_with(b"0\r\n\r\n"));
    assert!(answer.len() < 600_000);
    relay.client.says("decision=response_too_large").await;
    let mut raw = relay.raw().await;
    let answer = raw.ask(get("/size/1000000")).await;
    answer.problem().is(502, "response_too_large", "upstream").names("--max-body");
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

#[tokio::test]
async fn more_streams_than_a_client_agent_may_have_are_answered_503() {
    let (origin, site) = Site::start().await;
    let relay = Relay::to(origin).client(&["--max-streams", "2"]).start().await;
    let (mut first, mut second) = (relay.raw().await, relay.raw().await);
    first.send(get("/gated/text+plain")).await;
    first.says(b"first").await;
    second.send(upgrade("/ws")).await;
    second.says(b"101").await;

    let mut third = relay.raw().await;
    third.send(put_chunks("/upload")).await;
    third.send(chunk(0, 1000)).await;
    third.answer().await.problem().is(503, "client_full", "client").names("--max-streams");
    let download = relay.raw().await.ask(get("/first/text+plain")).await;
    download.problem().is(503, "client_full", "client").names("--max-streams");
    let left = eventually("what was refused leaves the origin", || relay.origin.connected() == 2);
    within(SOON, "what was refused leaves the origin", left).await;
    assert_eq!(relay.get("/").await.text().await.unwrap(), "hello", "what is not streamed goes on");

    site.open();
    first.says(b"0\r\n\r\n").await;
    drop(second);
    nothing_is_left(&[&relay.client, &relay.agent]).await;
    let mut raw = relay.raw().await;
    raw.send(put("/upload", 300_000)).await;
    raw.send(site::pattern(0, 300_000)).await;
    assert_eq!(raw.answer().await.text(), "300000");
}

#[tokio::test]
async fn a_streamed_response_counts_against_its_agents_limit() {
    let (origin, site) = Site::start().await;
    let relay = Relay::to(origin).agent(&["--max-in-flight", "1"]).start().await;
    let mut raw = relay.raw().await;
    raw.send(get("/gated/text+plain")).await;
    raw.says(b"first").await;
    let events = async {
        let broker = relay.broker.as_ref().unwrap();
        broker.counts("relay_requests_held", "", 1.0).await;
        assert_eq!(site.asked().len(), 1, "the agent takes no more");
        site.open();
        raw.says(b"0\r\n\r\n").await;
    };
    let (answer, ()) = tokio::join!(relay.get("/"), events);
    assert_eq!(answer.text().await.unwrap(), "hello");

    let mut raw = relay.raw().await;
    raw.send(get("/first/text+plain")).await;
    raw.says(b"first").await;
    let _other = relay.another_agent(&[]).await;
    for _ in 0..10 {
        assert_eq!(relay.get("/").await.text().await.unwrap(), "hello", "the other agent has it");
    }
}

#[tokio::test]
async fn a_streamed_response_counts_against_the_client_agents_limit() {
    let (origin, site) = Site::start().await;
    let relay = Relay::to(origin).client(&["--max-in-flight", "1"]).start().await;
    let mut raw = relay.raw().await;
    raw.send(get("/gated/text+plain")).await;
    raw.says(b"first").await;
    problem(relay.get("/").await).await.is(503, "client_full", "client").names("--max-in-flight");
    site.open();
    raw.says(b"0\r\n\r\n").await;
    nothing_is_left(&[&relay.client]).await;
    assert_eq!(relay.get("/").await.status(), 200);
}
