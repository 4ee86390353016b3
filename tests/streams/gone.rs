//! Callers that go away: whatever was going on, the origin is left at once and nothing stays behind.

use std::time::Duration;

use futures_util::future::join_all;

use crate::{
    seen::{get, h2_get, nothing_is_left, origin_is_left, put, put_chunks, relay, upgrade},
    site,
    support::*,
};

#[tokio::test]
async fn a_caller_that_leaves_before_the_head_ends_the_call() {
    let (relay, site) = relay().await;
    let mut raw = relay.raw().await;
    raw.send(get("/silent")).await;
    site.is_asked(1).await;
    drop(raw);
    is_given_up(&relay, 1.0).await;
}

#[tokio::test]
async fn a_caller_that_leaves_a_running_download_ends_it() {
    let (relay, _site) = relay().await;
    let mut raw = relay.raw().await;
    raw.send(get("/endless")).await;
    raw.says(&site::pattern(100_000, 5000)).await;
    drop(raw);
    is_given_up(&relay, 1.0).await;
}

#[tokio::test]
async fn a_caller_that_leaves_a_silent_download_ends_it() {
    let (relay, _site) = relay().await;
    for (turn, kind) in ["text+event-stream", "text+plain"].into_iter().enumerate() {
        let mut raw = relay.raw().await;
        raw.send(get(&format!("/first/{kind}"))).await;
        raw.says(b"first").await;
        drop(raw);
        is_given_up(&relay, 1.0 + turn as f64).await;
    }
}

#[tokio::test]
async fn a_caller_that_stops_reading_and_leaves_ends_the_download() {
    let (relay, _site) = relay().await;
    let mut raw = relay.raw().await;
    raw.send(get("/endless")).await;
    raw.says(b"HTTP/1.1 200").await;
    // Everything on the way is full then.
    relay.agent.counts("relay_streams", "", 1.0).await;
    drop(raw);
    is_given_up(&relay, 1.0).await;
}

#[tokio::test]
async fn a_caller_that_resets_its_stream_ends_the_download() {
    let (relay, _site) = relay().await;
    let address = relay.client.address().await;
    for (turn, path) in ["/endless", "/first/text+plain"].into_iter().enumerate() {
        let (response, connection) = h2_get(address, path).await;
        let mut body = response.into_body();
        body.data().await.unwrap().unwrap();
        drop(body);
        is_given_up(&relay, 1.0 + turn as f64).await;
        drop(connection);
    }
}

#[tokio::test]
async fn a_caller_that_leaves_its_upload_ends_it() {
    let (relay, site) = relay().await;
    for (turn, head) in [put("/upload", 10 << 20), put_chunks("/upload")].into_iter().enumerate() {
        let chunked = head.contains("chunked");
        let mut raw = relay.raw().await;
        raw.send(head).await;
        let part = if chunked { crate::seen::chunk(0, 300_000) } else { site::pattern(0, 300_000) };
        raw.send(part).await;
        site.reads(300_000 * (turn as u64 + 1)).await;
        drop(raw);
        origin_is_left(&relay).await;
        eventually("the upload ends", || site.uploads().len() == turn + 1).await;
        assert_eq!(site.uploads()[turn], site::Upload::Cut(300_000));
        is_given_up(&relay, turn as f64 + 1.0).await;
    }
}

#[tokio::test]
async fn a_caller_that_leaves_a_websocket_ends_it() {
    let (relay, _site) = relay().await;
    let mut raw = relay.raw().await;
    raw.send(upgrade("/ws")).await;
    raw.says(b"101").await;
    raw.send("ping").await;
    raw.says(b"ping").await;
    drop(raw);
    origin_is_left(&relay).await;
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

#[tokio::test]
async fn a_thousand_callers_that_leave_their_downloads_leave_nothing() {
    let (relay, _site) = relay().await;
    let address = relay.client.address().await;
    for _ in 0..20 {
        let callers = (0..50).map(|turn| async move {
            let mut raw = Raw::connect(address).await;
            let path = ["/endless", "/first/text+plain", "/size/100000000", "/silent"][turn % 4];
            raw.send(get(path)).await;
            if path != "/silent" {
                raw.says(b"200").await;
            }
        });
        join_all(callers).await;
    }
    within(Duration::from_secs(30), "every origin connection ends", async {
        eventually("the origin is left", || relay.origin.connected() == 0).await;
    })
    .await;
    nothing_is_left(&[&relay.client, &relay.agent]).await;
    assert_eq!(relay.get("/").await.text().await.unwrap(), "hello");
}

#[tokio::test]
async fn a_thousand_uploads_and_websockets_that_end_in_the_middle_leave_nothing() {
    let (relay, _site) = relay().await;
    let address = relay.client.address().await;
    for _ in 0..20 {
        let callers = (0..50).map(|turn| async move {
            let mut raw = Raw::connect(address).await;
            match turn % 3 {
                0 => {
                    raw.send([put("/upload", 1 << 20).into_bytes(), site::pattern(0, 200_000)].concat()).await
                }
                1 => {
                    raw.send([put_chunks("/unread").into_bytes(), crate::seen::chunk(0, 9000)].concat()).await
                }
                _ => {
                    raw.send(upgrade("/ws")).await;
                    raw.says(b"101").await;
                    raw.send("some").await;
                }
            }
        });
        join_all(callers).await;
    }
    eventually("the origin is left", || relay.origin.connected() == 0).await;
    nothing_is_left(&[&relay.client, &relay.agent]).await;
    assert_eq!(relay.get("/").await.text().await.unwrap(), "hello");
}

/// The origin is left soon, both sides count it, and nothing is left.
async fn is_given_up(relay: &Relay, times: f64) {
    origin_is_left(relay).await;
    nothing_is_left(&[&relay.client, &relay.agent]).await;
    assert_eq!(relay.client.metric("relay_requests_abandoned_total", "").await, times);
    let calls = relay.agent.metrics().await;
    let cancelled = relay.agent.metric("relay_origin_calls_total", "cancelled").await;
    assert_eq!(cancelled, times, "{calls}");
}
