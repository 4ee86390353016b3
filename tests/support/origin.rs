//! Origins in the test itself: one that a closure programs and that remembers what it saw, and bare TCP
//! for answers that no server would give.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, rustls};

/// A server behind a relay, on a port of its own. It ends with its handle.
pub struct Origin {
    address: SocketAddr,
    scheme: &'static str,
    record: Arc<Record>,
    closing: watch::Sender<bool>,
}

/// A request as the origin received it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    /// The request target as it was on the wire.
    pub target: String,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Default)]
struct Record {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    connected: AtomicUsize,
    open: AtomicUsize,
    cancelled: AtomicUsize,
}

impl Origin {
    /// An origin that answers by `handler`.
    pub async fn start<H, F>(handler: H) -> Origin
    where
        H: Fn(Seen) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Bytes>> + Send + 'static,
    {
        Origin::serve(None, handler).await
    }

    /// An origin that answers every request with its own body.
    pub async fn echo() -> Origin {
        Origin::start(|seen| async move { answer(200, seen.body) }).await
    }

    /// An origin that answers with a text of its own, so that two can be told apart.
    pub async fn saying(text: &'static str) -> Origin {
        Origin::start(move |_| async move { answer(200, text) }).await
    }

    /// An origin that never answers.
    pub async fn silent() -> Origin {
        Origin::start(|_| std::future::pending()).await
    }

    /// An origin that answers when `gate` is opened with `true`.
    pub async fn gated(gate: &watch::Sender<bool>) -> Origin {
        let gate = gate.subscribe();
        Origin::start(move |seen| {
            let mut gate = gate.clone();
            async move {
                gate.wait_for(|open| *open).await.ok();
                answer(200, seen.body)
            }
        })
        .await
    }

    /// An HTTPS origin for the host names of `certificate`.
    pub async fn tls<H, F>(certificate: &rcgen::CertifiedKey<rcgen::KeyPair>, handler: H) -> Origin
    where
        H: Fn(Seen) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Bytes>> + Send + 'static,
    {
        let key =
            rustls::pki_types::PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.cert.der().clone()], key)
            .unwrap();
        Origin::serve(Some(TlsAcceptor::from(Arc::new(config))), handler).await
    }

    /// Bare TCP: each connection is `handler`'s.
    pub async fn tcp<H, F>(handler: H) -> Origin
    where
        H: Fn(TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Origin::listen("http", move |stream, _| handler(stream)).await
    }

    async fn serve<H, F>(tls: Option<TlsAcceptor>, handler: H) -> Origin
    where
        H: Fn(Seen) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Bytes>> + Send + 'static,
    {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let handler = Arc::new(handler);
        Origin::listen(scheme, move |stream, record| {
            let (handler, tls) = (Arc::clone(&handler), tls.clone());
            async move {
                match tls {
                    None => serve_connection(stream, record, handler).await,
                    // A caller that does not trust us ends here.
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve_connection(stream, record, handler).await;
                        }
                    }
                }
            }
        })
        .await
    }

    async fn listen<H, F>(scheme: &'static str, handler: H) -> Origin
    where
        H: Fn(TcpStream, Arc<Record>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(4096).unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Record::default());
        let closing = watch::Sender::new(false);
        tokio::spawn(accept(listener, Arc::clone(&record), closing.subscribe(), handler));
        Origin { address, scheme, record, closing }
    }

    /// `http://127.0.0.1:…`
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.record.seen.lock().unwrap().clone()
    }

    /// The one request it has seen.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "requests at the origin: {seen:?}");
        seen.into_iter().next().unwrap()
    }

    /// The last request it has seen.
    pub fn last(&self) -> Seen {
        self.record.seen.lock().unwrap().last().cloned().expect("a request reached the origin")
    }

    /// Requests so far.
    pub fn hits(&self) -> usize {
        self.record.seen.lock().unwrap().len()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.record.connections.load(Ordering::Relaxed)
    }

    /// Connections now.
    pub fn connected(&self) -> usize {
        self.record.connected.load(Ordering::Relaxed)
    }

    /// Requests it is working on.
    pub fn open(&self) -> usize {
        self.record.open.load(Ordering::Relaxed)
    }

    /// Requests whose caller went away before the answer.
    pub fn cancelled(&self) -> usize {
        self.record.cancelled.load(Ordering::Relaxed)
    }

    /// Closes every connection that is open now, and goes on.
    pub fn close_connections(&self) {
        self.closing.send_replace(true);
        self.closing.send_replace(false);
    }
}

/// A response.
pub fn answer(status: u16, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

impl Seen {
    /// The values of one header, in order.
    pub fn values(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).into_iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    /// The one value of a header, empty when there is none.
    pub fn value(&self, name: &str) -> String {
        self.values(name).join(" | ")
    }
}

/// Reads one request, writes `answer` and closes.
pub async fn serve_once(mut stream: TcpStream, answer: &str) {
    if read_request(&mut stream).await.is_some() {
        stream.write_all(answer.as_bytes()).await.ok();
        stream.shutdown().await.ok();
    }
}

/// Reads requests and writes what `answer` gives for each, until it gives nothing; then it closes.
pub async fn serve(mut stream: TcpStream, mut answer: impl FnMut(&[u8]) -> Option<Bytes>) {
    while let Some(request) = read_request(&mut stream).await {
        let Some(answer) = answer(&request) else { return };
        // Whoever asked may be gone.
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// Reads one request, head and body.
pub async fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    while !is_whole(&request) {
        match stream.read_buf(&mut request).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
    Some(request)
}

/// Whether this is a whole request with a body of the length it tells.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    request.len() >= end + 4 + length.unwrap_or(0)
}

async fn accept<H, F>(listener: TcpListener, record: Arc<Record>, closing: watch::Receiver<bool>, handler: H)
where
    H: Fn(TcpStream, Arc<Record>) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut end = closing.clone();
    let ended = async move { while end.changed().await.is_ok() {} };
    tokio::pin!(ended);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    eprintln!("the origin cannot accept a connection: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = &mut ended => return,
        };
        record.connections.fetch_add(1, Ordering::Relaxed);
        record.connected.fetch_add(1, Ordering::Relaxed);
        let count = Arc::clone(&record);
        let work = handler(stream, Arc::clone(&record));
        let mut closing = closing.clone();
        closing.mark_unchanged();
        tokio::spawn(async move {
            tokio::select! {
                () = work => {}
                _ = closing.changed() => {}
            }
            count.connected.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn serve_connection<S, H, F>(stream: S, record: Arc<Record>, handler: Arc<H>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Seen) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Bytes>> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (handler, record) = (Arc::clone(&handler), Arc::clone(&record));
        async move {
            let mut open = Open::new(&record);
            let (head, body) = request.into_parts();
            let Ok(body) = body.collect().await else { return Ok(answer(400, "").map(Full::new)) };
            let seen = Seen {
                method: head.method,
                target: head.uri.to_string(),
                version: head.version,
                headers: head.headers,
                body: body.to_bytes(),
            };
            record.seen.lock().unwrap().push(seen.clone());
            let response = handler(seen).await;
            open.answered = true;
            drop(open);
            Ok::<_, Infallible>(response.map(Full::new))
        }
    });
    // A caller that goes away is what some tests are about.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

/// A request that is being worked on.
struct Open {
    record: Arc<Record>,
    answered: bool,
}

impl Open {
    fn new(record: &Arc<Record>) -> Open {
        record.open.fetch_add(1, Ordering::Relaxed);
        Open { record: Arc::clone(record), answered: false }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.record.open.fetch_sub(1, Ordering::Relaxed);
        if !self.answered {
            self.record.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A port that nothing listens on.
pub fn unused_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
