//! The client agent's listener: HTTP/1.1 in, requests out, one answer back.
//!
//! What a caller may say is checked here, before anything is published: method, target, header block,
//! body. Everything that passes is the origin's to judge.

use std::{
    convert::Infallible,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderValue, Method, Request as HttpRequest, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::net::TcpStream;

use super::{
    body::{self, Budget, Held, Limits},
    problem,
};
use crate::{
    proto::exchange::Answer,
    wire::{
        Code, Fault, Name, ProcessId, Reply, Request, RequestId, Side,
        headers::{self, Caller},
        message::{VERSION, millis},
    },
};

/// What a listener is held to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The upstream requests are for.
    pub upstream: Name,
    /// How long a request may take in all.
    pub ttl: Duration,
    /// Connections at most.
    pub max_connections: usize,
    /// Header block at most, in bytes.
    pub max_header_bytes: usize,
    /// The request's body.
    pub body: Limits,
    /// How long a request's headers may take.
    pub header_timeout: Duration,
    /// Proxies in front that are believed.
    pub trusted: Vec<IpNet>,
}

/// Whoever gets requests answered.
pub trait Ask: Send + Sync + 'static {
    /// The process that asks.
    fn process(&self) -> ProcessId;
    /// The id for a new request to `upstream`.
    fn mint(&self, upstream: &Name) -> RequestId;
    /// Gets `request` answered. Dropping the future abandons it.
    fn ask(&self, request: Request) -> impl Future<Output = Answer> + Send;
    /// Tells what became of a request.
    fn served(&self, served: &Served<'_>);
    /// The number of connections, which the front keeps.
    fn connections(&self) -> &AtomicUsize;
}

/// One request as the access log and the metrics see it.
#[derive(Debug)]
pub struct Served<'a> {
    /// The request's id.
    pub id: &'a RequestId,
    /// Its upstream.
    pub upstream: &'a Name,
    /// Its method.
    pub method: &'a Method,
    /// The agent that answered, if one did.
    pub agent: Option<ProcessId>,
    /// The status that was answered; 499 when the caller was gone.
    pub status: StatusCode,
    /// What was decided.
    pub decision: Decision,
    /// When the request's headers were here.
    pub started: Instant,
    /// Bytes of the request's body.
    pub bytes_in: usize,
    /// Bytes of the response's body.
    pub bytes_out: usize,
    /// The caller's address.
    pub peer: IpAddr,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// With the origin's response.
    Response,
    /// With a fault.
    Fault(Code, Side),
    /// The caller went away before its answer.
    Abandoned,
}

/// The listener's shared state.
pub struct Front<A> {
    settings: Settings,
    ask: A,
    budget: Budget,
}

impl<A: Ask> Front<A> {
    /// A front for `ask`; `max_buffered` is what bodies may take in memory, in bytes.
    pub fn new(settings: Settings, max_buffered: usize, ask: A) -> Arc<Self> {
        Arc::new(Front { settings, ask, budget: Budget::new(max_buffered) })
    }

    /// Serves one connection until it ends, or until `drain` is done and its last request is answered.
    pub async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        drain: impl Future<Output = ()>,
    ) {
        let connections = self.ask.connections();
        let over = connections.fetch_add(1, Ordering::Relaxed) >= self.settings.max_connections;
        let _open = Open(connections);
        let front = &self;
        let service = service_fn(|request: HttpRequest<Incoming>| async move {
            Ok::<_, Infallible>(front.answer(request, peer.ip(), over).await)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.header_timeout)
            .max_buf_size((self.settings.max_header_bytes * 2).max(MIN_BUFFER))
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut drain = std::pin::pin!(drain);
        let end = tokio::select! {
            end = connection.as_mut() => end,
            () = &mut drain => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        };
        // What goes wrong on a caller's connection is the caller's business; it has had its answer.
        if let Err(error) = end {
            tracing::debug!(%peer, %error, "connection ended early");
        }
    }

    async fn answer(&self, request: HttpRequest<Incoming>, peer: IpAddr, over: bool) -> Response<Held> {
        let started = Instant::now();
        let upstream = &self.settings.upstream;
        let id = self.ask.mint(upstream);
        let method = request.method().clone();
        let served = Served {
            id: &id,
            upstream,
            method: &method,
            agent: None,
            status: CALLER_GONE,
            decision: Decision::Abandoned,
            started,
            bytes_in: 0,
            bytes_out: 0,
            peer,
        };
        // Told when it is dropped: also when the caller goes away and this future with it.
        let mut told = Told { ask: &self.ask, served };
        let outcome =
            if over { Err(self.too_many()) } else { self.relay(request, peer, &mut told.served).await };
        let response = outcome.unwrap_or_else(|fault| {
            told.served.decision = Decision::Fault(fault.code, fault.raised_by);
            let mut response = problem::response(&fault, Some(&id), &method);
            if over {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response
        });
        told.served.status = response.status();
        response
    }

    async fn relay(
        &self,
        request: HttpRequest<Incoming>,
        peer: IpAddr,
        served: &mut Served<'_>,
    ) -> Result<Response<Held>, Fault> {
        let (mut head, body) = request.into_parts();
        let url = self.check(&mut head)?;
        let (body, share) = body::read(body, self.settings.body, &self.budget).await?;
        served.bytes_in = body.len();
        let caller =
            Caller { address: peer, trusted: self.is_trusted(peer), tls: false, version: head.version };
        let request = Request {
            v: VERSION,
            client_id: self.ask.process(),
            client_req_id: served.id.clone(),
            client_req_ttl: millis(self.settings.ttl),
            upstream_target: self.settings.upstream.clone(),
            method: head.method,
            url,
            headers: headers::for_origin(head.headers, &caller, VIA),
            body,
            broker_id: None,
            broker_req_id: None,
            broker_req_ttl: None,
        };
        let answer = self.ask.ask(request).await;
        drop(share);
        match answer {
            Answer::Response(reply) => self.response(*reply, served),
            Answer::Fault(fault) => Err(fault),
        }
    }

    fn response(&self, reply: Reply, served: &mut Served<'_>) -> Result<Response<Held>, Fault> {
        let body = reply.body.unwrap_or_default();
        served.bytes_out = body.len();
        let share = match body.len() {
            0 => None,
            bytes => Some(self.budget.take(bytes).map_err(|fault| Fault { maybe_seen: true, ..fault })?),
        };
        let mut response = Response::new(Held::new(body, share));
        *response.status_mut() = reply.status_code.unwrap_or(StatusCode::BAD_GATEWAY);
        *response.headers_mut() = headers::for_caller(reply.headers, http::Version::HTTP_11, VIA);
        served.agent = reply.upstream_id;
        served.decision = Decision::Response;
        Ok(response)
    }

    /// What a caller may say; returns the target in origin form.
    fn check(&self, head: &mut http::request::Parts) -> Result<String, Fault> {
        if head.method == Method::CONNECT {
            return Err(fault(
                Code::MethodRefused,
                "CONNECT is not relayed: a request goes to the upstream's origin",
            ));
        }
        let size: usize =
            head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let limit = self.settings.max_header_bytes;
        if size > limit {
            let detail =
                format!("the header block is {size} bytes, the limit of --max-header-bytes is {limit}");
            return Err(Fault::new(Code::HeadersTooLarge, Side::Client, detail));
        }
        let hosts = head.headers.get_all(header::HOST).iter().count();
        if hosts > 1 || (hosts == 0 && head.version == http::Version::HTTP_11) {
            return Err(fault(Code::BadRequest, "a request must have exactly one Host header"));
        }
        match head.headers.get(header::EXPECT) {
            Some(expect) if !expect.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
                return Err(fault(
                    Code::BadExpectation,
                    "the only expectation that can be met is 100-continue",
                ));
            }
            Some(_) | None => {}
        }
        // Authority form is for CONNECT (RFC 9112 §3.2.3): `GET example.com` names no path.
        if head.uri.path_and_query().is_none() {
            return Err(fault(Code::BadTarget, "the request target must be a path, an absolute URL or '*'"));
        }
        // In absolute form the target's authority replaces Host (RFC 9112 §3.2.2); the path is all that is kept.
        if let Some(authority) = head.uri.authority() {
            let host = authority.as_str().rsplit('@').next().unwrap_or_default();
            let host = HeaderValue::from_str(host)
                .map_err(|_| fault(Code::BadTarget, "the target's host is not valid"))?;
            head.headers.insert(header::HOST, host);
        }
        let url = head.uri.path_and_query().map_or("/", |path| path.as_str());
        if url.len() > MAX_TARGET {
            let detail = format!("the request target is {} bytes, it may be at most {MAX_TARGET}", url.len());
            return Err(Fault::new(Code::TargetTooLong, Side::Client, detail));
        }
        Ok(if url.is_empty() { "/".to_owned() } else { url.to_owned() })
    }

    fn is_trusted(&self, peer: IpAddr) -> bool {
        self.settings.trusted.iter().any(|network| network.contains(&peer))
    }

    fn too_many(&self) -> Fault {
        let limit = self.settings.max_connections;
        Fault::new(
            Code::ClientFull,
            Side::Client,
            format!("{limit} connections are open, the limit of --max-connections"),
        )
    }
}

/// A request that is told of when it ends, however it ends.
struct Told<'a, A: Ask> {
    ask: &'a A,
    served: Served<'a>,
}

impl<A: Ask> Drop for Told<'_, A> {
    fn drop(&mut self) {
        self.ask.served(&self.served);
    }
}

struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn fault(code: Code, detail: &'static str) -> Fault {
    Fault::new(code, Side::Client, detail)
}

/// Our pseudonym in `Via`.
const VIA: &str = "relay";
/// What the log says of a request whose caller is gone; nobody gets it.
const CALLER_GONE: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::REQUEST_TIMEOUT,
};
/// A request target at most, in bytes.
const MAX_TARGET: usize = 32 * 1024;
/// hyper's smallest buffer.
const MIN_BUFFER: usize = 8192;
