//! Bodies that are empty, and bodies that come later than their heads.

use bytes::Bytes;
use relay::wire::codec::decode_request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use crate::support::*;

#[tokio::test]
async fn an_empty_body_keeps_its_length_by_every_method() {
    let relay = Relay::start().await;
    let mut raw = relay.raw().await;
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "MKCOL", "PROPFIND"] {
        for (framing, arrives) in [
            ("", [""; 2]),
            ("Content-Length: 0\r\n", ["0", ""]),
            ("Content-Length: 0\r\nContent-Length: 0\r\n", ["0", ""]),
            ("Content-Length: 00\r\n", ["00", ""]),
            ("Content-Length: 0\r\nConnection: content-length\r\n", ["0", ""]),
            ("Content-Length: 0\r\nExpect: 100-continue\r\n", ["0", ""]),
        ] {
            raw.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n{framing}\r\n")).await;
            let answer = if method == "HEAD" { raw.answer_to_head().await } else { raw.answer().await };
            assert_eq!(answer.status, 200, "{}", answer.head);
            assert_eq!(framing_of(&relay.origin.last()), arrives, "{method} {framing}");
        }
        // Nothing in chunks is an empty body as well.
        let chunked = "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        raw.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n{chunked}")).await;
        let answer = if method == "HEAD" { raw.answer_to_head().await } else { raw.answer().await };
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert_eq!(framing_of(&relay.origin.last()), ["0", ""], "{method} in chunks");
    }
    let mut raw = relay.raw().await;
    raw.ask("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(framing_of(&relay.origin.last()), ["0", ""], "HTTP/1.0");
}

#[tokio::test]
async fn an_empty_body_keeps_its_framing_from_callers_of_http_2() {
    let relay = Relay::start().await;
    let address = relay.client.address().await;
    let (h2, connection) = h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let mut h2 = h2.ready().await.unwrap();
    for (length, by_data, arrives) in
        [(Some("0"), false, "0"), (None, false, ""), (None, true, "0"), (Some("0"), true, "0")]
    {
        for method in ["POST", "PUT", "GET"] {
            let mut request = http::Request::builder().method(method).uri("http://a/");
            if let Some(length) = length {
                request = request.header("content-length", length);
            }
            let (answer, mut body) = h2.send_request(request.body(()).unwrap(), !by_data).unwrap();
            if by_data {
                body.send_data(Bytes::new(), true).unwrap();
            }
            assert_eq!(answer.await.unwrap().status(), 200);
            assert_eq!(
                framing_of(&relay.origin.last()),
                [arrives, ""],
                "{method} {length:?}, ended by DATA: {by_data}"
            );
        }
    }
}

#[tokio::test]
async fn a_head_goes_on_before_its_body_is_here() {
    for (framing, body) in
        [("Content-Length: 5", "12345"), ("Transfer-Encoding: chunked", "5\r\n12345\r\n0\r\n\r\n")]
    {
        for begun in 0..2 {
            let (heads, mut seen) = mpsc::unbounded_channel();
            let origin = Origin::tcp(move |stream| read_head_then_body(stream, heads.clone())).await;
            let relay = Relay::to(origin).start().await;
            let mut raw = relay.raw().await;
            // Nothing of the body, or the first of its bytes.
            raw.send(format!("PUT /late HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{}", &body[..begun])).await;
            let head = within(PATIENCE, "the head reaches the origin", seen.recv()).await.unwrap();
            assert!(head.to_ascii_lowercase().contains(&framing.to_ascii_lowercase()), "{head}");
            raw.send(&body[begun..]).await;
            assert_eq!(raw.answer().await.text(), "12345", "{framing}, {begun} bytes with the head");
        }
    }
}

#[tokio::test]
async fn a_body_that_comes_with_its_head_is_in_the_message_of_the_request() {
    let relay = Relay::start().await;
    let bus = relay.nats.connect().await;
    let mut requests = listen(&bus, "relay.req.hello").await;
    for (framing, body) in
        [("Content-Length: 5", "12345"), ("Transfer-Encoding: chunked", "5\r\n12345\r\n0\r\n\r\n")]
    {
        let request = format!("PUT / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}");
        assert_eq!(relay.raw().await.ask(request).await.text(), "12345");
        let message = decode_request(&requests.next().await.unwrap().payload).unwrap();
        assert_eq!((&message.body[..], message.stream), (&b"12345"[..], false), "{framing}");
    }
}

/// What an origin is told of the end of a body: `Content-Length` and `Transfer-Encoding`.
fn framing_of(seen: &Seen) -> [String; 2] {
    [seen.value("content-length"), seen.value("transfer-encoding")]
}

/// Tells the head of a request as soon as it is here, and answers with the five bytes of its body.
async fn read_head_then_body(mut stream: TcpStream, heads: mpsc::UnboundedSender<String>) {
    let mut request = Vec::new();
    let mut end = None;
    while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&request).into_owned();
        if end.is_none()
            && let Some(at) = text.find("\r\n\r\n")
        {
            end = Some(at + 4);
            heads.send(text[..at].to_owned()).ok();
        }
        if end.is_some_and(|end| text[end..].ends_with("5") || text[end..].ends_with("0\r\n\r\n")) {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345").await.ok();
            return;
        }
    }
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
