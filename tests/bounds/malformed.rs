//! Requests that are not HTTP, or not one request: a clear refusal, nothing at the origin, and the next
//! caller is served.

use crate::support::*;

#[tokio::test]
async fn what_is_not_http_is_refused_and_harms_nobody() {
    let relay = Relay::start().await;
    for request in [
        &b"\r\n\r\n\0\0\0\0\r\n\r\n"[..],
        b"hello there\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nno colon here\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nbad name: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let mut raw = relay.raw().await;
        raw.send(request).await;
        let shown = String::from_utf8_lossy(request).into_owned();
        let answer = raw.try_answer().await.unwrap_or_else(|error| panic!("{shown}: {error}"));
        answer.problem().is(400, "bad_request", "client");
        raw.until_closed().await;
    }
    assert_eq!(relay.origin.hits(), 0);
    assert_eq!(relay.get("/").await.status(), 200);
}

#[tokio::test]
async fn a_request_must_name_one_host() {
    let relay = Relay::start().await;
    for hosts in ["", "Host: a\r\nHost: b\r\n", "Host: a\r\nHost: a\r\n"] {
        let answer = relay.raw().await.ask(format!("GET / HTTP/1.1\r\n{hosts}\r\n")).await;
        answer.problem().is(400, "bad_request", "client").names("Host");
    }
    assert_eq!(relay.origin.hits(), 0);
}

#[tokio::test]
async fn a_target_must_be_a_path_or_a_url() {
    let relay = Relay::start().await;
    for target in ["example.com", "example.com:80", "path"] {
        let answer = relay.raw().await.ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        answer.problem().is(400, "bad_target", "client");
    }
    assert_eq!(relay.origin.hits(), 0);
}

#[tokio::test]
async fn two_framings_in_one_request_cannot_smuggle_a_second() {
    let relay = Relay::start().await;
    let hidden = "0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    for framing in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked", hidden.len()),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}", hidden.len()),
        format!(
            "Transfer-Encoding: chunked\r\nContent-Length: {}\r\nTransfer-Encoding: identity",
            hidden.len()
        ),
    ] {
        let mut raw = relay.raw().await;
        raw.send(format!("POST /one HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{hidden}")).await;
        raw.answer().await.problem().is(400, "bad_request", "client");
        raw.until_closed().await;
    }
    assert_eq!(relay.origin.hits(), 0);
}
