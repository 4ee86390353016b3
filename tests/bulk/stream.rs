//! Bodies that are made while they are sent and compared while they are read, and an origin and a caller for them.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Either, Full};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client, server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::watch};

use crate::support::{Origin, within};

/// An origin, seen from the test.
#[derive(Clone)]
pub struct Site {
    /// Bytes it has written of the download that runs.
    pub sent: Count,
    /// Bytes it has read, and found right, of the upload that runs.
    pub received: Count,
    /// How far it reads.
    reads: watch::Sender<u64>,
}

/// A number that another task raises.
#[derive(Clone, Default)]
pub struct Count(Arc<AtomicU64>);

/// A connection to where requests go.
pub struct Caller(client::conn::http1::SendRequest<Pattern>);

/// A download under way.
pub struct Reading {
    body: Incoming,
    checked: u64,
    wanted: u64,
    _caller: Caller,
}

/// A body of the bytes that every body here has.
pub struct Pattern {
    at: u64,
    size: u64,
    sent: Count,
}

impl Site {
    /// An origin on a port of its own.
    pub async fn start() -> (Origin, Site) {
        let site = Site { sent: Count::default(), received: Count::default(), reads: watch::Sender::new(0) };
        let for_origin = site.clone();
        let origin = Origin::tcp(move |stream| {
            let site = for_origin.clone();
            async move {
                let service = service_fn(move |request| site.clone().answer(request));
                let connection = server::conn::http1::Builder::new();
                // How it ended is seen by the caller.
                connection.serve_connection(TokioIo::new(stream), service).await.ok();
            }
        });
        (origin.await, site)
    }

    /// Lets it read all there is.
    pub fn go_on(&self) {
        self.reads.send_replace(u64::MAX);
    }

    /// Lets it read so much and then wait.
    pub fn pause_after(&self, bytes: u64) {
        self.received.set(0);
        self.reads.send_replace(bytes);
    }

    async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Either<Pattern, Full<Bytes>>>, Infallible> {
        if request.method() == Method::GET {
            self.sent.set(0);
            let size = request.uri().path().trim_start_matches('/').parse().expect("a size for a path");
            return Ok(Response::new(Either::Left(Pattern { at: 0, size, sent: self.sent })));
        }
        self.received.set(0);
        let mut body = request.into_body();
        let mut limit = self.reads.subscribe();
        loop {
            let read = self.received.get();
            limit.wait_for(|limit| read < *limit).await.ok();
            let Some(frame) = body.frame().await else { break };
            // Where it broke is in the answer, for whoever can still read it.
            let Ok(frame) = frame else { break };
            let Ok(data) = frame.into_data() else { continue };
            if !is_right(read, &data) {
                return Ok(text(format!("wrong bytes between {read} and {}", read + data.len() as u64)));
            }
            self.received.add(data.len() as u64);
        }
        Ok(text(self.received.get().to_string()))
    }
}

fn text(text: String) -> Response<Either<Pattern, Full<Bytes>>> {
    Response::new(Either::Right(Full::new(text.into())))
}

impl Count {
    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The number when it has not changed for a while.
    pub async fn rests(&self) -> u64 {
        let rest = async {
            loop {
                let before = self.get();
                // Nobody says that nothing happens. Too short a while only makes the test milder.
                tokio::time::sleep(QUIET).await;
                if self.get() == before {
                    return before;
                }
            }
        };
        within(Duration::from_secs(120), "what is written comes to rest", rest).await
    }

    fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }
}

impl Caller {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Caller {
        let stream = TcpStream::connect(address).await.expect("something listens there");
        let (sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Caller(sender)
    }

    /// Asks for a body of this size.
    pub async fn download(mut self, size: u64) -> Reading {
        let request = Request::get(format!("/{size}")).header("host", "test");
        let request = request.body(Pattern { at: 0, size: 0, sent: Count::default() }).unwrap();
        let response = self.0.send_request(request).await.expect("an answer");
        if response.status() != 200 {
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            panic!("{status}: {}", String::from_utf8_lossy(&body));
        }
        Reading { body: response.into_body(), checked: 0, wanted: 0, _caller: self }
    }

    /// Sends a body of this size: how far it is, and in the end how much the origin found right.
    pub fn upload(mut self, size: u64) -> (Count, impl Future<Output = Result<u64, String>> + Send) {
        let sent = Count::default();
        let body = Pattern { at: 0, size, sent: sent.clone() };
        let request = Request::put("/").header("host", "test").body(body).unwrap();
        let answer = async move {
            let response = self.0.send_request(request).await.map_err(|error| error.to_string())?;
            let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            text.parse().map_err(|_| text)
        };
        (sent, answer)
    }
}

impl Reading {
    /// Reads so many bytes more and compares them.
    pub async fn read(&mut self, bytes: u64) {
        self.wanted += bytes;
        while self.checked < self.wanted {
            let frame = self.body.frame().await;
            let frame = frame.unwrap_or_else(|| panic!("it ended after {} bytes", self.checked));
            let frame = frame.unwrap_or_else(|error| panic!("after {} bytes: {error}", self.checked));
            let Ok(data) = frame.into_data() else { continue };
            assert!(is_right(self.checked, &data), "wrong bytes after {}", self.checked);
            self.checked += data.len() as u64;
        }
    }

    /// Nothing more may come.
    pub async fn ends(mut self) {
        assert_eq!(self.checked, self.wanted, "bytes of the body");
        assert!(self.body.frame().await.is_none(), "more than the body");
    }
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.at == self.size {
            return Poll::Ready(None);
        }
        let start = (self.at % BLOCK) as usize;
        let end = (start + PIECE).min(BLOCK as usize);
        let end = end.min(start + usize::try_from(self.size - self.at).unwrap_or(PIECE));
        let piece = block().slice(start..end);
        self.at += piece.len() as u64;
        self.sent.add(piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.size
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size - self.at)
    }
}

/// Whether these are the bytes at that place of a body.
fn is_right(mut at: u64, mut data: &[u8]) -> bool {
    while !data.is_empty() {
        let expected = &block()[(at % BLOCK) as usize..];
        let (part, rest) = data.split_at(data.len().min(expected.len()));
        if part != &expected[..part.len()] {
            return false;
        }
        at += part.len() as u64;
        data = rest;
    }
    true
}

/// What a body repeats. It is made once: made anew for each piece, it would be most of the work of a debug build.
fn block() -> &'static Bytes {
    static MADE: OnceLock<Bytes> = OnceLock::new();
    MADE.get_or_init(|| {
        let mut state = 0x5eed_u64;
        let bytes = (0..BLOCK).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        });
        bytes.collect()
    })
}

/// A prime: no number of whole frames is a whole block, so one that is lost, doubled or out of place is seen.
const BLOCK: u64 = 1_048_573;
const PIECE: usize = 64 << 10;
const QUIET: Duration = Duration::from_secs(1);
