//! Answers that come before the request's body has been read: callers get them, and can go on.

use crate::{
    seen::{H2, chunk, h2_body, nothing_is_left, put, put_chunks, relay},
    site::{self, Upload},
    support::*,
};

#[tokio::test]
async fn an_answer_before_the_body_reaches_a_caller_that_sends_on() {
    let (relay, site) = relay().await;
    for (path, status) in [("/refuse/413", 413), ("/refuse/401", 401), ("/slam/413", 413)] {
        for chunked in [false, true] {
            let mut raw = relay.raw().await;
            raw.send(if chunked { put_chunks(path) } else { put(path, 16 << 20) }).await;
            // More than anybody keeps: to close on it would take the answer from a caller that reads it last.
            for at in 0..128 {
                let part = if chunked { chunk(at << 17, 1 << 17) } else { site::pattern(at << 17, 1 << 17) };
                raw.try_send(part)
                    .await
                    .unwrap_or_else(|error| panic!("{path}, chunked: {chunked}: {error}"));
            }
            let answer = raw.answer().await;
            assert_eq!((answer.status, answer.text().as_str()), (status, "no"), "{path}, chunked: {chunked}");
        }
    }
    assert!(site.asked().len() == 6);
    eventually("the origin is left", || relay.origin.connected() == 0).await;
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

#[tokio::test]
async fn an_early_answer_does_not_end_an_upload_that_the_origin_still_reads() {
    let (relay, site) = relay().await;
    for (turn, chunked) in [false, true].into_iter().enumerate() {
        let mut raw = relay.raw().await;
        let size: u64 = 8 << 20;
        raw.send(if chunked { put_chunks("/early-upload") } else { put("/early-upload", size) }).await;
        let answer = raw.answer().await;
        assert_eq!((answer.text().as_str(), answer.value("connection").as_str()), ("early", ""));
        for at in (0..size).step_by(1 << 17) {
            raw.send(if chunked { chunk(at, 1 << 17) } else { site::pattern(at, 1 << 17) }).await;
        }
        if chunked {
            raw.send("0\r\n\r\n").await;
        }
        eventually("the upload ends", || site.uploads().len() == turn + 1).await;
        assert_eq!(site.uploads()[turn], Upload::Whole(size), "chunked: {chunked}");
        // The connection is in step.
        assert_eq!(raw.ask("GET /next HTTP/1.1\r\nHost: test\r\n\r\n").await.text(), "hello");
    }
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}

#[tokio::test]
async fn a_connection_goes_on_after_an_early_answer_or_is_closed() {
    let (relay, site) = relay().await;
    let mut raw = relay.raw().await;
    raw.send(put("/refuse/413", 300_000)).await;
    raw.send(site::pattern(0, 150_000)).await;
    assert_eq!(raw.answer().await.status, 413);
    // The rest, and another request: it must not be taken for a part of the body, nor the body for a request.
    let rest =
        [site::pattern(150_000, 150_000), b"GET /next HTTP/1.1\r\nHost: test\r\n\r\n".to_vec()].concat();
    if raw.try_send(rest).await.is_ok()
        && let Ok(answer) = raw.try_answer().await
    {
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    }
    for asked in site.asked() {
        assert!(["PUT /refuse/413", "GET /next"].contains(&asked.as_str()), "{asked}");
    }
}

#[tokio::test]
async fn an_answer_before_the_body_reaches_a_caller_over_http2() {
    let (relay, _site) = relay().await;
    let mut h2 = H2::connect(relay.client.address().await).await;
    for _ in 0..3 {
        let request = http::Request::put("http://test/refuse/413").body(()).unwrap();
        let (answer, mut body) = h2.0.send_request(request, false).unwrap();
        body.send_data(site::pattern(0, 60_000).into(), false).unwrap();
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status(), 413);
        assert_eq!(h2_body(&mut answer.into_body()).await.unwrap(), b"no");
        h2 = H2(h2.0.ready().await.expect("the connection goes on"));
    }
    let request = http::Request::get("http://test/").body(()).unwrap();
    let (answer, _) = h2.0.send_request(request, true).unwrap();
    assert_eq!(h2_body(&mut answer.await.unwrap().into_body()).await.unwrap(), b"hello");
    nothing_is_left(&[&relay.agent]).await;
}

#[tokio::test]
async fn a_body_is_asked_for_only_when_the_origin_wants_it() {
    let (relay, site) = relay().await;
    let expect =
        |path: &str| put(path, 300_000).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n").into_bytes();
    let mut raw = relay.raw().await;
    assert_eq!(raw.ask(expect("/refuse/413")).await.status, 413);
    let mut raw = relay.raw().await;
    assert_eq!(raw.ask(expect("/upload")).await.status, 100);
    raw.send(site::pattern(0, 300_000)).await;
    assert_eq!(raw.answer().await.text(), "300000");
    assert_eq!(site.uploads(), [Upload::Whole(300_000)]);
    nothing_is_left(&[&relay.client, &relay.agent]).await;
}
