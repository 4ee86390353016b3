//! What a stranger says of itself, before its body and after it, reaches no origin.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use crate::support::*;

#[tokio::test]
async fn what_a_stranger_says_of_itself_does_not_reach_the_origin_in_any_spelling() {
    let relay = Relay::to(Origin::echo().await).client(&["--underscore-headers", "on"]).start().await;
    let mut raw = relay.raw().await;
    for name in SAID {
        for name in [name.to_owned(), name.replace('-', "_"), name.replace('-', "."), name.to_uppercase()] {
            let answer = raw.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: forged\r\n\r\n")).await;
            assert_eq!(answer.status, 200, "{name}");
            let seen = relay.origin.last();
            assert!(!format!("{:?}", seen.headers).contains("forged"), "{name}: {:?}", seen.headers);
        }
    }
}

#[tokio::test]
async fn a_trusted_proxy_says_it_in_the_usual_spelling_alone() {
    let relay = Relay::to(Origin::echo().await).client(&["--trusted-proxy", "127.0.0.1"]).start().await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Real-IP: 192.0.2.7\r\nX_Real_IP: 6.6.6.6\r\nX.Forwarded-For: 6.6.6.6\r\n\
                   Cf-Connecting-Ip: 192.0.2.7\r\nX_Relay_Id: forged\r\nmy_own: 1\r\n\
                   Connection: x-real-ip, cf-connecting-ip, via\r\nVia: 1.1 proxy\r\n\r\n";
    assert_eq!(relay.raw().await.ask(request).await.status, 200);
    let seen = relay.origin.only();
    assert_eq!((seen.value("x-real-ip").as_str(), seen.value("x_real_ip").as_str()), ("192.0.2.7", ""));
    assert_eq!(seen.value("cf-connecting-ip"), "192.0.2.7");
    assert_eq!((seen.value("x.forwarded-for").as_str(), seen.value("x_relay_id").as_str()), ("", ""));
    assert_eq!(seen.value("my_own"), "1");
    assert_eq!(seen.value("via"), "1.1 proxy, 1.1 relay", "no caller takes it away");
}

#[tokio::test]
async fn names_with_an_underscore_pass_from_strangers_when_they_are_let() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nmy_own: 1\r\nContent_Length: 5\r\n\r\n";
    for (flags, value) in [(&[][..], ""), (&["--underscore-headers"], "1")] {
        let relay = Relay::to(Origin::echo().await).client(flags).start().await;
        assert_eq!(relay.raw().await.ask(request).await.status, 200);
        let seen = relay.origin.only();
        assert_eq!((seen.value("my_own").as_str(), seen.value("content_length").as_str()), (value, ""));
    }
}

#[tokio::test]
async fn trailers_follow_the_rules_of_headers_and_are_announced_as_they_are_sent() {
    let (origin, mut requests) = raw_origin("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let relay = Relay::to(origin).start().await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Real-IP, Host\r\nTrailer: {}\r\n\r\n",
        FORGED.map(|name| name.to_owned()).join(", ")
    );
    let trailers = FORGED.map(|name| format!("{name}: forged\r\n")).concat();
    let end = format!("0\r\nX-Sum: 1\r\n{trailers}\r\n");
    // Whole in one message, and streamed.
    for parts in [
        vec![format!("{head}1\r\na\r\n{end}")],
        vec![format!("{head}1\r\na\r\n"), format!("1\r\nb\r\n{end}")],
    ] {
        let mut raw = relay.raw().await;
        let streams = parts.len() > 1;
        for (at, part) in parts.iter().enumerate() {
            raw.send(part).await;
            if at == 0 && streams {
                requests.recv().await.expect("the head reaches the origin before the rest is sent");
            }
        }
        let mut request = String::new();
        while !request.ends_with("0\r\nx-sum: 1\r\n\r\n") {
            request = requests.recv().await.expect("the whole request");
            assert!(!request.contains("forged"), "{request}");
        }
        let announced: Vec<_> = request.lines().filter(|line| line.starts_with("trailer:")).collect();
        assert_eq!(announced, ["trailer: x-sum"], "{request}");
        assert_eq!(raw.answer().await.status, 200);
    }
}

#[tokio::test]
async fn trailers_of_http_2_follow_the_same_rules() {
    let (origin, mut requests) = raw_origin("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let relay = Relay::to(origin).start().await;
    let stream = TcpStream::connect(relay.client.address().await).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut trailers = HeaderMap::new();
    for name in ["x-sum", "x-real-ip", "x_forwarded_for", "authorization", "my_own", "x-relay-id", "cookie"] {
        trailers.append(HeaderName::from_static(name), HeaderValue::from_static("told"));
    }
    let frames: [Result<_, Infallible>; 2] =
        [Ok(Frame::data(Bytes::from("a"))), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(stream::iter(frames));
    let request = http::Request::post("http://a/").header("trailer", "x-sum, x-real-ip").body(body).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") || !request.contains("\r\n0\r\n") {
        request = requests.recv().await.expect("the whole request");
    }
    let (head, end) = request.split_once("\r\n0\r\n").unwrap();
    assert_eq!(end, "x-sum: told\r\n\r\n");
    assert!(head.contains("trailer: x-sum\r\n") && !head.contains("x-real-ip"), "{head}");
}

#[tokio::test]
async fn trailers_of_a_response_are_announced_as_they_are_sent() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Set-Cookie, X-Forwarded-For\r\n\r\n\
                  1\r\na\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a=b\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
    let (origin, _requests) = raw_origin(answer).await;
    let relay = Relay::to(origin).start().await;
    for (te, announced) in [("TE: trailers\r\n", "x-sum"), ("", "")] {
        let mut raw = relay.raw().await;
        raw.send(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{te}\r\n")).await;
        let text = String::from_utf8(raw.until_closed().await).unwrap().to_ascii_lowercase();
        let told: String = text.lines().filter_map(|line| line.strip_prefix("trailer: ")).collect();
        assert_eq!(told, announced, "{text}");
        let end = if announced.is_empty() { "0\r\n\r\n" } else { "0\r\nx-sum: 1\r\n\r\n" };
        assert!(text.ends_with(end), "{text}");
    }
}

#[tokio::test]
async fn of_the_protocols_a_caller_would_change_to_http_is_not_asked_for() {
    let relay = Relay::start().await;
    for (upgrade, asked) in [
        ("foo, h2c", "foo"),
        ("h2c, websocket", "websocket"),
        ("foo\r\nUpgrade: H2C", "foo"),
        ("h2c", ""),
        ("h2c, HTTP/2.0, TLS/1.2", ""),
        ("h2c;q=1, \"h2c\"", ""),
    ] {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\
             Upgrade: {upgrade}\r\n\r\n"
        );
        assert_eq!(relay.raw().await.ask(request).await.status, 200, "{upgrade}");
        let seen = relay.origin.last();
        assert_eq!((seen.value("upgrade").as_str(), seen.value("http2-settings").as_str()), (asked, ""));
    }
}

/// An origin that answers every request with `answer`; what it has read of it is told as it comes.
async fn raw_origin(answer: &'static str) -> (Origin, mpsc::UnboundedReceiver<String>) {
    let (told, requests) = mpsc::unbounded_channel();
    let origin = Origin::tcp(move |mut stream| {
        let told = told.clone();
        async move {
            let mut read = Vec::new();
            while stream.read_buf(&mut read).await.is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&read).into_owned();
                let is_whole = text.ends_with("\r\n\r\n")
                    && (!text.contains("transfer-encoding: chunked") || text.contains("\r\n0\r\n"));
                if told.send(text).is_err() {
                    return;
                }
                if is_whole {
                    read.clear();
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    (origin.await, requests)
}

/// Trailers that no origin gets.
const FORGED: [&str; 14] = [
    "X-Real-IP",
    "X_Forwarded_For",
    "X-Forwarded-For",
    "Forwarded",
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "Authorization",
    "Cookie",
    "Proxy-Authorization",
    "X-Relay-Id",
    "CF-Connecting-IP",
    "My_Own",
    "Expect",
];
/// What origins take for the word of a proxy in front, or of the relay.
const SAID: [&str; 17] = [
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-User",
    "X-Forwarded-Whatever",
    "X-Real-IP",
    "True-Client-IP",
    "X-Client-IP",
    "X-Original-URL",
    "X-Original-Forwarded-For",
    "X-Rewrite-URL",
    "CF-Connecting-IP",
    "Front-End-Https",
    "Fastly-Client-IP",
    "X-Cluster-Client-IP",
    "X-ProxyUser-Ip",
    "X-Relay-Anything",
];
