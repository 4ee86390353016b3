//! What is not a request: it is refused in words, like anything else that fails.

use crate::support::*;

#[tokio::test]
async fn what_is_not_http_is_told_so_as_a_problem() {
    let relay = Relay::to(Origin::echo().await).client(&["--log", "debug"]).start().await;
    for request in [
        &b"hello there\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\nno colon here\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let answer = refused(&relay, request).await;
        answer.problem().is(400, "bad_request", "client").names("malformed");
        assert!(answer.has("date") && answer.value("connection") == "close", "{}", answer.head);
    }
    relay.client.counts("relay_faults_total", "code=\"bad_request\"", 5.0).await;
    relay.client.says("request refused unread").await;
    assert_eq!(relay.origin.hits(), 0);
}

#[tokio::test]
async fn a_later_minor_version_is_read_and_another_major_version_is_505() {
    let relay = Relay::start().await;
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/9.9", "HTTP/3.0"] {
        let answer = refused(&relay, format!("GET / {version}\r\nHost: a\r\n\r\n").as_bytes()).await;
        answer.problem().is(505, "version_unsupported", "client");
    }
    refused(&relay, b"PRI * HTTP/2.0\r\n\r\nno, it is not").await.problem().is(
        505,
        "version_unsupported",
        "client",
    );
    assert_eq!(relay.origin.hits(), 0);
    let mut raw = relay.raw().await;
    for version in ["HTTP/1.2", "HTTP/1.9", "HTTP/1.1"] {
        let answer = raw.ask(format!("GET / {version}\r\nHost: a\r\n\r\n")).await;
        assert!(answer.head.starts_with("HTTP/1.1 200"), "{}", answer.head);
        assert_eq!(relay.origin.last().value("via"), "1.1 relay");
    }
}

#[tokio::test]
async fn a_head_without_end_is_told_which_limit_it_is_over() {
    let relay = Relay::start().await;
    // More than is read before the refusal: it must arrive all the same.
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(600 * 1024));
    refused(&relay, large.as_bytes()).await.problem().is(431, "headers_too_large", "client").names("65536");
    let many: String = (0..101).map(|i| format!("X-{i}: 1\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    refused(&relay, many.as_bytes())
        .await
        .problem()
        .is(431, "headers_too_large", "client")
        .names("100 headers");
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000));
    refused(&relay, target.as_bytes()).await.problem().is(414, "target_too_long", "client").names("32768");
}

#[tokio::test]
async fn a_request_before_it_gets_its_own_answer() {
    let relay = Relay::start().await;
    let good = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\ngood";
    let mut raw = relay.raw().await;
    assert_eq!(raw.ask(good).await.text(), "good");
    raw.ask("bad\r\n\r\n").await.problem().is(400, "bad_request", "client");
    assert_eq!(raw.until_closed().await, b"");

    let mut raw = relay.raw().await;
    raw.send(format!("{good}bad\r\n\r\n")).await;
    assert_eq!(raw.answer().await.text(), "good");
    assert_eq!(raw.answer().await.status, 400);
    raw.until_closed().await;
}

#[tokio::test]
async fn an_answer_that_looks_like_a_refusal_is_the_origins() {
    const LIKE: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let origin = Origin::start(|_| async {
        let mut answer = answer(400, LIKE);
        answer.headers_mut().insert("x-of-origin", http::HeaderValue::from_static("yes"));
        answer
    });
    let relay = Relay::to(origin.await).start().await;
    let mut raw = relay.raw().await;
    for _ in 0..3 {
        let answer = raw.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!((answer.status, answer.text().as_str()), (400, LIKE));
        assert_eq!(answer.value("x-of-origin"), "yes");
    }
}

#[tokio::test]
async fn a_length_and_an_encoding_in_one_request_are_refused() {
    let relay = Relay::start().await;
    let hidden = "0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    for framing in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked", hidden.len()),
        format!("TRANSFER-ENCODING: chunked\r\ncontent-length:{}", hidden.len()),
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{hidden}");
        let answer = refused(&relay, request.as_bytes()).await;
        answer.problem().is(400, "bad_request", "client").names("Transfer-Encoding");
        // Also byte by byte, and after requests that are right.
        let mut raw = relay.raw().await;
        for before in [
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n\r\n\r\nTransfer-Encoding: chunked",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n13\r\n\r\nContent-Length: 1\r\n0\r\n\r\n",
        ] {
            let answer = raw.ask(before).await;
            assert_eq!(answer.status, 200, "{before}: {}", answer.text());
        }
        for byte in request.bytes().take(request.len() - hidden.len()) {
            raw.send([byte]).await;
            tokio::task::yield_now().await;
        }
        raw.answer().await.problem().is(400, "bad_request", "client");
        raw.until_closed().await;
    }
    assert_eq!(relay.origin.hits(), 4);
}

/// What is answered to bytes on a connection of their own, which is then closed.
async fn refused(relay: &Relay, bytes: &[u8]) -> RawAnswer {
    let mut raw = relay.raw().await;
    raw.send(bytes).await;
    let answer = raw.answer().await;
    assert_eq!(raw.until_closed().await, b"");
    answer
}
