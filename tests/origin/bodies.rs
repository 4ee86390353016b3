//! Bodies over HTTP/1: both ways at once, early answers, cuts, trailers, and what is kept afterwards.

use http::{Method, header};
use relay::{origin::Outgoing, wire::Code};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use super::calls::*;
use crate::support::{Origin, answer, eventually};

#[tokio::test]
async fn a_body_streams_both_ways_at_once() {
    let server = tcp(|mut stream, _| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.to_lowercase().contains("transfer-encoding: chunked"), "{head}");
        assert!(!head.to_lowercase().contains("content-length"), "{head}");
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        // Each piece is answered before the next is sent.
        for piece in ["one", "two"] {
            read_until(&mut stream, piece).await;
            stream.write_all(format!("3\r\n{piece}\r\n").as_bytes()).await.unwrap();
        }
        read_until(&mut stream, "0\r\n\r\n").await;
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        read_until(&mut stream, "never").await;
    })
    .await;
    let origin = origin(&server.url(), &[]);
    let (feed, call) = feed();
    let mut answer = timely(origin.call(call, None)).await.unwrap();
    for piece in ["one", "two"] {
        feed.data(piece);
        assert_eq!(data(&mut answer).await, piece);
    }
    drop(feed);
    ends_with(answer, "").await;
}

#[tokio::test]
async fn a_stream_of_known_length_keeps_its_length() {
    let server = Origin::echo().await;
    let origin = origin(&server.url(), &[]);
    let (feed, mut call) = feed();
    call.headers.insert(header::CONTENT_LENGTH, 6.into());
    feed.data("sec");
    feed.data("ret");
    drop(feed);
    ends_with(timely(origin.call(call, None)).await.unwrap(), "secret").await;
    assert_eq!(server.only().value("content-length"), "6");
    assert_eq!(server.only().value("transfer-encoding"), "");
}

#[tokio::test]
async fn a_stream_of_unknown_length_is_chunked_whatever_the_method() {
    let server = Origin::echo().await;
    let origin = origin(&server.url(), &[]);
    for method in [Method::GET, Method::POST, Method::DELETE] {
        let (feed, mut call) = feed();
        call.method = method;
        feed.data("body");
        drop(feed);
        ends_with(timely(origin.call(call, None)).await.unwrap(), "body").await;
        assert_eq!(server.last().value("transfer-encoding"), "chunked");
    }
}

#[tokio::test]
async fn a_whole_body_has_its_own_length_whatever_the_caller_says() {
    let server = Origin::echo().await;
    let origin = origin(&server.url(), &[]);
    for claimed in ["2", "200", "4, 4", "x"] {
        let mut call = post("/", "four");
        call.headers.extend(headers(&[("transfer-encoding", "chunked"), ("connection", "close")]));
        call.headers.append(header::CONTENT_LENGTH, claimed.parse().unwrap());
        ends_with(timely(origin.call(call, None)).await.unwrap(), "four").await;
        let seen = server.last();
        assert_eq!((seen.value("content-length"), seen.value("transfer-encoding")), ("4".into(), "".into()));
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_is_kept_after_streamed_bodies() {
    let server = Origin::echo().await;
    let origin = origin(&server.url(), &[]);
    for _ in 0..3 {
        let (feed, call) = feed();
        feed.data("again");
        drop(feed);
        ends_with(timely(origin.call(call, None)).await.unwrap(), "again").await;
    }
    assert_eq!((server.hits(), server.connections()), (3, 1));
}

#[tokio::test]
async fn an_answer_comes_before_the_body_has_ended_and_its_connection_is_not_used_again_when_that_is_cut() {
    let server = tcp(|mut stream, _| async move {
        read_until(&mut stream, "some").await;
        stream.write_all(b"HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\n\r\nstop").await.unwrap();
        read_until(&mut stream, "never").await;
    })
    .await;
    let origin = origin(&server.url(), &[]);
    for connections in 1..3 {
        let (feed, call) = feed();
        feed.data("some");
        let answer = timely(origin.call(call, None)).await.unwrap();
        assert_eq!(answer.status, 413);
        ends_with(answer, "stop").await;
        // The origin may still read.
        assert_eq!((server.connected(), server.connections()), (1, connections));
        feed.cut();
        eventually("the connection is closed", || server.connected() == 0).await;
    }
}

#[tokio::test]
async fn an_answer_is_heard_though_the_origin_has_hung_up_on_the_body() {
    let server = tcp(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 401 Who\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
        // With bytes unread, closing resets the connection.
        stream.readable().await.unwrap();
    })
    .await;
    let origin = origin(&server.url(), &[]);
    for _ in 0..20 {
        let (feed, call) = feed();
        let fed = async {
            for _ in 0..20 {
                feed.data(LARGE);
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await
        };
        let answer = tokio::select! {
            answer = timely(origin.call(call, None)) => answer.unwrap(),
            () = fed => unreachable!(),
        };
        assert_eq!(answer.status, 401);
        ends_with(answer, "no").await;
    }
}

#[tokio::test]
async fn a_cut_body_never_looks_whole_to_the_origin() {
    for length in [None, Some("8")] {
        let server = tcp(|mut stream, told| async move {
            told.send(read_until(&mut stream, "half").await).unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.ok();
            told.send(String::from_utf8(rest).unwrap()).unwrap();
        })
        .await;
        let origin = origin(&server.url(), &[]);
        let (feed, mut call) = feed();
        if let Some(length) = length {
            call.headers.insert(header::CONTENT_LENGTH, length.parse().unwrap());
        }
        feed.data("half");
        let called = async {
            let fault = timely(origin.call(call, None)).await.err().expect("no answer");
            assert_eq!((fault.code, fault.maybe_seen), (Code::BodyTimeout, true));
        };
        let cut = async {
            server.told().await;
            feed.cut();
        };
        tokio::join!(called, cut);
        let rest = server.told().await;
        assert_eq!(rest.trim(), "", "no last chunk, no more bytes");
    }
}

#[tokio::test]
async fn a_body_of_another_length_than_told_is_a_cut_one() {
    for length in [3, 100] {
        let server = Origin::echo().await;
        let origin = origin(&server.url(), &[]);
        let (feed, mut call) = feed();
        call.headers.insert(header::CONTENT_LENGTH, length.into());
        feed.data("short");
        drop(feed);
        let fault = timely(origin.call(call, None)).await.err().expect("no answer");
        assert_eq!((fault.code, fault.maybe_seen), (Code::BadRequest, true));
        eventually("the connection is closed", || server.connected() == 0).await;
        assert_eq!(server.hits(), 0);
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let server = tcp(|mut stream, told| async move {
        for _ in 0..2 {
            told.send(read_until(&mut stream, "0\r\nx-sum: 1\r\n\r\n").await).unwrap();
            let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\n\r\n\
                          2\r\nok\r\n0\r\nx-end: yes\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let origin = origin(&server.url(), &[]);
    let (feed, mut streamed) = feed();
    streamed.headers.extend(headers(&[("te", "trailers"), ("trailer", "x-sum")]));
    feed.data("data");
    feed.trailers(&[("x-sum", "1")]);
    let whole = Outgoing::Whole { body: "data".into(), trailers: Some(map(&[("x-sum", "1")])) };
    let whole = call(Method::POST, "/", whole);
    for (call, te) in [(streamed, true), (whole, false)] {
        let mut answer = timely(origin.call(call, None)).await.unwrap();
        let (body, trailers) = rest(&mut answer).await.unwrap();
        assert_eq!((body.as_str(), trailers), ("ok", map(&[("x-end", "yes")])));
        let request = server.told().await.to_lowercase();
        assert!(request.contains("trailer: x-sum") && request.contains("4\r\ndata"), "{request}");
        assert_eq!(request.contains("te: trailers") && request.contains("connection: te"), te, "{request}");
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_at_the_origin() {
    let server = Origin::silent().await;
    let origin = origin(&server.url(), &[]);
    let mut waiting = Box::pin(origin.call(get("/"), None));
    tokio::select! {
        _ = &mut waiting => panic!("a silent origin answered"),
        () = eventually("the origin works on it", || server.open() == 1) => {}
    }
    drop(waiting);
    eventually("the origin sees it go", || server.cancelled() == 1 && server.connected() == 0).await;
}

#[tokio::test]
async fn an_answer_that_is_dropped_closes_its_connection() {
    let server = Origin::start(|_| async { answer(200, vec![b'x'; 4 << 20]) }).await;
    let origin = origin(&server.url(), &[]);
    let mut answer = timely(origin.call(get("/"), None)).await.unwrap();
    data(&mut answer).await;
    drop(answer);
    eventually("the connection is closed", || server.connected() == 0).await;
}

#[tokio::test]
async fn what_is_here_can_be_taken_without_waiting() {
    let (open, gate) = tokio::sync::oneshot::channel::<()>();
    let gate = std::sync::Arc::new(std::sync::Mutex::new(Some(gate)));
    let server = tcp(move |mut stream, _| {
        let gate = gate.lock().unwrap().take();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none").await.unwrap();
            gate.unwrap().await.unwrap();
            stream.write_all(b"two").await.unwrap();
            read_until(&mut stream, "never").await;
        }
    })
    .await;
    let origin = origin(&server.url(), &[]);
    let mut answer = timely(origin.call(get("/"), None)).await.unwrap();
    assert_eq!((answer.body.size_hint().exact(), answer.body.is_end_stream()), (Some(6), false));
    assert_eq!(data(&mut answer).await, "one");
    let mut now = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(answer.body.poll_frame(&mut now).is_pending());
    open.send(()).unwrap();
    assert_eq!(data(&mut answer).await, "two");
    assert!(answer.body.is_end_stream(), "its length has been read");
}

#[tokio::test]
async fn a_cut_answer_is_a_fault() {
    for cut in ["Content-Length: 9\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let server = tcp(move |mut stream, _| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{cut}").as_bytes()).await.unwrap();
        })
        .await;
        let origin = origin(&server.url(), &[]);
        let mut answer = timely(origin.call(get("/"), None)).await.unwrap();
        assert_eq!(rest(&mut answer).await.unwrap_err().code, Code::OriginBroken);
        assert!(timely(answer.body.frame()).await.is_none(), "there is nothing after a fault");
    }
}

/// A server of bare connections and what they tell.
pub struct Tcp {
    server: Origin,
    told: tokio::sync::Mutex<mpsc::UnboundedReceiver<String>>,
}

impl std::ops::Deref for Tcp {
    type Target = Origin;

    fn deref(&self) -> &Origin {
        &self.server
    }
}

impl Tcp {
    /// What a connection tells next.
    pub async fn told(&self) -> String {
        timely(async { self.told.lock().await.recv().await }).await.expect("a connection that tells")
    }
}

/// A server whose connections are `handler`'s.
pub async fn tcp<F: Future<Output = ()> + Send + 'static>(
    handler: impl Fn(TcpStream, mpsc::UnboundedSender<String>) -> F + Send + Sync + 'static,
) -> Tcp {
    let (sender, told) = mpsc::unbounded_channel();
    let server = Origin::tcp(move |stream| handler(stream, sender.clone())).await;
    Tcp { server, told: tokio::sync::Mutex::new(told) }
}

/// Reads until this has come, or the end.
pub async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = String::new();
    let mut byte = [0];
    while !read.ends_with(end) && stream.read(&mut byte).await.is_ok_and(|length| length > 0) {
        read.push(char::from(byte[0]));
    }
    read
}

const LARGE: &str = match std::str::from_utf8(&[b'x'; 64 * 1024]) {
    Ok(text) => text,
    Err(_) => "",
};
