//! Requests and responses at the listener, whichever version of HTTP the caller speaks.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header, request, uri::Scheme};
use http_body_util::{Either, Empty};
use hyper::body::Body;

use super::{http1::date, incoming::Incoming, rendezvous::delivery::Delivery, upgrade::OnUpgrade};
use crate::{
    framing::{digits, is_bodiless},
    wire::{Headers, RequestTarget},
};

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
    /// Path and query, or `*`; none where the target names a host alone, or is of another scheme than HTTP's.
    pub url: Option<RequestTarget>,
    /// The host, where the target names one.
    pub authority: Option<String>,
}

impl Target {
    /// The path alone.
    pub fn path(&self) -> &[u8] {
        self.url.as_ref().map_or(b"", RequestTarget::path)
    }
}

impl From<&Uri> for Target {
    fn from(uri: &Uri) -> Self {
        let served = uri.scheme().is_none_or(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
        let url = uri.path_and_query().filter(|_| served).map(|url| match url.as_str() {
            // `http://a?b` has the path `/` (RFC 9112 section 3.2.1).
            query if query.starts_with('?') => format!("/{query}").into(),
            url => url.into(),
        });
        Target { url, authority: uri.authority().map(|authority| authority.as_str().to_owned()) }
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

impl Head {
    /// HTTP/2 may send cookies apart; to HTTP/1 they pass as one field (RFC 9113 §8.2.3).
    pub fn join_cookies(&mut self) {
        let cookies: Vec<&[u8]> = self.headers.get_all(header::COOKIE).map(HeaderValue::as_bytes).collect();
        if cookies.len() < 2 {
            return;
        }
        if let Ok(cookie) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
            self.headers.insert(header::COOKIE, cookie);
        }
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

impl<B: Body<Data = Bytes>> Response<B> {
    /// The response to a `method` request by HTTP/2, where no connection header frames a body: what must not have one
    /// (RFC 9110 sections 6.4.1 and 15.3.6) has none, and a length is told once or not at all. Nobody is told what of
    /// the message of a session goes out by it.
    pub fn into_http2(self, method: &Method) -> http::Response<Either<B, Empty<Bytes>>> {
        let Response { status, mut headers, body, delivery: _ } = self;
        let (bodiless, resets) = (is_bodiless(status), status == StatusCode::RESET_CONTENT);
        let mut lengths = headers.get_all(header::CONTENT_LENGTH);
        let is_clear =
            lengths.next().is_none_or(|told| digits(told.as_bytes()).is_some()) && lengths.next().is_none();
        drop(lengths);
        if bodiless || resets || !is_clear {
            headers.remove(header::CONTENT_LENGTH);
        }
        headers.retain(|name, _| {
            !OF_HTTP1.contains(name) && *name != "keep-alive" && *name != "proxy-connection"
        });
        let nothing = bodiless || resets || *method == Method::HEAD;
        if !nothing && let Some(length) = body.size_hint().exact() {
            headers.set_default(header::CONTENT_LENGTH, length.into());
        }
        if !headers.contains_key(header::DATE)
            && let Some(date) = date()
        {
            headers.append(header::DATE, date);
        }
        let body = if nothing { Either::Right(Empty::new()) } else { Either::Left(body) };
        let mut http = http::Response::new(body);
        *http.status_mut() = status;
        *http.headers_mut() = headers.into();
        http
    }
}

/// What concerns a connection of HTTP/1, and is malformed in HTTP/2 (RFC 9113 section 8.2.2).
const OF_HTTP1: [HeaderName; 3] = [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE];
