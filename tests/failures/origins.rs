//! Origins that cannot be reached, or that answer with something else than a response.

use std::{sync::Arc, time::Duration};

use tokio::io::AsyncWriteExt;

use crate::support::{origin::read_request, *};

#[tokio::test]
async fn an_origin_that_refuses_is_502() {
    let (client, _rest) = in_front_of(&format!("http://127.0.0.1:{}", origin::unused_port()), &[]).await;
    problem(client.get("/").await).await.is(502, "origin_refused", "upstream").names("127.0.0.1");
}

#[tokio::test]
async fn an_origin_without_an_address_is_502() {
    let (client, _rest) = in_front_of("http://nothing.invalid", &["--connect-timeout", "50s"]).await;
    problem(client.get("/").await).await.is(502, "origin_dns", "upstream").names("nothing.invalid");
}

#[tokio::test]
async fn an_origin_that_does_not_accept_is_502_after_the_connect_timeout() {
    // A listener whose queue is full answers nothing at all.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(connected) =
        tokio::time::timeout(Duration::from_millis(500), tokio::net::TcpStream::connect(address)).await
    {
        waiting.push(connected.unwrap());
        assert!(waiting.len() < 100, "the queue has no end");
    }
    let (client, _rest) = in_front_of(&format!("http://{address}"), &["--connect-timeout", "400ms"]).await;
    let answer = within(Duration::from_secs(10), "an answer after --connect-timeout", client.get("/")).await;
    problem(answer).await.is(502, "origin_connect_timeout", "upstream").names("--connect-timeout");
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_502() {
    for garbage in [
        "hello, I am no HTTP\r\n\r\n",
        "\0\u{1}\u{2}",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    ] {
        let relay = relay_to_tcp(garbage).await;
        problem(relay.get("/").await).await.is(502, "origin_broken", "upstream");
    }
}

#[tokio::test]
async fn an_origin_that_hangs_up_without_a_word_is_502() {
    let relay = relay_to_tcp("").await;
    for _ in 0..2 {
        problem(relay.get("/").await).await.is(502, "origin_broken", "upstream");
        problem(relay.post("/", "x").await).await.is(502, "origin_broken", "upstream");
    }
}

#[tokio::test]
async fn a_cut_response_never_looks_complete() {
    for cut in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonly\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\non",
        "HTTP/1.1 200 OK\r\nContent-Le",
    ] {
        let relay = relay_to_tcp(cut).await;
        let answer = relay.post("/", "x").await;
        // What broke off before anything of it went on is a fault; after that the caller sees it break off.
        if answer.status() == 200 {
            assert!(answer.bytes().await.is_err(), "{cut:?}");
        } else {
            problem(answer).await.is(502, "origin_broken", "upstream");
        }
    }
}

#[tokio::test]
async fn a_post_is_not_sent_twice_when_the_origin_hangs_up() {
    let heard = Arc::new(std::sync::Mutex::new(0));
    let count = Arc::clone(&heard);
    let origin = Origin::tcp(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            // The first is answered and the connection kept; the next request finds it closed.
            while read_request(&mut stream).await.is_some() {
                let number = {
                    let mut count = count.lock().unwrap();
                    *count += 1;
                    *count
                };
                if number > 1 {
                    return;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.ok();
            }
        }
    });
    let relay = Relay::to(origin.await).start().await;
    assert_eq!(relay.post("/", "1").await.status(), 200);
    problem(relay.post("/", "2").await).await.is(502, "origin_broken", "upstream");
    assert_eq!(*heard.lock().unwrap(), 2);
}

/// A relay before an origin that reads a request, writes `answer` and closes.
async fn relay_to_tcp(answer: &'static str) -> Relay {
    Relay::to(Origin::tcp(move |stream| origin::serve_once(stream, answer)).await).start().await
}

async fn in_front_of(to: &str, flags: &[&str]) -> (Role, (Role, Nats)) {
    let nats = Nats::start().await;
    let (client, agent) =
        tokio::join!(nats.client(&["--upstream", "hello"]), nats.upstream("hello", to, flags));
    (client, (agent, nats))
}
