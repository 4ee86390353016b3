use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use proptest::{collection::vec, prelude::*};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use super::{Connection, Next, Over, Rules};
use crate::{
    front::{
        message::{Request, Response},
        opening::Stream,
    },
    wire::Headers,
};

#[tokio::test]
async fn what_waits_holds_no_buffer() {
    let (mut connection, mut far) = connected();
    for _ in 0..2 {
        let mut now = Context::from_waker(Waker::noop());
        assert!(connection.poll_next(&mut |_| false, &mut now).is_pending());
        assert_eq!(connection.link.lock().input.buffer.capacity(), 0, "idle");
        far.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        request(&mut connection).await;
        assert!(connection.poll_gone(&mut now).is_pending());
        assert_eq!(connection.link.lock().input.buffer.capacity(), 0, "an answer is waited for");
        assert!(connection.send(answer("ok"), true).await.unwrap());
        assert!(said(&mut far, "ok").await.starts_with("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ndate: "));
    }
}

#[tokio::test]
async fn requests_in_one_piece_are_answered_one_after_another() {
    let requests = "GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 2\r\n\r\nab\r\nPOST /3 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\nGET /4 HTTP/1.0\r\n\r\n";
    assert_eq!(echoed(requests, &[requests.len()]).await, ["/1 ", "/2 ab", "/3 cde", "/4 ", "closed"]);
}

#[tokio::test]
async fn what_is_no_request_is_told_after_the_answers_before_it() {
    assert_eq!(echoed("GET /1 HTTP/1.1\r\n\r\nbad\r\n\r\n", &[3]).await, ["/1 ", "Malformed"]);
    let twice = "POST /1 HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(echoed(twice, &[100]).await, ["TwoFramings"]);
}

#[tokio::test]
async fn an_answer_is_given_up_when_its_caller_goes() {
    for request_text in ["GET / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab"] {
        let (mut connection, mut far) = connected();
        far.write_all(request_text.as_bytes()).await.unwrap();
        let Request { body, .. } = request(&mut connection).await;
        let never = async {
            body.collect().await.unwrap();
            drop(far);
            std::future::pending::<()>().await;
        };
        assert!(matches!(connection.answered(pin!(never)).await, Err(Over::Gone)), "{request_text}");
    }
}

#[tokio::test]
async fn a_body_may_be_read_elsewhere_and_the_next_request_follows_it() {
    let (mut connection, mut far) = connected();
    far.write_all(b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc").await.unwrap();
    let Request { body, .. } = request(&mut connection).await;
    let reading = tokio::spawn(body.collect());
    // The answer comes before the end of the body.
    let sent = async {
        assert!(connection.send(answer("early"), true).await.unwrap());
        request(&mut connection).await.head.target.url
    };
    let rest = async {
        said(&mut far, "early").await;
        far.write_all(b"defGET /next HTTP/1.1\r\n\r\n").await.unwrap();
    };
    let (url, ()) = tokio::join!(sent, rest);
    assert_eq!(url, Some("/next".into()));
    assert_eq!(reading.await.unwrap().unwrap().to_bytes(), "abcdef");
}

#[tokio::test]
async fn a_body_that_nobody_reads_ends_the_connection_unless_it_is_here() {
    for (here, keeps) in [("", false), ("abc", false), ("abcdef", true)] {
        let (mut connection, mut far) = connected();
        far.write_all(format!("POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\n{here}").as_bytes())
            .await
            .unwrap();
        drop(request(&mut connection).await);
        assert_eq!(connection.send(answer("no"), true).await.unwrap(), keeps, "{here}");
        let said = said(&mut far, "no").await;
        assert_eq!(said.contains("connection: close"), !keeps, "{said}");
    }
}

#[tokio::test]
async fn a_caller_is_told_to_send_the_body_when_somebody_reads_it() {
    let (mut connection, mut far) = connected();
    let head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    far.write_all(head).await.unwrap();
    let Request { body, .. } = request(&mut connection).await;
    let (asked, wait) = tokio::sync::oneshot::channel::<()>();
    // In another task, as a long one is read.
    let reading = tokio::spawn(async move {
        wait.await.unwrap();
        body.collect().await.unwrap().to_bytes()
    });
    let caller = async {
        let early = timeout(Duration::from_millis(20), far.read_u8()).await;
        assert!(early.is_err(), "nobody has asked for it");
        asked.send(()).unwrap();
        assert_eq!(said(&mut far, "Continue\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        far.write_all(b"body").await.unwrap();
        said(&mut far, "body").await
    };
    let answering = async {
        let body = connection.answered(pin!(async { reading.await.unwrap() })).await.unwrap();
        connection.send(answer(body), true).await.unwrap()
    };
    let (said, keeps) = tokio::join!(caller, answering);
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && keeps);
}

#[tokio::test]
async fn a_body_that_is_refused_is_not_asked_for() {
    let (mut connection, mut far) = connected();
    let head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    far.write_all(head).await.unwrap();
    drop(request(&mut connection).await);
    assert!(!connection.send(answer("no"), true).await.unwrap());
    assert!(said(&mut far, "no").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn the_end_of_a_connection_is_told_to_whoever_reads_a_body_of_it() {
    let (mut connection, mut far) = connected();
    far.write_all(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").await.unwrap();
    let Request { mut body, .. } = request(&mut connection).await;
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
    let reading = tokio::spawn(async move { body.frame().await.unwrap().unwrap_err() });
    tokio::task::yield_now().await;
    drop(connection);
    assert!(reading.await.unwrap().is_gone());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_a_whole_one() {
    for (rest, gone) in [("", true), ("zz\r\n", false)] {
        let (mut connection, mut far) = connected();
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
        far.write_all(format!("{head}{rest}").as_bytes()).await.unwrap();
        far.shutdown().await.unwrap();
        let Request { body, .. } = request(&mut connection).await;
        assert_eq!(body.collect().await.err().unwrap().is_gone(), gone);
        // It is answered all the same: whoever sends nonsense may listen.
        assert!(!connection.send(answer("no"), true).await.unwrap());
        assert!(said(&mut far, "no").await.contains("connection: close"));
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_is_cut_where_it_is() {
    let (mut connection, mut far) = connected();
    far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    request(&mut connection).await;
    let frames = [Ok(Frame::data(Bytes::from("begun"))), Err(StatusCode::BAD_GATEWAY)];
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let sent = connection.send(Response::new(body), true).await;
    assert!(matches!(sent, Err(Over::Cut)));
    drop(connection);
    let mut text = String::new();
    far.read_to_string(&mut text).await.unwrap();
    assert!(
        text.ends_with("transfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n")
            || text.ends_with("5\r\nbegun\r\n")
    );
}

#[tokio::test]
async fn a_large_response_arrives_whole_at_a_caller_who_takes_his_time() {
    let (mut connection, mut far) = connected();
    far.write_all(b"GET / HTTP/1.1\r\nTE: trailers\r\n\r\n").await.unwrap();
    request(&mut connection).await;
    let part =
        |byte: u8| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![byte; 7 * usize::from(byte) * 100])));
    let trailers: HeaderMap = [(header::ETAG, HeaderValue::from_static("t"))].into_iter().collect();
    let frames = (0..200).map(part).chain([Ok(Frame::trailers(trailers))]);
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let mut response = Response::new(body);
    response.headers.append(header::TRAILER, HeaderValue::from_static("etag"));
    let read = async {
        let mut all = Vec::new();
        let mut space = [0; 5000];
        while !all.ends_with(b"0\r\netag: t\r\n\r\n") {
            let length = far.read(&mut space).await.unwrap();
            all.extend_from_slice(&space[..length]);
            tokio::task::yield_now().await;
        }
        all
    };
    let (sent, all) = tokio::join!(connection.send(response, true), read);
    assert!(sent.unwrap());
    let data: usize = (0..200).map(|byte| 700 * byte).sum();
    assert!(all.len() > data && all.len() < data + 5000);
}

#[tokio::test]
async fn a_head_must_come_in_time_and_a_connection_may_not_be_idle_for_longer() {
    for (sent, is_idle) in [("", false), ("GET / HTT", false), ("GET / HTTP/1.1\r\n\r\n", true)] {
        let (connection, mut far) = connected();
        far.write_all(sent.as_bytes()).await.unwrap();
        let over = serve(connection).await.1;
        assert!(matches!((over, is_idle), (Over::Slow, false) | (Over::Idle, true)), "{sent}");
        drop(far);
    }
}

#[tokio::test]
async fn a_connection_on_which_much_is_asked_is_not_idle() {
    let (connection, mut far) = connected();
    let serving = tokio::spawn(serve(connection));
    for _ in 0..20 {
        tokio::time::sleep(PATIENCE / 4).await;
        far.write_all(b"GET /more HTTP/1.1\r\n\r\n").await.unwrap();
        said(&mut far, "/more ").await;
    }
    drop(far);
    assert!(matches!(serving.await.unwrap().1, Over::Closed));
}

#[tokio::test]
async fn a_drained_connection_answers_what_has_begun() {
    let (mut connection, mut far) = connected();
    assert!(matches!(connection.next(|_| true).await, Next::Over(Over::Drained)));
    far.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut now = Context::from_waker(Waker::noop());
    while connection.link.lock().input.buffer.is_empty() {
        assert!(connection.poll_next(&mut |_| false, &mut now).is_pending());
        tokio::task::yield_now().await;
    }
    let rest = async {
        tokio::task::yield_now().await;
        far.write_all(b"\r\n").await.unwrap();
    };
    let (next, ()) = tokio::join!(connection.next(|_| true), rest);
    assert!(matches!(next, Next::Request(_)));
    assert!(!connection.send(answer("last"), false).await.unwrap());
    assert!(said(&mut far, "last").await.contains("connection: close"));
}

#[tokio::test]
async fn a_refusal_is_not_lost_to_a_caller_who_is_still_sending() {
    let (mut connection, far) = connected();
    let (mut from, mut to) = far.into_split();
    let sending = tokio::spawn(async move { to.write_all(&vec![b'x'; 600 * 1024]).await });
    let Next::Refused(_) = connection.next(|_| false).await else { panic!("no refusal") };
    connection.send(answer("refused"), true).await.unwrap();
    connection.close().await.unwrap();
    sending.await.unwrap().expect("all of it is taken");
    let mut text = String::new();
    from.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("connection: close") && text.ends_with("refused"));
}

#[tokio::test]
async fn after_a_change_of_protocols_the_bytes_are_anothers() {
    let (mut connection, mut far) = connected();
    let head = b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly";
    far.write_all(head).await.unwrap();
    let upgrade = request(&mut connection).await.upgrade.expect("a way to them");
    let mut response =
        Response::with(StatusCode::SWITCHING_PROTOCOLS, Headers::new(), Full::new(Bytes::new()));
    response.headers.append(header::CONNECTION, HeaderValue::from_static("upgrade"));
    assert!(!connection.send(response, true).await.unwrap());
    connection.close().await.unwrap();
    let mut switched = upgrade.await.unwrap();
    switched.write_all(b"more").await.unwrap();
    assert!(said(&mut far, "more").await.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
    far.write_all(b" and late").await.unwrap();
    drop(far);
    let mut text = String::new();
    switched.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "early and late");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_a_caller_sends_is_a_panic_or_waits_for_ever(
        bytes in "(GET /[a-z]{0,2}|POST /|Content-Length: [0-9]{1,2}|Transfer-Encoding: chunked| HTTP/1\\.[01]|Expect: 100-continue|Connection: (close|keep-alive)|\r\n|\r\n\r\n|[0-9a-f]\r\n|\\PC{0,3}){0,40}",
        cuts in vec(1_usize..40, 1..20),
    ) {
        let whole = run(echoed(&bytes, &[bytes.len().max(1)]));
        let parts = run(echoed(&bytes, &cuts));
        // What breaks off may be noticed before or after its beginning was.
        let last = |told: &[String]| told.len().saturating_sub(1);
        prop_assert_eq!(&whole[..last(&whole).min(last(&parts))], &parts[..last(&whole).min(last(&parts))]);
    }

    #[test]
    fn it_does_not_matter_how_requests_come(
        requests in vec((vec("[a-z]{1,9}", 0..4), any::<bool>()), 1..6),
        cuts in vec(1_usize..40, 1..20),
    ) {
        let mut text = String::new();
        let mut expected = Vec::new();
        for (at, (parts, chunked)) in requests.iter().enumerate() {
            text += &format!("POST /{at} HTTP/1.1\r\nHost: a\r\n");
            if *chunked {
                let chunks: String = parts.iter().map(|part| format!("{:x}\r\n{part}\r\n", part.len())).collect();
                text += &format!("Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
            } else {
                let body = parts.concat();
                text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
            }
            expected.push(format!("/{at} {}", parts.concat()));
        }
        expected.push("closed".to_owned());
        prop_assert_eq!(run(echoed(&text, &cuts)), expected);
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// What is answered to `text`, which comes in parts of these sizes: of each request its target and its body.
async fn echoed(text: &str, cuts: &[usize]) -> Vec<String> {
    let (connection, mut far) = connected();
    let serving = serve(connection);
    let sending = async {
        let mut rest = text.as_bytes();
        for cut in cuts.iter().cycle() {
            let (part, after) = rest.split_at((*cut).min(rest.len()));
            if far.write_all(part).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        // Not before it has answered: to go away is to want no answer.
        let mut answers = [0; 1000];
        while let Ok(Ok(1..)) = timeout(SILENCE, far.read(&mut answers)).await {}
        drop(far);
    };
    let ((mut told, over), ()) = tokio::join!(serving, sending);
    match over {
        Over::Closed => told.push("closed".to_owned()),
        Over::Drained => {}
        other => told.push(other.to_string()),
    }
    told
}

/// Serves a connection: each request is answered with its target and its body. Returns what was answered or
/// refused, and why it was over; a refusal is the end as well.
async fn serve(mut connection: Connection) -> (Vec<String>, Over) {
    let mut told = Vec::new();
    loop {
        let request = match connection.next(|_| false).await {
            Next::Request(request) => request,
            Next::Over(over) => return (told, over),
            Next::Refused(refusal) => {
                told.push(format!("{refusal:?}"));
                connection.send(answer("refused"), false).await.ok();
                return (told, Over::Drained);
            }
        };
        let url = request.head.target.url.unwrap_or_default();
        let answering = async {
            let body = request.body.collect().await;
            body.map_or_else(
                |broken| broken.to_string(),
                |body| String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            )
        };
        let body = match connection.answered(pin!(answering)).await {
            Ok(body) => body,
            Err(over) => return (told, over),
        };
        told.push(format!("{url} {body}"));
        match connection.send(answer(format!("{url} {body}")), true).await {
            Ok(true) => {}
            Ok(false) => return (told, Over::Closed),
            Err(over) => return (told, over),
        }
    }
}

fn connected() -> (Connection, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let rules = Rules { max_head: 8192, head_timeout: PATIENCE, keep_alive: PATIENCE, title_case: false };
    (Connection::new(Stream::Plain(near.into()), rules), far)
}

async fn request(connection: &mut Connection) -> Request {
    match connection.next(|_| false).await {
        Next::Request(request) => request,
        Next::Refused(refusal) => panic!("{refusal:?}"),
        Next::Over(over) => panic!("{over}"),
    }
}

fn answer(text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::new(Full::new(text.into()))
}

/// What comes up to what ends so.
async fn said(far: &mut UnixStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push(char::from(far.read_u8().await.unwrap()));
    }
    text
}

const PATIENCE: Duration = Duration::from_millis(200);
/// How long nothing is said when nothing more is to come.
const SILENCE: Duration = Duration::from_millis(20);
