//! Requests and responses at the listener, whichever version of HTTP the caller speaks.

use http::{Method, StatusCode, Uri, Version, request};

use super::rendezvous::delivery::Delivery;
use crate::wire::Headers;

/// The head of a request.
#[derive(Debug, Clone)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The target as it was sent.
    pub uri: Uri,
    /// The version that the caller speaks.
    pub version: Version,
    /// The headers.
    pub headers: Headers,
}

impl From<request::Parts> for Head {
    fn from(parts: request::Parts) -> Self {
        let request::Parts { method, uri, version, headers, .. } = parts;
        Head { method, uri, version, headers: headers.into() }
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

/// For what speaks HTTP by a library.
impl<B> From<Response<B>> for http::Response<B> {
    fn from(response: Response<B>) -> Self {
        let mut http = http::Response::new(response.body);
        *http.status_mut() = response.status;
        *http.headers_mut() = response.headers.into();
        if let Some(delivery) = response.delivery {
            http.extensions_mut().insert(delivery);
        }
        http
    }
}
