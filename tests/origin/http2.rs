//! Origins that speak HTTP/2: by prior knowledge. What streams, who shares a connection, what is sent again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server};
use http::{HeaderMap, Method, Request, Response, Version, header};
use relay::{
    origin::{Call, Outgoing},
    wire::Code,
};
use tokio::sync::{mpsc, watch};

use super::calls::*;
use crate::support::{Origin, answer, eventually};

#[tokio::test]
async fn an_h2c_origin_answers_whole_calls_on_one_connection() {
    let server = H2::start(|mut exchange| async move {
        let head = exchange.request.map(drop);
        assert_eq!((head.version(), head.uri().scheme_str()), (Version::HTTP_2, Some("http")));
        assert_eq!(head.headers().get("host"), None, "its authority is enough");
        let text = format!("{} {}", head.method(), head.uri());
        let (body, _) = read(&mut exchange.body).await;
        let length = head.headers().get("content-length").cloned();
        let length = length.map(|length| length.to_str().unwrap().to_owned());
        exchange.respond.answer(200, format!("{text} {length:?} {body}")).await;
    })
    .await;
    let origin = origin(&server.url("/base"), &[]);
    for _ in 0..2 {
        let answer = timely(origin.call(post("/a?b", "body"), None)).await.unwrap();
        assert_eq!((answer.version, answer.status.as_u16()), (Version::HTTP_2, 200));
        ends_with(answer, "POST http://test/base/a?b Some(\"4\") body").await;
        let answer = timely(origin.call(get("/"), None)).await.unwrap();
        ends_with(answer, "GET http://test/base/ None ").await;
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_target_goes_by_http2_as_it_is_or_not_at_all() {
    let server = H2::start(|mut exchange| async move {
        exchange.respond.answer(200, exchange.request.uri().path_and_query().unwrap().to_string()).await;
    })
    .await;
    let origin = origin(&server.url(""), &[]);
    for target in ["/a\"{}|^\\?{}|^`\\", "/\u{e4}?\u{e4}", "/%3c?%zz"] {
        ends_with(timely(origin.call(get(target), None)).await.unwrap(), target).await;
    }
    for (target, told) in [
        (&b"/a<b"[..], "'<' behind its first 2 bytes"),
        (b"/`", "'`' behind its first 1 bytes"),
        (b"/`?\"", "'`' behind its first 1 bytes"),
        (b"/\"?\"", "'\"' behind its first 3 bytes"),
        (b"/a/\xE4", "the byte 0xE4 behind its first 3 bytes"),
        (b"/?\xC3\xA4\xFF", "the byte 0xC3 behind its first 2 bytes"),
    ] {
        let call = Call { url: Bytes::from_static(target).into(), ..get("/") };
        let fault = timely(origin.call(call, None)).await.err().unwrap();
        assert_eq!((fault.code, fault.maybe_seen), (Code::BadTarget, false));
        assert!(fault.detail.contains(told), "{}", fault.detail);
    }
}

#[tokio::test]
async fn the_authority_is_rewritten_when_the_host_is() {
    let server = H2::start(|mut exchange| async move {
        let authority = exchange.request.uri().authority().unwrap().to_string();
        exchange.respond.answer(200, authority).await;
    })
    .await;
    let rewriting = origin(&server.url(""), &["--host-header", "rewrite"]);
    let answer = timely(rewriting.call(get("/"), None)).await.unwrap();
    ends_with(answer, &server.address()).await;
    let mut odd = get("/");
    odd.headers.insert(header::HOST, "no host".parse().unwrap());
    let fault = timely(origin(&server.url(""), &[]).call(odd, None)).await.err().unwrap();
    assert_eq!((fault.code, fault.maybe_seen), (Code::BadRequest, false));
}

#[tokio::test]
async fn a_call_streams_both_ways_at_once_and_ends_with_trailers() {
    let server = H2::start(|mut exchange| async move {
        assert_eq!(exchange.request.headers()["te"], "trailers");
        let mut sending = exchange.respond.head(200, &[("content-type", "application/grpc")]);
        while let Some(data) = exchange.body.data().await {
            let data = data.unwrap();
            exchange.body.flow_control().release_capacity(data.len()).unwrap();
            sending.send_data(data, false).unwrap();
        }
        let trailers = exchange.body.trailers().await.unwrap().expect("trailers");
        assert_eq!(trailers, map(&[("x-sum", "1")]));
        sending.send_trailers(map(&[("grpc-status", "0")])).unwrap();
    })
    .await;
    let origin = origin(&server.url(""), &[]);
    let (feed, mut call) = feed();
    call.headers.extend(headers(&[("te", "trailers"), ("connection", "te")]));
    let mut answer = timely(origin.call(call, None)).await.unwrap();
    for piece in ["one", "two", "three"] {
        feed.data(piece);
        assert_eq!(data(&mut answer).await, piece);
    }
    feed.trailers(&[("x-sum", "1")]);
    let (body, trailers) = rest(&mut answer).await.unwrap();
    assert_eq!((body.as_str(), trailers), ("", map(&[("grpc-status", "0")])));
}

#[tokio::test]
async fn more_than_a_window_passes_both_ways() {
    let server = H2::start(|mut exchange| async move {
        let (body, _) = read(&mut exchange.body).await;
        exchange.respond.answer(200, body).await;
    })
    .await;
    let origin = origin(&server.url(""), &[]);
    let large = "0123456789abcdef".repeat(1 << 17);
    let whole = Outgoing::Whole { body: large.clone().into(), trailers: Some(map(&[("x-end", "1")])) };
    let answer = timely(origin.call(call(Method::PUT, "/", whole), None)).await.unwrap();
    ends_with(answer, &large).await;
}

#[tokio::test]
async fn an_answer_that_comes_early_does_not_end_the_request() {
    let server = H2::start(|mut exchange| async move {
        exchange.body.data().await.unwrap().unwrap();
        exchange.respond.answer(413, "stop".to_owned()).await;
        exchange.tell_reset().await;
    })
    .await;
    let origin = origin(&server.url(""), &[]);
    let (feed, call) = feed();
    feed.data("some");
    let answer = timely(origin.call(call, None)).await.unwrap();
    assert_eq!(answer.status, 413);
    ends_with(answer, "stop").await;
    // The origin may still read, until the body is cut.
    feed.cut();
    assert_eq!(server.told().await, "CANCEL");
}

#[tokio::test]
async fn a_cut_body_resets_its_stream_and_no_other() {
    let server = H2::start(|mut exchange| async move {
        let path = exchange.request.uri().path().to_owned();
        let end = loop {
            match exchange.body.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error.reason(),
                None => break None,
            }
        };
        match path.as_str() {
            "/" => exchange.tell(format!("{end:?}")),
            _ => exchange.respond.answer(200, "other".to_owned()).await,
        }
    })
    .await;
    let origin = origin(&server.url(""), &[]);
    let (feed, call) = feed();
    feed.data("half");
    feed.cut();
    let fault = timely(origin.call(call, None)).await.err().unwrap();
    assert_eq!((fault.code, fault.maybe_seen), (Code::BodyTimeout, true));
    assert_eq!(server.told().await, "Some(CANCEL)", "it never looks whole");
    ends_with(timely(origin.call(get("/other"), None)).await.unwrap(), "other").await;
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_call_that_is_dropped_resets_its_stream() {
    let server = H2::start(|mut exchange| async move {
        if exchange.request.uri().path() == "/answered" {
            return exchange.say_and_tell_reset("first").await;
        }
        exchange.tell("arrived".to_owned());
        exchange.tell_reset().await;
    })
    .await;
    let origin = origin(&server.url(""), &[]);
    let (feed, call) = feed();
    {
        let mut waiting = std::pin::pin!(origin.call(call, None));
        tokio::select! {
            _ = &mut waiting => panic!("a silent origin answered"),
            told = server.told() => assert_eq!(told, "arrived"),
        }
    }
    assert_eq!(server.told().await, "CANCEL");
    let mut answer = timely(origin.call(get("/answered"), None)).await.unwrap();
    assert_eq!(data(&mut answer).await, "first");
    drop(answer);
    assert_eq!(server.told().await, "CANCEL");
    drop(feed);
}

#[tokio::test]
async fn continue_is_heard_over_http2() {
    let server = H2::start(|mut exchange| async move {
        assert_eq!(exchange.request.headers()["expect"], "100-continue");
        exchange.respond.interim(103);
        exchange.respond.interim(100);
        let (body, _) = read(&mut exchange.body).await;
        exchange.respond.answer(200, body).await;
    })
    .await;
    let origin = origin(&server.url(""), &[]);
    let (feed, mut call) = feed();
    call.headers.extend(headers(&[("expect", "100-continue")]));
    let (go, told) = tokio::sync::oneshot::channel();
    let fed = async {
        timely(told).await.expect("100 Continue is told");
        feed.data("wanted");
        drop(feed);
    };
    let go = Box::new(move || go.send(()).unwrap());
    let (answer, ()) = tokio::join!(timely(origin.call(call, Some(go))), fed);
    ends_with(answer.unwrap(), "wanted").await;
}

#[tokio::test]
async fn as_many_connections_are_made_as_the_limit_of_streams_asks_for() {
    let gate = watch::Sender::new(false);
    let opened = gate.subscribe();
    let working = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&working);
    let mut limited = server::Builder::new();
    limited.max_concurrent_streams(2);
    let server = H2::with(limited, move |mut exchange| {
        let (mut opened, count) = (opened.clone(), Arc::clone(&count));
        async move {
            count.fetch_add(1, Ordering::Relaxed);
            opened.wait_for(|open| *open).await.unwrap();
            exchange.respond.answer(200, "done".to_owned()).await;
        }
    })
    .await;
    let origin = Arc::new(origin(&server.url(""), &[]));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let origin = Arc::clone(&origin);
        calls.spawn(
            async move { ends_with(timely(origin.call(get("/"), None)).await.unwrap(), "done").await },
        );
    }
    eventually("all are at the origin at once", || working.load(Ordering::Relaxed) == 5).await;
    assert_eq!(server.connections(), 3);
    gate.send_replace(true);
    calls.join_all().await;
}

#[tokio::test]
async fn a_request_that_the_origin_refused_to_touch_is_sent_again() {
    let refusals = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refusals);
    let server = H2::start(move |mut exchange| {
        let first = count.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if first {
                return exchange.respond.refuse(Reason::REFUSED_STREAM);
            }
            let (body, _) = read(&mut exchange.body).await;
            exchange.respond.answer(200, body).await;
        }
    })
    .await;
    let origin = origin(&server.url(""), &[]);
    ends_with(timely(origin.call(post("/", "once"), None)).await.unwrap(), "once").await;
    assert_eq!(refusals.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_request_that_the_origin_may_have_touched_is_not_sent_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let server = H2::start(move |mut exchange| {
        count.fetch_add(1, Ordering::Relaxed);
        async move { exchange.respond.refuse(Reason::INTERNAL_ERROR) }
    })
    .await;
    let origin = origin(&server.url(""), &[]);
    let fault = timely(origin.call(post("/", "once"), None)).await.err().unwrap();
    assert_eq!((fault.code, fault.maybe_seen), (Code::OriginBroken, true));
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn only_what_is_idempotent_is_sent_again_when_the_connection_is_lost() {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let server = H2::start(move |mut exchange| {
        let lost = exchange.request.uri().path() == "/lost";
        let first = lost && count.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if first {
                exchange.hang_up.send_replace(true);
                return std::future::pending().await;
            }
            exchange.respond.answer(200, "again".to_owned()).await;
        }
    })
    .await;
    for method in [Method::PUT, Method::POST] {
        connections.store(0, Ordering::Relaxed);
        let origin = origin(&server.url(""), &[]);
        ends_with(timely(origin.call(get("/"), None)).await.unwrap(), "again").await;
        let whole = Outgoing::Whole { body: "x".into(), trailers: None };
        match timely(origin.call(call(method.clone(), "/lost", whole), None)).await {
            Ok(answer) => {
                assert_eq!(method, Method::PUT);
                ends_with(answer, "again").await;
            }
            Err(fault) => {
                assert_eq!((method, fault.code, fault.maybe_seen), (Method::POST, Code::OriginBroken, true));
            }
        }
    }
}

#[tokio::test]
async fn a_connection_that_goes_away_is_followed_by_another() {
    let server = H2::start(|mut exchange| async move {
        if exchange.request.uri().path() == "/last" {
            exchange.leave.send_replace(true);
        }
        exchange.respond.answer(200, "ok".to_owned()).await;
    })
    .await;
    let origin = origin(&server.url(""), &[]);
    for (path, connections) in [("/", 1), ("/last", 1), ("/", 2), ("/", 2)] {
        ends_with(timely(origin.call(get(path), None)).await.unwrap(), "ok").await;
        assert_eq!(server.connections(), connections, "{path}");
        if path == "/last" {
            eventually("the connection is closed", || server.connected() == 0).await;
        }
    }
}

#[tokio::test]
async fn an_origin_that_speaks_no_http2_has_not_seen_the_request() {
    let server = Origin::start(|_| async { answer(200, "HTTP/1") }).await;
    let origin = origin(&server.url().replace("http://", "h2c://"), &[]);
    let fault = timely(origin.call(post("/", "x"), None)).await.err().unwrap();
    assert_eq!((fault.code, fault.maybe_seen), (Code::OriginUnreachable, false));
    assert_eq!(server.hits(), 0);
}

/// A server of HTTP/2 and what its exchanges tell.
pub struct H2 {
    server: Origin,
    told: tokio::sync::Mutex<mpsc::UnboundedReceiver<String>>,
}

/// One request at the server.
pub struct Exchange {
    pub request: Request<()>,
    pub body: RecvStream,
    pub respond: Respond,
    /// Ends the connection, in good order.
    pub leave: watch::Sender<bool>,
    /// Ends the connection at once.
    pub hang_up: watch::Sender<bool>,
    told: mpsc::UnboundedSender<String>,
}

impl Exchange {
    /// Tells the test how the other side has reset the stream.
    pub async fn tell_reset(&mut self) {
        let reason = self.respond.reset().await;
        self.tell(format!("{reason:?}"));
    }

    /// Begins to answer, and tells the test how the other side has reset the stream.
    pub async fn say_and_tell_reset(&mut self, word: &'static str) {
        let mut sending = self.respond.head(200, &[]);
        sending.send_data(word.into(), false).unwrap();
        let reason = timely(std::future::poll_fn(|cx| sending.poll_reset(cx))).await.unwrap();
        self.tell(format!("{reason:?}"));
    }

    /// Tells the test.
    pub fn tell(&self, what: String) {
        self.told.send(what).unwrap();
    }
}

/// How a request is answered.
pub struct Respond(server::SendResponse<Bytes>);

impl Respond {
    /// A whole response, as fast as the other side takes it.
    pub async fn answer(&mut self, status: u16, body: String) {
        let mut sending = self.head(status, &[]);
        let mut body = Bytes::from(body);
        while !body.is_empty() {
            sending.reserve_capacity(body.len());
            if sending.capacity() == 0 {
                std::future::poll_fn(|cx| sending.poll_capacity(cx)).await.unwrap().unwrap();
            }
            let part = body.split_to(sending.capacity().min(body.len()));
            sending.send_data(part, false).unwrap();
        }
        sending.send_data(Bytes::new(), true).unwrap();
    }

    /// The head of a response.
    pub fn head(&mut self, status: u16, pairs: &[(&'static str, &'static str)]) -> h2::SendStream<Bytes> {
        let mut response = Response::builder().status(status).body(()).unwrap();
        *response.headers_mut() = map(pairs);
        self.0.send_response(response, false).unwrap()
    }

    /// An interim response.
    pub fn interim(&mut self, status: u16) {
        self.0.send_informational(Response::builder().status(status).body(()).unwrap()).unwrap();
    }

    /// Resets the stream.
    pub fn refuse(&mut self, reason: Reason) {
        self.0.send_reset(reason);
    }

    /// How the other side has reset the stream.
    pub async fn reset(&mut self) -> Reason {
        timely(std::future::poll_fn(|cx| self.0.poll_reset(cx))).await.unwrap()
    }
}

impl H2 {
    /// A server whose requests are `handler`'s.
    pub async fn start<F: Future<Output = ()> + Send + 'static>(
        handler: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> H2 {
        H2::with(server::Builder::new(), handler).await
    }

    /// The same, with settings.
    pub async fn with<F: Future<Output = ()> + Send + 'static>(
        settings: server::Builder,
        handler: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> H2 {
        let (sender, told) = mpsc::unbounded_channel();
        let handler = Arc::new(handler);
        let server = Origin::tcp(move |stream| {
            let (settings, handler, sender) = (settings.clone(), Arc::clone(&handler), sender.clone());
            async move { serve(stream, settings, handler, sender).await }
        })
        .await;
        H2 { server, told: tokio::sync::Mutex::new(told) }
    }

    /// `h2c://127.0.0.1:…` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("h2c://{}{path}", self.server.address())
    }

    /// `127.0.0.1:…`
    pub fn address(&self) -> String {
        self.server.address().to_string()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    /// Connections now.
    pub fn connected(&self) -> usize {
        self.server.connected()
    }

    /// What an exchange tells next.
    pub async fn told(&self) -> String {
        timely(async { self.told.lock().await.recv().await }).await.expect("an exchange that tells")
    }
}

/// Serves HTTP/2 on a stream.
pub async fn serve<S, F>(
    stream: S,
    settings: server::Builder,
    handler: Arc<impl Fn(Exchange) -> F + Send + Sync + 'static>,
    told: mpsc::UnboundedSender<String>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    F: Future<Output = ()> + Send + 'static,
{
    // Whoever speaks something else is not served.
    let Ok(mut connection) = settings.handshake::<_, Bytes>(stream).await else { return };
    let leave = watch::Sender::new(false);
    let hang_up = watch::Sender::new(false);
    let (mut leaving, mut hanging_up) = (leave.subscribe(), hang_up.subscribe());
    let mut left = false;
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                let (head, body) = request.into_parts();
                let request = Request::from_parts(head, ());
                let (leave, hang_up, told) = (leave.clone(), hang_up.clone(), told.clone());
                let respond = Respond(respond);
                tokio::spawn(handler(Exchange { request, body, respond, leave, hang_up, told }));
            }
            _ = hanging_up.wait_for(|hang_up| *hang_up) => return,
            _ = leaving.wait_for(|leave| *leave), if !left => {
                left = true;
                connection.graceful_shutdown();
            }
        }
    }
}

/// A whole body and its trailers.
pub async fn read(body: &mut RecvStream) -> (String, Option<HeaderMap>) {
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        text.extend_from_slice(&data);
    }
    (String::from_utf8(text).unwrap(), body.trailers().await.unwrap())
}
