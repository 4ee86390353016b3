//! How long an origin may say nothing.

use relay::wire::Code;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    bodies::{read_until, tcp},
    calls::*,
    http2::H2,
};
use crate::support::{Origin, eventually};

#[tokio::test]
async fn an_origin_that_pauses_for_too_long_is_given_up() {
    let server = silent_after("Content-Type: text/plain").await;
    let origin = origin(&server.url(), &["--idle-timeout", "50ms"]);
    let mut answer = timely(origin.call(get("/"), None)).await.unwrap();
    assert_eq!(data(&mut answer).await, "word");
    let fault = rest(&mut answer).await.unwrap_err();
    assert_eq!((fault.code, fault.maybe_seen), (Code::OriginSilent, true));
    assert!(fault.detail.contains("50ms") && fault.detail.contains("--idle-timeout"), "{fault}");
    eventually("the connection is closed", || server.connected() == 0).await;
}

#[tokio::test]
async fn an_http2_origin_that_pauses_for_too_long_is_given_up() {
    let server = H2::start(|mut exchange| async move {
        exchange.say_and_tell_reset("word").await;
    })
    .await;
    let origin = origin(&server.url(""), &["--idle-timeout", "50ms"]);
    let mut answer = timely(origin.call(get("/"), None)).await.unwrap();
    assert_eq!(data(&mut answer).await, "word");
    assert_eq!(rest(&mut answer).await.unwrap_err().code, Code::OriginSilent);
    assert_eq!(server.told().await, "CANCEL");
}

#[tokio::test]
async fn a_response_may_take_much_longer_than_its_pauses() {
    let server = tcp(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n").await.unwrap();
        for _ in 0..60 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            stream.write_all(b"x").await.unwrap();
        }
    })
    .await;
    let origin = origin(&server.url(), &["--idle-timeout", "1s"]);
    ends_with(timely(origin.call(get("/"), None)).await.unwrap(), &"x".repeat(60)).await;
}

#[tokio::test]
async fn what_is_silent_by_nature_has_a_limit_of_its_own() {
    for kind in ["text/event-stream; charset=utf-8", "Application/gRPC+proto", "application/grpc"] {
        let server = silent_after(&format!("Content-Type: {kind}")).await;
        let flags = ["--idle-timeout", "1ms", "--stream-idle", "80ms"];
        let origin = origin(&server.url(), &flags);
        let mut answer = timely(origin.call(get("/"), None)).await.unwrap();
        assert_eq!(data(&mut answer).await, "word");
        let fault = rest(&mut answer).await.unwrap_err();
        assert!(fault.detail.contains("80ms") && fault.detail.contains("--stream-idle"), "{kind}: {fault}");
    }
}

#[tokio::test]
async fn a_switched_connection_ends_after_a_long_silence_of_both_sides() {
    let server = tcp(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 101 Switching\r\nUpgrade: echo\r\n\r\n").await.unwrap();
        read_until(&mut stream, "never").await;
    })
    .await;
    let origin = origin(&server.url(), &["--stream-idle", "200ms"]);
    let mut call = get("/");
    call.upgrade = Some("echo".parse().unwrap());
    let mut switched = timely(origin.call(call, None)).await.unwrap().into_upgraded().unwrap();
    let mut byte = [0];
    let started = std::time::Instant::now();
    // What is written counts as well as what is read.
    for _ in 0..10 {
        switched.write_all(b"x").await.unwrap();
        let read = tokio::time::timeout(std::time::Duration::from_millis(40), switched.read(&mut byte));
        assert!(read.await.is_err(), "it is not silent yet, after {:?}", started.elapsed());
    }
    let error = timely(switched.read(&mut byte)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

/// A server that says a word and no more.
async fn silent_after(header: &str) -> Origin {
    let head = format!("HTTP/1.1 200 OK\r\n{header}\r\nContent-Length: 99\r\n\r\nword");
    Origin::tcp(move |mut stream| {
        let head = head.clone();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(head.as_bytes()).await.unwrap();
            read_until(&mut stream, "never").await;
        }
    })
    .await
}
