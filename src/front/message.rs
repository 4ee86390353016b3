//! Requests and responses at the listener, whichever version of HTTP the caller speaks.

use http::{HeaderValue, Method, StatusCode, Uri, Version, header, request};
use hyper::body::Incoming as Http2Body;

use super::{http1::OnUpgrade, incoming::Incoming, rendezvous::delivery::Delivery};
use crate::wire::Headers;

/// The head of a request.
#[derive(Debug, Clone)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// What it is for.
    pub target: Target,
    /// The version that the caller speaks.
    pub version: Version,
    /// The headers.
    pub headers: Headers,
}

/// What a request is for (RFC 9112 section 3.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Path and query, or `*`; none where the target names a host alone.
    pub url: Option<String>,
    /// The host, where the target names one.
    pub authority: Option<String>,
}

impl Target {
    /// The path alone.
    pub fn path(&self) -> &str {
        path(self.url.as_deref().unwrap_or_default())
    }
}

/// The path of what may have a query as well.
pub fn path(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

impl From<&Uri> for Target {
    fn from(uri: &Uri) -> Self {
        Target {
            url: uri.path_and_query().map(|url| url.as_str().to_owned()),
            authority: uri.authority().map(|authority| authority.as_str().to_owned()),
        }
    }
}

impl From<request::Parts> for Head {
    fn from(parts: request::Parts) -> Self {
        let request::Parts { method, uri, version, headers, .. } = parts;
        Head { method, target: Target::from(&uri), version, headers: headers.into() }
    }
}

/// A request.
pub struct Request {
    /// The head.
    pub head: Head,
    /// The body.
    pub body: Incoming,
    /// The way to the connection's bytes, when it may change to another protocol.
    pub upgrade: Option<OnUpgrade>,
}

/// From HTTP/2.
impl From<http::Request<Http2Body>> for Request {
    fn from(request: http::Request<Http2Body>) -> Self {
        let (parts, body) = request.into_parts();
        let mut head = Head::from(parts);
        join_cookies(&mut head.headers);
        Request { head, body: Incoming::Http2(body), upgrade: None }
    }
}

/// HTTP/2 may send cookies apart; to HTTP/1 they pass as one field (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut Headers) {
    let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).map(HeaderValue::as_bytes).collect();
    if cookies.len() < 2 {
        return;
    }
    if let Ok(cookie) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
        headers.insert(header::COOKIE, cookie);
    }
}

/// A response.
#[derive(Debug)]
pub struct Response<B> {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: Headers,
    /// The body.
    pub body: B,
    /// The message of a session that the body is, when it is one.
    pub delivery: Option<Delivery>,
}

impl<B> Response<B> {
    /// 200 with `body`.
    pub fn new(body: B) -> Self {
        Response::with(StatusCode::OK, Headers::new(), body)
    }

    /// A response of these parts.
    pub fn with(status: StatusCode, headers: Headers, body: B) -> Self {
        Response { status, headers, body, delivery: None }
    }

    /// The same with another body.
    pub fn map<C>(self, change: impl FnOnce(B) -> C) -> Response<C> {
        let Response { status, headers, body, delivery } = self;
        Response { status, headers, body: change(body), delivery }
    }
}

/// For HTTP/2. Nobody is told what of the message of a session goes out by it.
impl<B> From<Response<B>> for http::Response<B> {
    fn from(response: Response<B>) -> Self {
        let mut http = http::Response::new(response.body);
        *http.status_mut() = response.status;
        *http.headers_mut() = response.headers.into();
        http
    }
}
