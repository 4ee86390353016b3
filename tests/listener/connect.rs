//! WebSocket over HTTP/2 (RFC 8441), and what origins say before their response, to callers of HTTP/2.

use bytes::Bytes;
use h2::{Reason, client::SendRequest, ext::Protocol};
use http::{Method, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{origin::read_request, *};

#[tokio::test]
async fn a_websocket_is_opened_by_an_extended_connect_and_closed_in_order() {
    let relay = Relay::to(Origin::tcp(websocket).await).start().await;
    let mut h2 = connect(&relay).await;
    let (response, mut sending) = h2.send_request(extended("websocket", "/chat?a=b"), false).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    for name in ["sec-websocket-accept", "connection", "upgrade", "content-length"] {
        assert!(!response.headers().contains_key(name), "{:?}", response.headers());
    }
    let mut body = response.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "GET /chat?a=b");
    for word in ["one", "two"] {
        sending.send_data(word.into(), false).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), word);
    }
    // Other requests share the connection.
    let (other, _) = h2.send_request(Request::get("http://test/").body(()).unwrap(), true).unwrap();
    assert_eq!(other.await.unwrap().status(), 404);
    sending.send_data(Bytes::new(), true).unwrap();
    let mut last = Vec::new();
    while let Some(data) = body.data().await {
        last.extend(data.unwrap());
    }
    assert_eq!(last, b"bye", "it ends, and is not reset");
    eventually("the origin is left", || relay.origin.connected() <= 1).await;
}

#[tokio::test]
async fn what_is_no_change_of_protocols_is_not_taken_for_one() {
    let relay = Relay::to(Origin::tcp(websocket).await).start().await;
    let mut h2 = connect(&relay).await;
    // The origin refuses, answers like any page, or as another protocol does.
    for (protocol, path, status) in [
        ("websocket", "/refused", 404),
        ("websocket", "/page", 502),
        ("websocket", "/wrong", 502),
        ("h2c", "/page", 502),
    ] {
        let (response, _sending) = h2.send_request(extended(protocol, path), false).unwrap();
        assert_eq!(response.await.unwrap().status(), status, "{protocol} {path}");
    }
    let plain = Request::builder().method(Method::CONNECT).uri("test:80").body(()).unwrap();
    let (response, _sending) = h2.send_request(plain, false).unwrap();
    assert_eq!(response.await.unwrap().status(), 501);
}

#[tokio::test]
async fn a_websocket_that_breaks_off_is_reset_and_one_that_is_left_ends() {
    let relay = Relay::to(Origin::tcp(websocket).await).start().await;
    let mut h2 = connect(&relay).await;
    let (response, sending) = h2.send_request(extended("websocket", "/left"), false).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    eventually("the origin is there", || relay.origin.connected() == 1).await;
    drop(sending);
    eventually("the origin is left", || relay.origin.connected() == 0).await;
    let (response, _sending) = h2.send_request(extended("websocket", "/cut"), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "GET /cut");
    relay.agent.kill9();
    assert!(body.data().await.unwrap().unwrap_err().is_reset());
}

#[tokio::test]
async fn interim_responses_reach_a_caller_of_http2() {
    let origin = Origin::tcp(|stream| async move {
        let said = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                    HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        origin::serve_once(stream, said).await;
    });
    let relay = Relay::to(origin.await).start().await;
    let mut h2 = connect(&relay).await;
    let (mut response, _) = h2.send_request(Request::get("http://test/").body(()).unwrap(), true).unwrap();
    let mut statuses = Vec::new();
    while let Some(interim) = std::future::poll_fn(|cx| response.poll_informational(cx)).await {
        let interim = interim.unwrap();
        statuses.push((interim.status().as_u16(), interim.headers().contains_key("link")));
    }
    assert_eq!(statuses, [(103, true), (102, false)]);
    let response = response.await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-length"]),
        (200, &"2".parse().unwrap())
    );
    assert!(response.headers().contains_key("date"));
}

#[tokio::test]
async fn a_request_that_is_reset_leaves_the_others_of_its_connection() {
    let relay = Relay::to(Origin::echo().await).start().await;
    let mut h2 = connect(&relay).await;
    let (_, mut cut) = h2.send_request(Request::post("http://test/").body(()).unwrap(), false).unwrap();
    let (whole, mut body) = h2.send_request(Request::post("http://test/").body(()).unwrap(), false).unwrap();
    cut.send_reset(Reason::CANCEL);
    body.send_data("data".into(), true).unwrap();
    assert_eq!(whole.await.unwrap().into_body().data().await.unwrap().unwrap(), "data");
}

async fn connect(relay: &Relay) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(relay.client.address().await).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let sender = sender.ready().await.unwrap();
    eventually("the agent says that it takes them", || sender.is_extended_connect_protocol_enabled()).await;
    sender
}

fn extended(protocol: &'static str, path: &str) -> Request<()> {
    let request = Request::builder().method(Method::CONNECT).uri(format!("http://test{path}"));
    let request = request.extension(Protocol::from_static(protocol));
    request.header("sec-websocket-protocol", "chat").header("sec-websocket-version", "13").body(()).unwrap()
}

/// A WebSocket server of which only the handshake is one: it says what was asked, and sends back what comes.
async fn websocket(mut stream: TcpStream) {
    let Some(request) = read_request(&mut stream).await else { return };
    let request = String::from_utf8_lossy(&request).into_owned();
    let field = |name: &str| {
        let line = request
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)));
        line.map(|(_, value)| value.to_owned())
    };
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let upgrades = field("upgrade").is_some_and(|upgrade| upgrade == "websocket");
    if path == "/page" {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.ok();
        return;
    }
    if !upgrades || path == "/refused" {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await.ok();
        return;
    }
    assert_eq!(field("sec-websocket-version").as_deref(), Some("13"));
    let text = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", field("sec-websocket-key").unwrap());
    let accept = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let accept =
        if path == "/wrong" { "no".to_owned() } else { data_encoding::BASE64.encode(accept.as_ref()) };
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\
         Sec-WebSocket-Protocol: chat\r\n\r\nGET {path}"
    );
    stream.write_all(head.as_bytes()).await.ok();
    let mut room = [0; 1024];
    while let Ok(bytes @ 1..) = stream.read(&mut room).await {
        if stream.write_all(&room[..bytes]).await.is_err() {
            return;
        }
    }
    stream.write_all(b"bye").await.ok();
}
