//! How a request to a session is answered: the heads, in the order that the original's document has them, cookies,
//! and what pages of other sites may see.

use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{Cookie, Delivered, Received, Rules};
use crate::{
    config::Origins,
    front::message::Response,
    wire::{
        Headers, SessionId,
        session::{SessionKind, Token},
    },
};

/// Nothing but a status.
pub fn empty(status: StatusCode) -> Response<()> {
    with(status, |_| {})
}

/// Nobody came. The document shows this answer: it has no body.
pub fn timed_out() -> Response<()> {
    empty(StatusCode::GATEWAY_TIMEOUT)
}

/// A new session.
pub fn allocated(
    rules: &Rules,
    id: &SessionId,
    kind: SessionKind,
    cookie: &Cookie,
    secure: bool,
) -> Response<()> {
    with(StatusCode::CREATED, |headers| {
        let path = format!("{}/{id}", rules.at);
        insert(headers, header::LOCATION, &path);
        let cookie = set_cookie(rules, &path, cookie, secure);
        // The document has the type after the cookie of a basic session, and before that of a secure one.
        let kind_of = HeaderValue::from_static(kind.as_str());
        match kind {
            SessionKind::Basic => {
                insert(headers, header::SET_COOKIE, &cookie);
                headers.insert(X_TYPE, kind_of);
            }
            SessionKind::Secure => {
                headers.insert(X_TYPE, kind_of);
                insert(headers, header::SET_COOKIE, &cookie);
            }
        }
    })
}

/// The end of a session: its cookie expires now.
pub fn deleted(token: Option<&Token>, path: &str) -> Response<()> {
    with(StatusCode::OK, |headers| {
        let token = token.map_or("", Token::reveal);
        let now = httpdate::fmt_http_date(SystemTime::now());
        insert(headers, header::SET_COOKIE, &format!("token=\"{token}\"; Expires={now}; Path={path}"));
    })
}

/// What became of something that was sent, with a length or in chunks.
pub fn delivered(delivered: Delivered, sized: bool) -> Response<()> {
    let bytes = HeaderValue::from(delivered.bytes);
    with_length(StatusCode::OK, |headers, length| match (delivered.whole, sized) {
        (true, false) => {
            headers.insert(X_BYTES_RELAYED, bytes);
            headers.insert(header::CONTENT_LENGTH, length);
        }
        (whole, _) => {
            headers.insert(header::CONTENT_LENGTH, length);
            headers.insert(X_BYTES_DELIVERED, bytes);
            if !whole {
                headers.insert(X_INCOMPLETE, HeaderValue::from_static("1"));
            }
        }
    })
}

/// Something that is received.
pub fn received(received: &Received, from_page: bool) -> Response<()> {
    let mut response = Response::new(());
    let headers = &mut response.headers;
    insert(headers, header::DATE, &httpdate::fmt_http_date(SystemTime::now()));
    let kind = received.content_type.clone().and_then(|kind| HeaderValue::from_maybe_shared(kind).ok());
    if let Some(kind) = kind {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    if let Some(length) = received.length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    if from_page {
        // A stranger wrote it: as a page it would be one of this site.
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    response
}

/// Gives the host its cookie anew.
pub fn renew<B>(
    response: &mut Response<B>,
    rules: &Rules,
    path: &str,
    cookie: Option<&Cookie>,
    secure: bool,
) {
    if let Some(cookie) = cookie {
        insert(&mut response.headers, header::SET_COOKIE, &set_cookie(rules, path, cookie, secure));
    }
}

/// The cookie as the document has it. Browsers do not take a path in quotes, and take the last one there is; pages
/// of other sites may send it only when all of it is encrypted.
fn set_cookie(rules: &Rules, path: &str, cookie: &Cookie, secure: bool) -> String {
    let Cookie { token, expires } = cookie;
    let expires = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(*expires));
    let elsewhere = rules.origins.iter().any(|origin| matches!(origin, Origins::One(_)));
    let from = match (secure, elsewhere) {
        (true, true) => "SameSite=None; Secure",
        (true, false) => "SameSite=Lax; Secure",
        (false, _) => "SameSite=Lax",
    };
    let token = token.reveal();
    format!("token=\"{token}\"; Path=\"{path}\"; Expires={expires}; HttpOnly; {from}; Path={path}")
}

fn with(status: StatusCode, add: impl FnOnce(&mut Headers)) -> Response<()> {
    with_length(status, |headers, length| {
        add(headers);
        headers.insert(header::CONTENT_LENGTH, length);
    })
}

fn with_length(status: StatusCode, add: impl FnOnce(&mut Headers, HeaderValue)) -> Response<()> {
    let mut response = Response::new(());
    response.status = status;
    let headers = &mut response.headers;
    // First, as in the document; the connection would add it at the end.
    insert(headers, header::DATE, &httpdate::fmt_http_date(SystemTime::now()));
    add(headers, HeaderValue::from_static("0"));
    if status == StatusCode::NO_CONTENT {
        headers.remove(header::CONTENT_LENGTH);
    }
    response
}

fn insert(headers: &mut Headers, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A page of another site that asks.
pub struct Page {
    /// Its origin, when pages there may see answers.
    origin: Option<HeaderValue>,
    /// Whether it may use cookies.
    hosts: bool,
}

/// The page that asks, where pages of other sites may.
pub fn page(rules: &Rules, headers: &Headers) -> Option<Page> {
    if rules.origins.is_empty() {
        return None;
    }
    let asks = headers.get(header::ORIGIN)?;
    let listed = rules
        .origins
        .iter()
        .any(|origin| matches!(origin, Origins::One(one) if one.as_bytes() == asks.as_bytes()));
    let all = rules.origins.iter().any(|origin| matches!(origin, Origins::All));
    let origin = match (listed, all) {
        (true, _) => Some(asks.clone()),
        (false, true) => Some(HeaderValue::from_static("*")),
        (false, false) => None,
    };
    Some(Page { origin, hosts: listed })
}

impl Page {
    /// Tells the browser what the page may do.
    pub fn tell(self, headers: &mut Headers) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = self.origin else { return };
        let fixed = [
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED),
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE"),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type, X-Timeout, X-Type, X-Peer-Address"),
            (header::ACCESS_CONTROL_MAX_AGE, "600"),
        ];
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if self.hosts {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

const EXPOSED: &str = "Location, X-Type, X-Bytes-Delivered, X-Bytes-Relayed, X-Relay-Incomplete, X-Relay-Id";
const X_TYPE: HeaderName = HeaderName::from_static("x-type");
const X_BYTES_RELAYED: HeaderName = HeaderName::from_static("x-bytes-relayed");
const X_BYTES_DELIVERED: HeaderName = HeaderName::from_static("x-bytes-delivered");
/// Said of a body that is not whole: in a trailer to its receiver, in a header to its sender.
pub const X_INCOMPLETE: HeaderName = HeaderName::from_static("x-relay-incomplete");
