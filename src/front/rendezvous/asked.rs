//! What a request to a session says: where, what, who asks and how long it waits.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderName, Method, header};

use super::{MAKING, ONE, Rules, is_preflight};
use crate::{
    front::{message::Head, opening::Opening},
    proto::rendezvous::admission::Visitor,
    wire::{
        Code, Fault, Headers, RequestTarget, Side,
        headers::{Caller, address_of, used_tls},
        session::{SessionKind, Token},
    },
};

/// A request to a session.
pub struct Asked {
    /// Where sessions are.
    pub at: String,
    /// Which one it is for, as the caller wrote it; none where they are made.
    pub id: Option<String>,
    /// What is wanted.
    pub verb: Verb,
    /// Who asks.
    pub visitor: Visitor,
    /// Whether the caller uses TLS, here or at a proxy in front.
    pub secure: bool,
}

/// What is wanted.
pub enum Verb {
    /// A new session.
    Allocate(SessionKind),
    /// That this address may be its guest.
    Permit(IpAddr),
    /// Its end.
    Delete,
    /// To receive something.
    Receive {
        /// How long it waits.
        wait: Duration,
        /// Whether a browser shows what comes, instead of giving it to a program.
        from_page: bool,
    },
    /// To send something.
    Send {
        /// How long it waits.
        wait: Duration,
        /// What it is.
        content_type: Option<Bytes>,
        /// Whether the body comes only when it is asked for.
        expects: bool,
    },
    /// What a browser asks before it lets a page do something.
    Preflight,
    /// Something that sessions do not have.
    Other,
}

impl Asked {
    /// Reads a request for `url` with this head.
    ///
    /// # Errors
    /// When a header is not valid.
    pub fn read(
        rules: &Rules,
        opening: &Opening,
        head: &Head,
        url: &RequestTarget,
        caller: &Caller,
    ) -> Result<Asked, Fault> {
        let at = rules.at.as_str();
        let path = url.path_text();
        let rest = path.strip_prefix(at).unwrap_or_default();
        let id = rest.strip_prefix('/').map(str::to_owned);
        let headers = &head.headers;
        let address = address_of(caller, headers, |peer| opening.trusts(peer));
        let visitor = Visitor { tokens: tokens(headers), address };
        let verb = Verb::read(rules, head, id.is_some())?;
        let secure = caller.tls || (caller.trusted && used_tls(headers));
        Ok(Asked { at: at.to_owned(), id, verb, visitor, secure })
    }

    /// The methods of what it is for.
    pub fn allowed(&self) -> &'static str {
        if self.id.is_some() { ONE } else { MAKING }
    }
}

impl Verb {
    fn read(rules: &Rules, head: &Head, of_one: bool) -> Result<Verb, Fault> {
        let headers = &head.headers;
        Ok(match (&head.method, of_one) {
            (&Method::OPTIONS, _) if !rules.origins.is_empty() && is_preflight(&head.method, headers) => {
                Verb::Preflight
            }
            (&Method::PUT, false) => Verb::Allocate(kind(headers)?),
            (&Method::PUT, true) => Verb::Permit(guest(headers)?),
            (&Method::DELETE, true) => Verb::Delete,
            (&Method::GET, true) => {
                let from_page = headers.get(SEC_FETCH_DEST).is_some_and(|to| to != "empty");
                Verb::Receive { wait: wait(rules, headers)?, from_page }
            }
            (&Method::POST, true) => Verb::Send {
                wait: wait(rules, headers)?,
                content_type: headers
                    .get(header::CONTENT_TYPE)
                    .map(|kind| Bytes::copy_from_slice(kind.as_bytes())),
                expects: headers.contains_key(header::EXPECT),
            },
            _ => Verb::Other,
        })
    }
}

fn kind(headers: &Headers) -> Result<SessionKind, Fault> {
    match one(headers, X_TYPE)? {
        None => Ok(SessionKind::Basic),
        Some(kind) if kind.eq_ignore_ascii_case("basic") => Ok(SessionKind::Basic),
        Some(kind) if kind.eq_ignore_ascii_case("secure") => Ok(SessionKind::Secure),
        Some(_) => Err(invalid("X-Type must be 'basic' or 'secure'")),
    }
}

fn guest(headers: &Headers) -> Result<IpAddr, Fault> {
    let guest = one(headers, X_PEER_ADDRESS)?;
    let guest = guest.and_then(|address| address.parse().ok());
    guest.ok_or_else(|| invalid("X-Peer-Address must be the IP address of the guest"))
}

/// How long a request waits: what it says in whole seconds, within what is allowed.
fn wait(rules: &Rules, headers: &Headers) -> Result<Duration, Fault> {
    let Some(text) = one(headers, X_TIMEOUT)? else { return Ok(rules.wait.min(rules.longest_wait)) };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return Err(invalid("X-Timeout must be a number of seconds"));
    }
    // More digits than a number has are more than is allowed, too.
    let seconds = text.parse().unwrap_or(u64::MAX);
    Ok(Duration::from_secs(seconds).min(rules.longest_wait))
}

/// The value of a header that may be there once.
fn one(headers: &Headers, name: HeaderName) -> Result<Option<&str>, Fault> {
    let mut values = headers.get_all(&name);
    let first = values.next();
    if values.next().is_some() {
        return Err(Fault::new(Code::SessionHeader, Side::Client, format!("{name} is there more than once")));
    }
    match first.map(|value| value.to_str().map(str::trim)) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => {
            Err(Fault::new(Code::SessionHeader, Side::Client, format!("{name} is not plain text")))
        }
    }
}

const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const X_TYPE: HeaderName = HeaderName::from_static("x-type");
const X_PEER_ADDRESS: HeaderName = HeaderName::from_static("x-peer-address");
const X_TIMEOUT: HeaderName = HeaderName::from_static("x-timeout");

/// Every token that the cookies have: a browser may have those of several sessions.
fn tokens(headers: &Headers) -> Vec<Token> {
    let cookies = headers.get_all(header::COOKIE).filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let values = pairs.filter(|(name, _)| name.trim() == "token").map(|(_, value)| value.trim());
    let bare = |value: &'_ str| Token::said(value.trim_matches('"'));
    values.take(MOST_TOKENS).map(bare).collect()
}

fn invalid(detail: &'static str) -> Fault {
    Fault::new(Code::SessionHeader, Side::Client, detail)
}

const MOST_TOKENS: usize = 16;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn tokens_are_found_among_other_cookies_with_quotes_and_without() {
        let mut headers = Headers::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; token=\"one\"; xtoken=no"));
        headers.append(header::COOKIE, HeaderValue::from_static("token=two"));
        let found: Vec<_> = tokens(&headers).iter().map(|token| token.reveal().to_owned()).collect();
        assert_eq!(found, ["one", "two"]);
    }

    #[test]
    fn a_timeout_is_whole_seconds_and_not_more_than_is_allowed() {
        let rules = Rules {
            at: "/s".parse().unwrap(),
            wait: Duration::from_secs(60),
            longest_wait: Duration::from_secs(600),
            origins: Vec::new(),
        };
        let waits = |text: &'static str| {
            let mut headers = Headers::new();
            headers.insert(X_TIMEOUT, HeaderValue::from_static(text));
            wait(&rules, &headers).map(|wait| wait.as_secs())
        };
        assert_eq!(wait(&rules, &Headers::new()).unwrap().as_secs(), 60);
        assert_eq!((waits("0"), waits("30")), (Ok(0), Ok(30)));
        assert_eq!((waits("601"), waits("99999999999999999999999")), (Ok(600), Ok(600)));
        for bad in ["", "-1", "+1", "1.5", "1s", "a"] {
            assert_eq!(waits(bad).unwrap_err().code, Code::SessionHeader, "{bad}");
        }
    }
}
