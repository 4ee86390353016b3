//! Bodies that arrive whole, in every shape, and beside each other.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::{
    seen::{get, h2_body, h2_get, nothing_is_left, put, relay},
    site::{Upload, is_right, pattern},
    support::*,
};

const LARGE: u64 = 3_000_000;

#[tokio::test]
async fn a_large_body_arrives_in_every_version_of_http() {
    let (relay, _site) = relay().await;
    for path in [format!("/size/{LARGE}"), format!("/chunks/{LARGE}")] {
        let answer = relay.raw().await.ask(get(&path)).await;
        assert!(answer.body == pattern(0, LARGE), "{path} over HTTP/1.1");

        // Without chunks the end of the connection is the end of the body.
        let mut old = relay.raw().await;
        old.send(format!("GET {path} HTTP/1.0\r\n\r\n")).await;
        let answer = old.answer().await;
        assert!(!answer.has("transfer-encoding"), "{}", answer.head);
        assert!(answer.body == pattern(0, LARGE), "{path} over HTTP/1.0");

        let (response, _connection) = h2_get(relay.client.address().await, &path).await;
        let body = h2_body(&mut response.into_body()).await.unwrap();
        assert!(body == pattern(0, LARGE), "{path} over HTTP/2");
    }
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

#[tokio::test]
async fn a_download_with_a_length_tells_it() {
    let (relay, _site) = relay().await;
    let answer = relay.raw().await.ask(get(&format!("/size/{LARGE}"))).await;
    assert_eq!(answer.value("content-length"), LARGE.to_string());
    assert!(!answer.has("transfer-encoding"));
    let answer = relay.raw().await.ask(get(&format!("/range/1000000/{LARGE}"))).await;
    assert_eq!((answer.status, answer.value("content-length")), (206, LARGE.to_string()));
    assert_eq!(answer.value("content-range"), format!("bytes 1000000-3999999/{}", 1_000_000 + LARGE + 1000));
    assert!(is_right(1_000_000, &answer.body));
}

#[tokio::test]
async fn what_has_no_body_is_not_streamed() {
    let (relay, _site) = relay().await;
    let mut raw = relay.raw().await;
    raw.send("HEAD /size/5000000000 HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let answer = raw.answer_to_head().await;
    assert_eq!((answer.status, answer.value("content-length").as_str()), (200, "5000000000"));
    for status in [204, 304] {
        let answer = raw.ask(get(&format!("/status/{status}"))).await;
        assert_eq!((answer.status, answer.value("etag").as_str()), (status, "\"1\""));
    }
    assert_eq!(raw.ask(get("/")).await.text(), "hello", "the connection is where it should be");
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

#[tokio::test]
async fn two_agents_share_streams() {
    let (relay, site) = relay().await;
    let other = relay.another_agent(&[]).await;
    let address = relay.client.address().await;
    let transfers = (0..24).map(|turn| async move {
        let mut raw = Raw::connect(address).await;
        if turn % 2 == 0 {
            let answer = raw.ask(get(&format!("/chunks/{LARGE}"))).await;
            assert!(answer.body == pattern(0, LARGE));
        } else {
            raw.send(put("/upload", LARGE)).await;
            raw.send(pattern(0, LARGE)).await;
            assert_eq!(raw.answer().await.text(), LARGE.to_string());
        }
    });
    join_all(transfers).await;
    for agent in [&relay.agent, &other] {
        assert!(agent.metric("relay_origin_calls_total", "answered").await >= 1.0, "each has a part of it");
    }
    assert_eq!(site.uploads(), vec![Upload::Whole(LARGE); 12]);
    nothing_is_left(&[&relay.client, &relay.agent, &other]).await;
}

#[tokio::test]
async fn small_requests_are_answered_while_large_bodies_are_on_their_way() {
    let (relay, site) = relay().await;
    let mut downloads = Vec::new();
    for _ in 0..3 {
        let mut raw = relay.raw().await;
        raw.send(get("/endless")).await;
        raw.says(b"200 OK").await;
        downloads.push(raw);
    }
    let reading = async {
        join_all(downloads.iter_mut().map(|raw| raw.read_on())).await;
    };
    let address = relay.client.address().await;
    let uploading = async {
        let mut raw = Raw::connect(address).await;
        raw.send(put("/upload", 1 << 40)).await;
        // So many of it are right one after the other.
        let part = pattern(0, 251 << 10);
        loop {
            if raw.try_send(&part).await.is_err() {
                break;
            }
        }
    };
    let asking = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let started = Instant::now();
            assert_eq!(relay.get("/").await.text().await.unwrap(), "hello");
            slowest = slowest.max(started.elapsed());
        }
        slowest
    };
    tokio::select! {
        () = reading => panic!("they never end"),
        () = uploading => panic!("it never ends"),
        slowest = asking => assert!(slowest < Duration::from_secs(5), "{slowest:?}"),
    }
    drop((downloads, site));
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}
