//! Statuses, headers and bodies.

use bytes::Bytes;
use http::HeaderValue;

use crate::support::{origin::serve_once, *};

#[tokio::test]
async fn a_request_crosses_and_its_answer_comes_back() {
    let relay = Relay::start().await;
    let answer = relay.post("/hello?a=b", "some data").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "some data");
    let seen = relay.origin.only();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/hello?a=b"));
    assert_eq!(seen.body, "some data");
}

#[tokio::test]
async fn every_method_and_every_status_passes() {
    let origin = Origin::start(|seen| async move {
        let status = seen.target.trim_start_matches('/').parse().unwrap();
        let mut answer = answer(status, format!("{} {status}", seen.method));
        answer.headers_mut().insert("x-of-origin", HeaderValue::from_static("yes"));
        answer
    });
    let relay = Relay::to(origin.await).start().await;
    for status in [200, 201, 203, 299, 307, 400, 401, 404, 418, 429, 500, 502, 503, 504, 599] {
        let answer = relay.get(&format!("/{status}")).await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["x-of-origin"], "yes");
        assert!(!answer.headers().contains_key("proxy-status"), "it is the origin's own {status}");
        assert_eq!(answer.text().await.unwrap(), format!("GET {status}"));
    }
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "X-CUSTOM"] {
        let method = http::Method::from_bytes(method.as_bytes()).unwrap();
        let answer = ask_by(&relay, &method, "/200").await;
        assert_eq!(answer, format!("{method} 200"));
    }
}

#[tokio::test]
async fn a_body_arrives_byte_for_byte_in_both_directions() {
    let relay = Relay::start().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let utf8_cut = "\u{feff}äöü".as_bytes()[..4].to_vec();
    let at_the_limit: Vec<u8> =
        (0..512 * 1024_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for body in
        [every_byte, utf8_cut, Vec::new(), b"\r\n\r\n0\r\n\r\n".to_vec(), vec![0; 70_000], at_the_limit]
    {
        let answer = relay.post("/", body.clone()).await;
        assert_eq!(answer.status(), 200, "{} bytes", body.len());
        assert_eq!(answer.content_length(), Some(body.len() as u64));
        assert!(answer.bytes().await.unwrap() == body, "the answer to {} bytes differs", body.len());
        assert!(relay.origin.last().body == body, "the origin got something else than {} bytes", body.len());
    }
}

#[tokio::test]
async fn repeated_headers_stay_apart_and_in_order() {
    let origin = Origin::tcp(|stream| async move {
        serve_once(
            stream,
            "HTTP/1.1 200 OK\r\nX-B: 1\r\nSet-Cookie: a=1; Path=/, x\r\nX-A: 2\r\nset-cookie: b=2\r\nX-C: 3\r\n\
             Content-Length: 2\r\n\r\nok",
        )
        .await;
    });
    let relay = Relay::to(origin.await).start().await;
    let answer = relay.raw().await.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.value("set-cookie"), "a=1; Path=/, x | b=2");
    let names: Vec<_> =
        answer.headers.iter().map(|(n, _)| n.as_str()).filter(|n| n.starts_with("x-")).collect();
    assert_eq!(names[..3], ["x-b", "x-a", "x-c"]);

    let relay = Relay::start().await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Many: 1, 2\r\nX-Other: x\r\nX-Many: 3\r\nx-many: \r\n\r\n";
    assert_eq!(relay.raw().await.ask(request).await.status, 200);
    assert_eq!(relay.origin.only().values("x-many"), ["1, 2", "3", ""]);
}

#[tokio::test]
async fn any_byte_that_http_allows_may_be_in_a_header_value() {
    let origin = Origin::start(|seen| async move {
        let mut answer = answer(200, "");
        answer.headers_mut().insert("x-bytes", seen.headers["x-bytes"].clone());
        answer
    });
    let relay = Relay::to(origin.await).start().await;
    let mut value: Vec<u8> = (0x21..=0xff).filter(|&b| b != 0x7f).collect();
    value.splice(10..10, *b" \t ");
    let mut request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Bytes: ".to_vec();
    request.extend(&value);
    request.extend(b"\r\n\r\n");
    let answer = relay.raw().await.ask(request).await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert_eq!(relay.origin.only().headers["x-bytes"].as_bytes(), value);
    let back = &answer.headers.iter().find(|(name, _)| name == "x-bytes").unwrap().1;
    assert_eq!(*back, value);
}

#[tokio::test]
async fn a_redirect_is_passed_through_and_not_followed() {
    let origin = Origin::start(|_| async {
        let mut answer = answer(302, "over there");
        answer.headers_mut().insert("location", HeaderValue::from_static("http://elsewhere.invalid/x?y#z"));
        answer
    });
    let relay = Relay::to(origin.await).start().await;
    let answer = relay.get("/old").await;
    assert_eq!(answer.status(), 302);
    assert_eq!(answer.headers()["location"], "http://elsewhere.invalid/x?y#z");
    assert_eq!(answer.text().await.unwrap(), "over there");
    assert_eq!(relay.origin.hits(), 1);
}

#[tokio::test]
async fn head_tells_the_length_and_sends_no_body() {
    let origin = Origin::start(|_| async { answer(200, "12345") });
    let relay = Relay::to(origin.await).start().await;
    let mut raw = relay.raw().await;
    raw.send("HEAD /doc HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = raw.answer_to_head().await;
    assert_eq!((head.status, head.value("content-length").as_str()), (200, "5"), "{}", head.head);
    assert_eq!(relay.origin.last().method, "HEAD");
    // The connection is in step: nothing of a body came.
    let get = raw.ask("GET /doc HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(get.text(), "12345");
}

#[tokio::test]
async fn an_error_to_head_has_no_body_either() {
    let nats = Nats::start().await;
    let client = nats.client(&["--upstream", "hello"]).await;
    let mut raw = client.raw().await;
    for _ in 0..2 {
        raw.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let head = raw.answer_to_head().await;
        assert_eq!(head.status, 503);
        assert_eq!(head.value("content-type"), "application/problem+json");
    }
    assert_eq!(raw.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.problem().code, "no_agent");
}

#[tokio::test]
async fn responses_that_have_no_body_have_none() {
    let origin = Origin::start(|seen| async move {
        let mut answer = answer(seen.target[1..].parse().unwrap(), "");
        if seen.target == "/304" {
            answer.headers_mut().insert("etag", HeaderValue::from_static("\"x\""));
        }
        answer
    });
    let relay = Relay::to(origin.await).start().await;
    let mut raw = relay.raw().await;
    for status in [204, 304, 204, 205, 200] {
        let answer = raw.ask(format!("GET /{status} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.body, b"");
        assert!(status != 204 || !answer.has("content-length"), "RFC 9110 section 8.6: {}", answer.head);
        assert!(!answer.has("transfer-encoding"), "{}", answer.head);
        assert!(status != 304 || answer.value("etag") == "\"x\"");
    }
}

#[tokio::test]
async fn a_304_keeps_the_length_of_what_it_stands_for() {
    let origin = Origin::tcp(|stream| async move {
        serve_once(stream, "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: \"e\"\r\n\r\n").await;
    });
    let relay = Relay::to(origin.await).start().await;
    let mut raw = relay.raw().await;
    for _ in 0..2 {
        let answer = raw.ask("GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"e\"\r\n\r\n").await;
        assert_eq!((answer.status, answer.value("etag").as_str()), (304, "\"e\""), "{}", answer.head);
    }
}

#[tokio::test]
async fn a_compressed_body_is_not_touched() {
    // The gzip of "hello\n", and a length that would not fit what it unpacks to.
    let packed: &[u8] = &[
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0xe7, 2, 0, 0x20, 0x30, 0x3a, 0x36,
        6, 0, 0, 0,
    ];
    let origin = Origin::start(move |_| async move {
        let mut answer = answer(200, Bytes::from_static(packed));
        answer.headers_mut().insert("content-encoding", HeaderValue::from_static("gzip"));
        answer.headers_mut().insert("etag", HeaderValue::from_static("W/\"1\""));
        answer
    });
    let relay = Relay::to(origin.await).start().await;
    let answer =
        relay.raw().await.ask("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip, br;q=0.5\r\n\r\n").await;
    assert_eq!(relay.origin.only().value("accept-encoding"), "gzip, br;q=0.5");
    assert_eq!(answer.value("content-encoding"), "gzip");
    assert_eq!(answer.value("etag"), "W/\"1\"");
    assert_eq!(answer.body, packed);
}

#[tokio::test]
async fn a_callers_trace_goes_on_at_the_origin() {
    let relay = Relay::start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\ntraceparent: {trace}\r\ntracestate: a=1,b=2\r\n\r\n");
    assert_eq!(relay.raw().await.ask(request).await.status, 200);
    let seen = relay.origin.only();
    assert_eq!(seen.value("tracestate"), "a=1,b=2");
    // A hop may put its own span in, but it stays the same trace.
    assert_eq!(seen.value("traceparent")[..35], trace[..35]);
}

async fn ask_by(relay: &Relay, method: &http::Method, path: &str) -> String {
    let request = http().request(method.clone(), relay.url(path).await);
    request.send().await.unwrap().text().await.unwrap()
}
