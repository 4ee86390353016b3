//! What HTTP/1 has besides bodies: 100 Continue, other protocols, connections that were kept too long.

use http::{Method, Version};
use relay::{origin::Outgoing, wire::Code};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
};

use super::{
    bodies::{read_until, tcp},
    calls::*,
};
use crate::support::{Origin, eventually};

#[tokio::test]
async fn a_body_can_wait_until_the_origin_wants_it() {
    let server = tcp(|mut stream, told| async move {
        told.send(read_until(&mut stream, "\r\n\r\n").await).unwrap();
        // Other interim responses say nothing.
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await.unwrap();
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        told.send(read_until(&mut stream, "wanted").await).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        read_until(&mut stream, "never").await;
    })
    .await;
    let origin = origin(&server.url(), &[]);
    let (feed, mut call) = feed();
    call.headers.extend(headers(&[("expect", "100-continue"), ("content-length", "6")]));
    let (go, told) = oneshot::channel();
    let fed = async {
        timely(told).await.expect("100 Continue is told");
        feed.data("wanted");
    };
    let go = Box::new(move || go.send(()).unwrap());
    let (answer, ()) = tokio::join!(timely(origin.call(call, Some(go))), fed);
    ends_with(answer.unwrap(), "ok").await;
    assert!(server.told().await.to_lowercase().contains("expect: 100-continue"));
    assert_eq!(server.told().await, "wanted", "nothing was sent before it was wanted");
}

#[tokio::test]
async fn an_origin_that_does_not_want_the_body_answers_without_it() {
    let server = tcp(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        read_until(&mut stream, "never").await;
    })
    .await;
    let origin = origin(&server.url(), &[]);
    let (_feed, mut call) = feed();
    call.headers.extend(headers(&[("expect", "100-continue"), ("content-length", "6")]));
    let answer = timely(origin.call(call, Some(Box::new(|| panic!("it did not say continue"))))).await;
    assert_eq!(answer.unwrap().status, 417);
    eventually("the connection is closed", || server.connected() == 0).await;
}

#[tokio::test]
async fn a_connection_can_switch_to_another_protocol() {
    let server = tcp(|mut stream, told| async move {
        told.send(read_until(&mut stream, "\r\n\r\n").await).unwrap();
        // The first words of the other protocol come with the head.
        let head = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello";
        stream.write_all(head).await.unwrap();
        let (mut reading, mut writing) = stream.split();
        tokio::io::copy(&mut reading, &mut writing).await.unwrap();
        writing.write_all(b"bye").await.unwrap();
    })
    .await;
    let origin = origin(&server.url(), &[]);
    let mut call = get("/chat");
    call.upgrade = Some("echo".parse().unwrap());
    let answer = timely(origin.call(call, None)).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.headers["upgrade"]), (101, &"echo".parse().unwrap()));
    let request = server.told().await.to_lowercase();
    assert!(
        request.contains("connection: upgrade\r\n") && request.contains("upgrade: echo\r\n"),
        "{request}"
    );
    let mut switched = answer.into_upgraded().expect("another protocol");
    let mut read = [0; 5];
    timely(switched.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"hello");
    switched.write_all(b"echo!").await.unwrap();
    timely(switched.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"echo!");
    switched.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timely(switched.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"bye");
}

#[tokio::test]
async fn an_origin_may_decline_to_switch() {
    let server = Origin::saying("as ever").await;
    let origin = origin(&server.url(), &[]);
    for _ in 0..2 {
        let mut call = get("/");
        call.upgrade = Some("websocket".parse().unwrap());
        ends_with(timely(origin.call(call, None)).await.unwrap(), "as ever").await;
    }
    assert_eq!(server.connections(), 1, "and the connection is kept");
}

#[tokio::test]
async fn an_origin_that_switches_unasked_is_broken() {
    let server = tcp(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 101 Switching\r\nUpgrade: odd\r\n\r\n").await.unwrap();
    })
    .await;
    let fault = timely(origin(&server.url(), &[]).call(get("/"), None)).await.err().expect("no answer");
    assert_eq!(fault.code, Code::OriginBroken);
}

#[tokio::test]
async fn a_stream_finds_a_new_connection_when_the_kept_one_was_closed() {
    let server = Origin::echo().await;
    let origin = origin(&server.url(), &[]);
    ends_with(timely(origin.call(get("/"), None)).await.unwrap(), "").await;
    server.close_connections();
    eventually("the kept connection is closed", || server.connected() == 0).await;
    let (feed, call) = feed();
    feed.data("still here");
    drop(feed);
    ends_with(timely(origin.call(call, None)).await.unwrap(), "still here").await;
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_stream_is_not_sent_twice() {
    let server = tcp(|mut stream, told| async move {
        let mut answers = 0;
        loop {
            let request = read_until(&mut stream, "\r\n\r\n").await;
            if request.is_empty() {
                return;
            }
            told.send(request).unwrap();
            answers += 1;
            if answers == 2 {
                return;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let origin = origin(&server.url(), &[]);
    ends_with(timely(origin.call(get("/"), None)).await.unwrap(), "").await;
    server.told().await;
    let (feed, mut call) = feed();
    // As idempotent as it may be, its body is gone.
    call.method = Method::PUT;
    feed.data("x");
    assert_eq!(timely(origin.call(call, None)).await.err().expect("no answer").code, Code::OriginBroken);
    server.told().await;
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn an_http_1_0_origin_is_asked_anew_with_what_it_does_not_understand() {
    let server = tcp(|mut stream, told| async move {
        while !read_until(&mut stream, "\r\n\r\n").await.is_empty() {
            let answer = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            told.send(String::new()).unwrap();
        }
    })
    .await;
    let origin = origin(&server.url(), &[]);
    for _ in 0..2 {
        let answer = timely(origin.call(get("/"), None)).await.unwrap();
        assert_eq!(answer.version, Version::HTTP_10);
        ends_with(answer, "").await;
    }
    // On a connection that speaks HTTP/1.0 there are no chunks, and the body would be lost.
    let (feed, call) = feed();
    feed.data("body");
    drop(feed);
    timely(origin.call(call, None)).await.unwrap();
    let whole = Outgoing::Whole { body: "body".into(), trailers: None };
    timely(origin.call(super::calls::call(Method::POST, "/", whole), None)).await.unwrap();
    assert!(server.connections() >= 2, "{}", server.connections());
}

#[tokio::test]
async fn a_connection_after_which_the_origin_may_say_more_is_not_used_again() {
    for (answer, kept) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
        (
            "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            true,
        ),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok stray", false),
        // The response ends with its chunks, whatever else it tells; a caller is told one end.
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            false,
        ),
    ] {
        let server = tcp(move |mut stream, _| async move {
            while !read_until(&mut stream, "\r\n\r\n").await.is_empty() {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await;
        let origin = origin(&server.url(), &[]);
        for _ in 0..2 {
            let got = timely(origin.call(get("/"), None)).await.unwrap();
            assert!(got.headers.get("content-length").is_none_or(|length| length == "2"));
            ends_with(got, "ok").await;
        }
        assert_eq!(server.connections(), if kept { 1 } else { 2 }, "{answer}");
    }
}

#[tokio::test]
async fn a_response_may_come_byte_by_byte() {
    let server = tcp(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let answer =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nx-end: 1\r\n\r\n";
        for byte in answer {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut answer = timely(origin(&server.url(), &[]).call(get("/"), None)).await.unwrap();
    assert_eq!(rest(&mut answer).await.unwrap(), ("ok".into(), map(&[("x-end", "1")])));
}
