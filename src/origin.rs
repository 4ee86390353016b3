//! Calls to the origin: the only file that speaks HTTP outwards for a relayed request.
//!
//! The connection always goes to the configured host; what a request brings is a path on it. A call and
//! its connection are driven by one task: handing each response from a connection's task to the caller's
//! would cost two wake-ups a request.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Mutex,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;

use crate::{
    config::{HostHeader, Origin as Settings},
    wire::{Code, Fault, Request, Side},
};

mod connect;

use connect::{Connector, Stream};

/// One origin and its idle connections.
pub struct Origin {
    connector: Connector,
    /// What stands before every request target: the configured URL's path, without its last slash.
    base: String,
    authority: HeaderValue,
    host_header: HostHeader,
    max_body: usize,
    pool: Mutex<Vec<Idle>>,
    pool_size: usize,
    pool_idle: Duration,
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// What the origin speaks.
    pub version: Version,
    /// The headers as they came.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// Both halves of a connection, so that one task can drive them.
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Pin<Box<http1::Connection<TokioIo<Stream>, Full<Bytes>>>>,
}

/// Why a call failed, and the request when none of it can have left.
struct Failure {
    fault: Fault,
    unsent: Option<http::Request<Full<Bytes>>>,
}

impl Origin {
    /// The origin that `settings` describe; bodies over `max_body` bytes are a fault.
    ///
    /// # Errors
    /// When certificates can't be read.
    pub fn new(settings: &Settings, max_body: usize) -> anyhow::Result<Self> {
        let uri = settings.to.uri();
        let authority = uri.authority().map_or("", |a| a.as_str());
        Ok(Origin {
            connector: Connector::new(settings)?,
            base: uri.path().trim_end_matches('/').to_owned(),
            authority: HeaderValue::from_str(authority)?,
            host_header: settings.host_header,
            max_body,
            pool: Mutex::new(Vec::new()),
            pool_size: settings.pool_size,
            pool_idle: settings.pool_idle,
        })
    }

    /// Issues `request` and reads its whole response. Dropping the future aborts the call.
    ///
    /// # Errors
    /// A fault that says whether the origin may have seen the request.
    pub async fn call(&self, request: Request) -> Result<Answer, Fault> {
        let idempotent = request.method.is_idempotent();
        let mut outgoing = self.outgoing(request)?;
        // A kept connection may have been closed by the origin while the request was on its way.
        while let Some(mut connection) = self.checkout() {
            let spare = idempotent.then(|| outgoing.clone());
            match connection.exchange(outgoing, self.max_body).await {
                Ok(answer) => return Ok(self.checkin(connection, answer)),
                Err(Failure { unsent: Some(request), .. }) => outgoing = request,
                Err(Failure { fault, unsent: None }) => match spare {
                    Some(request) if fault.code == Code::OriginBroken => {
                        outgoing = request;
                        break;
                    }
                    Some(_) | None => return Err(fault),
                },
            }
        }
        let mut connection = self.connector.connect().await?;
        match connection.exchange(outgoing, self.max_body).await {
            Ok(answer) => Ok(self.checkin(connection, answer)),
            Err(failure) => Err(failure.fault),
        }
    }

    /// Closes connections that have been idle for too long.
    pub fn close_idle(&self) {
        let mut pool = self.pool.lock().expect("no panic while the pool is locked");
        pool.retain(|idle| idle.since.elapsed() < self.pool_idle);
    }

    fn outgoing(&self, request: Request) -> Result<http::Request<Full<Bytes>>, Fault> {
        let target = target(&self.base, &request.method, &request.url)?;
        let mut outgoing = http::Request::new(Full::new(request.body));
        *outgoing.method_mut() = request.method;
        *outgoing.uri_mut() = target;
        *outgoing.headers_mut() = request.headers;
        let headers = outgoing.headers_mut();
        // The framing is this hop's own: the body is here in full, hyper says how long it is.
        headers.remove(header::TRANSFER_ENCODING);
        if self.host_header == HostHeader::Rewrite || !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, self.authority.clone());
        }
        Ok(outgoing)
    }

    /// The connection that was used last: it is the least likely to have been closed.
    fn checkout(&self) -> Option<Connection> {
        loop {
            let idle = self.pool.lock().expect("no panic while the pool is locked").pop()?;
            let mut connection = idle.connection;
            if idle.since.elapsed() < self.pool_idle && connection.is_usable() {
                return Some(connection);
            }
        }
    }

    fn checkin(&self, mut connection: Connection, answer: Answer) -> Answer {
        if connection.is_usable() {
            let mut pool = self.pool.lock().expect("no panic while the pool is locked");
            if pool.len() < self.pool_size {
                pool.push(Idle { connection, since: Instant::now() });
            }
        }
        answer
    }
}

impl Connection {
    async fn open(stream: Stream) -> hyper::Result<Self> {
        let (sender, driver) = http1::Builder::new().handshake(TokioIo::new(stream)).await?;
        Ok(Connection { sender, driver: Box::pin(driver) })
    }

    /// Whether another request can be sent; notices a close that has arrived.
    fn is_usable(&mut self) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        self.driver.as_mut().poll(&mut context).is_pending() && self.sender.is_ready()
    }

    async fn exchange(
        &mut self,
        request: http::Request<Full<Bytes>>,
        max_body: usize,
    ) -> Result<Answer, Failure> {
        let response = self.head(request).await?;
        let (head, body) = response.into_parts();
        let body = self.body(body, max_body).await?;
        Ok(Answer { status: head.status, version: head.version, headers: head.headers, body })
    }

    async fn head(&mut self, request: http::Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let mut response = pin!(self.sender.try_send_request(request));
        let driver = &mut self.driver;
        let mut closed = false;
        let outcome = poll_fn(|cx| {
            if !closed {
                // When the connection ends, its error is told to the response as well.
                closed = driver.as_mut().poll(cx).is_ready();
            }
            response.as_mut().poll(cx)
        });
        outcome.await.map_err(|mut error| {
            let unsent = error.take_message();
            Failure { fault: broken(error.error()), unsent }
        })
    }

    async fn body(&mut self, mut body: Incoming, max_body: usize) -> Result<Bytes, Failure> {
        let too_large = || {
            let detail = format!("the response's body is over {max_body} bytes, the agent's --max-body");
            Failure { fault: Fault::new(Code::ResponseTooLarge, Side::Upstream, detail), unsent: None }
        };
        if http_body::Body::size_hint(&body).lower() > max_body as u64 {
            return Err(too_large());
        }
        let mut first: Option<Bytes> = None;
        let mut rest = BytesMut::new();
        while let Some(frame) = self.frame(&mut body).await {
            let frame = frame.map_err(|error| Failure { fault: broken(&error), unsent: None })?;
            let Ok(data) = frame.into_data() else { continue };
            match &first {
                None => first = Some(data),
                Some(start) => {
                    if rest.is_empty() {
                        rest.extend_from_slice(start);
                    }
                    rest.extend_from_slice(&data);
                }
            }
            if first.as_ref().map_or(0, Bytes::len).max(rest.len()) > max_body {
                return Err(too_large());
            }
        }
        Ok(if rest.is_empty() { first.unwrap_or_default() } else { rest.freeze() })
    }

    async fn frame(
        &mut self,
        body: &mut Incoming,
    ) -> Option<Result<hyper::body::Frame<Bytes>, hyper::Error>> {
        let mut frame = pin!(body.frame());
        let driver = &mut self.driver;
        let mut closed = false;
        poll_fn(|cx| {
            if let Poll::Ready(frame) = frame.as_mut().poll(cx) {
                return Poll::Ready(frame);
            }
            if !closed {
                closed = driver.as_mut().poll(cx).is_ready();
            }
            frame.as_mut().poll(cx)
        })
        .await
    }
}

/// The target on the origin: `base` and the caller's own path and query, nothing else.
fn target(base: &str, method: &Method, url: &str) -> Result<Uri, Fault> {
    let refused = |why: &'static str| Fault::new(Code::BadTarget, Side::Upstream, why);
    if url == "*" && *method == Method::OPTIONS {
        return Ok(Uri::from_static("*"));
    }
    if !url.starts_with('/') {
        return Err(refused("the request target must be a path on the origin"));
    }
    // With a base path, `..` would climb out of what was configured.
    if !base.is_empty() && has_dot_segment(url) {
        return Err(refused("the request target has a '..' segment, which could leave the configured path"));
    }
    let path: http::uri::PathAndQuery =
        format!("{base}{url}").parse().map_err(|_| refused("the request target is not a valid path"))?;
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| refused("the request target is not a valid path"))
}

fn has_dot_segment(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    path.replace("%2e", ".")
        .replace("%2f", "/")
        .replace("%5c", "/")
        .replace('\\', "/")
        .split('/')
        .any(|s| s == "..")
}

/// The fault of a connection that broke. Nothing tells how far the origin got.
fn broken(error: &hyper::Error) -> Fault {
    let mut detail = String::from("the origin's answer was not complete HTTP: ");
    detail.push_str(&error.to_string());
    if let Some(source) = std::error::Error::source(error) {
        detail.push_str(": ");
        detail.push_str(&source.to_string());
    }
    Fault::new(Code::OriginBroken, Side::Upstream, detail)
}

/// The fault of a connection that could not be made: the origin has seen nothing.
fn unreachable(error: &io::Error, target: &str) -> Fault {
    let (code, what) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (Code::OriginRefused, "refused the connection"),
        io::ErrorKind::TimedOut => (Code::OriginConnectTimeout, "did not accept the connection in time"),
        _ => (Code::OriginUnreachable, "could not be reached"),
    };
    Fault::new(code, Side::Upstream, format!("the origin {target} {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_cannot_leave_the_configured_host() {
        let get = |url: &str| target("", &Method::GET, url).map(|uri| uri.to_string());
        assert_eq!(get("/a?b=c").unwrap(), "/a?b=c");
        // It is a path that begins with two slashes, on the configured host.
        assert_eq!(get("//evil.example/x").unwrap(), "//evil.example/x");
        assert!(target("", &Method::GET, "//evil.example/x").unwrap().host().is_none());
        for bad in ["http://evil.example/", "evil.example:80", "", "*", "/a b", "@evil"] {
            assert_eq!(get(bad).unwrap_err().code, Code::BadTarget, "{bad:?}");
        }
    }

    #[test]
    fn a_target_cannot_climb_out_of_the_configured_path() {
        let get = |url: &str| target("/base", &Method::GET, url).map(|uri| uri.to_string());
        assert_eq!(get("/a/..b/c?x=/../").unwrap(), "/base/a/..b/c?x=/../");
        for bad in ["/../secret", "/a/%2e%2E/secret", "/a/..%2fsecret", "/..\\secret", "/a/.%2e"] {
            assert_eq!(get(bad).unwrap_err().code, Code::BadTarget, "{bad:?}");
        }
    }
}
