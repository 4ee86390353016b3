//! Bodies that break off: nobody takes one for complete.

use std::io;

use crate::{
    seen::{get, h2_body, h2_get, nothing_is_left, put, put_chunks, relay},
    site::{self, Upload, is_right},
    support::*,
};

#[tokio::test]
async fn a_download_that_the_origin_cuts_is_cut_for_the_caller() {
    let (relay, _site) = relay().await;
    for (path, sent) in [
        ("/cut/length/500000/300000", 300_000),
        ("/cut/length/500000/499999", 499_999),
        ("/cut/chunks/300000", 300_000),
        ("/cut/length/1000/1", 1),
        ("/cut/chunks/1000", 1000),
    ] {
        let mut raw = relay.raw().await;
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")).await;
        let answer = raw.until_closed().await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        if text.starts_with("HTTP/1.1 502") {
            assert!(text.contains("origin_broken"), "{path}: {text}");
            continue;
        }
        assert!(text.starts_with("HTTP/1.1 200"), "{path}: {text}");
        assert!(!answer.ends_with(b"0\r\n\r\n"), "{path} ends as if it were whole");
        assert!(answer.len() < 600_000 && answer.len() > sent / 2, "{path}: {} bytes", answer.len());
        let log = relay.client.says("decision=origin_broken").await;
        assert!(log.contains("status=200"), "{log}");
    }
    nothing_is_left(&[&relay.client, &relay.agent]).await;
    let faults = relay.client.metric("relay_faults_total", "origin_broken").await;
    assert_eq!(faults, 5.0);
}

#[tokio::test]
async fn a_download_with_a_length_that_is_cut_comes_short() {
    let (relay, _site) = relay().await;
    let mut raw = relay.raw().await;
    raw.send(get("/cut/length/500000/300000")).await;
    let answer = raw.until_closed().await;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    assert!(head.contains("content-length: 500000"), "{head}");
    assert!(answer.len() - end <= 300_000);
    assert!(is_right(0, &answer[end..]));
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_is_cut_by_a_reset() {
    let (relay, site) = relay().await;
    for more in ["", "Connection: keep-alive\r\n"] {
        let mut raw = relay.raw().await;
        raw.send(format!("GET /cut/chunks/300000 HTTP/1.0\r\nHost: test\r\n{more}\r\n")).await;
        let error = raw.until_end().await.expect_err("it is cut");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    // One that is whole ends in order, with all of its bytes.
    let mut raw = relay.raw().await;
    raw.send("GET /chunks/300000 HTTP/1.0\r\nHost: test\r\n\r\n").await;
    let answer = raw.until_end().await.unwrap();
    assert!(answer.ends_with(&site::pattern(300_000 - 1000, 1000)), "{} bytes", answer.len());
    // So is one whose process is killed.
    let mut raw = relay.raw().await;
    raw.send("GET /first/text+plain HTTP/1.0\r\nHost: test\r\n\r\n").await;
    raw.says(b"first").await;
    relay.client.kill9();
    assert_eq!(raw.until_end().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    drop(site);
}

#[tokio::test]
async fn a_connection_that_switched_protocols_is_cut_by_a_reset_and_ends_in_order() {
    let (relay, _site) = relay().await;
    let mut raw = relay.raw().await;
    assert_eq!(raw.ask(crate::seen::upgrade("/half")).await.status, 101);
    raw.says(b"bye").await;
    raw.until_end().await.expect("the origin's half ends in order");
    let mut raw = relay.raw().await;
    assert_eq!(raw.ask(crate::seen::upgrade("/ws")).await.status, 101);
    relay.agent.kill9();
    assert_eq!(raw.until_end().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_cut_download_is_a_reset_over_http2() {
    let (relay, _site) = relay().await;
    let address = relay.client.address().await;
    for path in ["/cut/length/500000/300000", "/cut/chunks/300000"] {
        let (response, _connection) = h2_get(address, path).await;
        assert_eq!(response.status(), 200);
        let error = h2_body(&mut response.into_body()).await.expect_err("it breaks off");
        assert!(error.is_reset(), "{path}: {error:?}");
    }
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

#[tokio::test]
async fn an_upload_that_the_caller_cuts_is_cut_for_the_origin() {
    let (relay, site) = relay().await;
    for (turn, (head, body)) in [
        (put("/upload", 500_000), site::pattern(0, 400_000)),
        (put("/upload", 500_000), site::pattern(0, 499_999)),
        (put_chunks("/upload"), crate::seen::chunk(0, 400_000)),
    ]
    .into_iter()
    .enumerate()
    {
        let mut raw = relay.raw().await;
        raw.send(head).await;
        raw.send(&body).await;
        site.is_asked(turn + 1).await;
        drop(raw);
        eventually("the upload ends", || site.uploads().len() == turn + 1).await;
        assert!(matches!(site.uploads()[turn], Upload::Cut(_)), "{:?}", site.uploads());
    }
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

#[tokio::test]
async fn an_upload_over_http2_that_the_caller_resets_is_cut_for_the_origin() {
    let (relay, site) = relay().await;
    let mut h2 = crate::seen::H2::connect(relay.client.address().await).await;
    let request = http::Request::put("http://test/upload").body(()).unwrap();
    let (_answer, mut body) = h2.0.send_request(request, false).unwrap();
    body.send_data(site::pattern(0, 40_000).into(), false).unwrap();
    site.reads(40_000).await;
    body.send_reset(h2::Reason::CANCEL);
    eventually("the upload ends", || !site.uploads().is_empty()).await;
    assert_eq!(site.uploads(), [Upload::Cut(40_000)]);
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}
