//! What an origin says before its response (RFC 9110 section 15.2): it reaches callers that may be told, as it comes.

use tokio::{io::AsyncWriteExt, net::TcpStream, sync::watch};

use crate::support::{
    frames::{self, Frames},
    origin::{self, read_request},
    *,
};

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>\r\nConnection: x-hop\r\n\
                     X-Hop: 1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
const PROCESSING: &str = "HTTP/1.1 102 Processing\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn interim_responses_reach_a_caller_as_they_come_and_before_the_response() {
    let gate = watch::Sender::new(0);
    let told = gate.subscribe();
    let origin =
        Origin::tcp(move |stream| says(stream, told.clone(), vec![HINTS, PROCESSING, HINTS, OK])).await;
    let relay = Relay::to(origin).client(&["--cache", "8MB"]).start().await;
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        gate.send_replace(0);
        let mut raw = relay.raw().await;
        raw.send(request).await;
        for (turn, status) in [103, 102, 103].into_iter().enumerate() {
            gate.send_replace(turn + 1);
            let interim = raw.answer().await;
            assert_eq!(interim.status, status, "{}", interim.head);
            let links = if status == 103 { "</a.css>; rel=preload | </b.js>" } else { "" };
            assert_eq!(interim.value("link"), links);
            for name in ["connection", "x-hop", "content-length", "transfer-encoding", "date"] {
                assert!(!interim.has(name), "{}", interim.head);
            }
        }
        gate.send_replace(4);
        let answer =
            if request.starts_with("HEAD") { raw.answer_to_head().await } else { raw.answer().await };
        assert_eq!((answer.status, answer.has("link")), (200, false));
    }
}

#[tokio::test]
async fn a_caller_of_http_1_0_is_told_none() {
    let gate = watch::Sender::new(9);
    let told = gate.subscribe();
    let origin = Origin::tcp(move |stream| says(stream, told.clone(), vec![HINTS, PROCESSING, OK])).await;
    let relay = Relay::to(origin).start().await;
    let answer = relay.raw().await.ask("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
}

#[tokio::test]
async fn a_hundred_continue_is_the_origins_word_on_the_body_among_the_others() {
    let origin = Origin::tcp(|stream| async move {
        expects(stream).await.ok();
    });
    let relay = Relay::to(origin.await).start().await;
    let mut raw = relay.raw().await;
    raw.send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, 103);
    assert_eq!(raw.answer().await.status, 100);
    raw.send("body").await;
    assert_eq!(raw.answer().await.status, 102);
    let answer = raw.answer().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
}

/// Asks for the body between two other interim responses.
async fn expects(mut stream: TcpStream) -> std::io::Result<()> {
    use tokio::io::AsyncReadExt;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_buf(&mut head).await?;
    }
    stream.write_all(HINTS.as_bytes()).await?;
    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    stream.read_exact(&mut [0; 4]).await?;
    stream.write_all(PROCESSING.as_bytes()).await?;
    stream.write_all(OK.as_bytes()).await
}

#[tokio::test]
async fn as_many_pass_as_have_room_and_the_response_comes_in_any_case() {
    let large = format!("HTTP/1.1 103 Early Hints\r\nX-Large: {}\r\n\r\n", "x".repeat(10_000));
    let said = [PROCESSING.repeat(500), large.repeat(7), OK.to_owned()].concat();
    let origin = Origin::tcp(move |stream| {
        let said = said.clone();
        async move { origin::serve_once(stream, &said).await }
    });
    let relay = Relay::to(origin.await).start().await;
    let mut raw = relay.raw().await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut statuses = Vec::new();
    loop {
        let answer = raw.answer().await;
        statuses.push(answer.status);
        if answer.status >= 200 {
            break;
        }
    }
    let count = |status| statuses.iter().filter(|&&s| s == status).count();
    assert_eq!((count(102), count(103), count(200)), (500, 3, 1));
}

#[tokio::test]
async fn a_switch_that_was_not_asked_for_is_refused_at_once() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let origin = Origin::tcp(move |mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(switch.as_bytes()).await.ok();
        // It says no more, and stays.
        read_request(&mut stream).await;
    });
    let relay = Relay::to(origin.await).start().await;
    for version in ["1.1", "1.0"] {
        let answer = relay.raw().await.ask(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n")).await;
        answer.problem().is(502, "origin_broken", "upstream").names("switched protocols");
    }
}

#[tokio::test]
async fn an_origin_that_speaks_http2_is_heard_as_well_and_cannot_switch() {
    let origin = Origin::tcp(|stream| async move {
        speaks_http2(stream).await.ok();
    })
    .await;
    let nats = Nats::start().await;
    let url = format!("h2c://{}", origin.address());
    let (_agent, client) =
        tokio::join!(nats.upstream("hello", &url, &[]), nats.client(&["--upstream", "hello"]));
    let mut raw = client.raw().await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let interim = raw.answer().await;
    assert_eq!((interim.status, interim.value("link").as_str()), (103, "</a.css>"));
    raw.answer().await.problem().is(502, "origin_broken", "upstream").names("switched protocols");
}

/// Sends hints, and then a 101, of which HTTP/2 knows nothing.
async fn speaks_http2(stream: TcpStream) -> std::io::Result<()> {
    let mut frames = Frames::serve(stream).await?;
    loop {
        let stream = frames.next_of(frames::HEADERS).await?.stream;
        frames.head(0, stream, &[(":status", "103"), ("link", "</a.css>")]).await?;
        frames.head(0, stream, &[(":status", "101")]).await?;
    }
}

/// Answers requests in parts, each once `told` says so.
async fn says(mut stream: TcpStream, mut told: watch::Receiver<usize>, parts: Vec<&'static str>) {
    while read_request(&mut stream).await.is_some() {
        for (at, part) in parts.iter().enumerate() {
            told.wait_for(|told| *told > at).await.ok();
            if stream.write_all(part.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}
