//! Header rules: what may cross a proxy and what a proxy adds (RFC 9110 §7.6, RFC 7239).

use std::{fmt, net::IpAddr};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Version, header, header::InvalidHeaderName};

mod callers;
mod credentials;
mod hops;
mod introduction;
mod list;
pub mod trailers;

pub use callers::FieldRules;
pub use credentials::Credentials;
pub use hops::{has_option, protocols, times_passed};
pub use introduction::Introduction;
pub use list::Headers;

use hops::{add_via, leave_out};
use introduction::Introduced;

/// Headers that this file adds to a request.
const ADDED: usize = 5;
/// Names up to this length are looked up in any case.
const LONG_NAME: usize = 64;

/// What tells a server that a request is one that it had before.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Who talks to the client agent, as far as it can be believed.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The other end of the connection.
    pub peer: Peer,
    /// Whether that is a trusted proxy, whose own `Forwarded` headers are kept.
    pub trusted: bool,
    /// Whether header names with `_` pass on, whoever sends them.
    pub underscores: bool,
    /// Whether the caller used TLS.
    pub tls: bool,
    /// The HTTP version the caller spoke.
    pub version: Version,
    /// How it is introduced to origins.
    pub introduction: Introduction,
}

/// The other end of a caller's connection: a node of RFC 7239 §6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// It has this address.
    Address(IpAddr),
    /// It has none, or none that is told: a UNIX socket.
    Unknown,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Address(address) => address.fmt(f),
            Peer::Unknown => f.write_str("unknown"),
        }
    }
}

/// The header name `text`. Names that come with every request are known by sight, in lower case: to look each
/// letter up and to keep those that `http` does not know costs several times as much.
///
/// # Errors
/// When it is not a token.
pub fn name(text: &[u8]) -> Result<HeaderName, InvalidHeaderName> {
    Ok(match text {
        b"host" => header::HOST,
        b"accept" => header::ACCEPT,
        b"accept-encoding" => header::ACCEPT_ENCODING,
        b"accept-language" => header::ACCEPT_LANGUAGE,
        b"authorization" => header::AUTHORIZATION,
        b"cache-control" => header::CACHE_CONTROL,
        b"connection" => header::CONNECTION,
        b"content-length" => header::CONTENT_LENGTH,
        b"content-type" => header::CONTENT_TYPE,
        b"cookie" => header::COOKIE,
        b"date" => header::DATE,
        b"etag" => header::ETAG,
        b"forwarded" => header::FORWARDED,
        b"last-modified" => header::LAST_MODIFIED,
        b"server" => header::SERVER,
        b"user-agent" => header::USER_AGENT,
        b"vary" => header::VARY,
        b"via" => header::VIA,
        b"x-forwarded-for" => X_FORWARDED_FOR,
        b"x-forwarded-host" => X_FORWARDED_HOST,
        b"x-forwarded-proto" => X_FORWARDED_PROTO,
        other => HeaderName::from_bytes(other)?,
    })
}

/// The name of a header, in whatever case.
///
/// # Errors
/// When it is not a token.
pub fn name_in_any_case(text: &[u8]) -> Result<HeaderName, InvalidHeaderName> {
    let mut lower = [0; LONG_NAME];
    let Some(known) = lower.get_mut(..text.len()) else { return HeaderName::from_bytes(text) };
    known.copy_from_slice(text);
    // All of the room: its length is known to the compiler, which needs a few vectors for it.
    lower.make_ascii_lowercase();
    name(&lower[..text.len()])
}

/// The headers of a request that may pass on.
pub fn for_origin(headers: Headers, caller: &Caller) -> Headers {
    let mut kept = headers;
    let rules = caller.rules();
    // An expectation is met here, where the body is read.
    leave_out(&mut kept, |name| *name == header::EXPECT || !rules.pass(name), |name| rules.pass(name));
    kept.reserve(ADDED);
    add_forwarding(&mut kept, caller);
    add_via(&mut kept, caller.version);
    kept
}

/// The headers that tell an origin whose request it is and by which way it came: those of [`for_origin`], without the
/// rest. For requests that are sent on behalf of this one.
pub fn introduction(headers: Headers, caller: &Caller) -> Headers {
    let mut kept = for_origin(headers, caller);
    kept.retain(|name, _| *name == header::VIA || !callers::is_anyones(name));
    kept
}

/// Says of a body that it is empty, where nothing says how long it is: an origin may insist on hearing it (RFC 9110 §8.6,
/// RFC 9112 §6.3). For requests that came with a body, or that are expected to have one.
pub fn declare_empty(headers: &mut Headers) {
    headers.set_default(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
}

/// Whether requests by this method are expected to have a body.
pub fn is_with_content(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Tells the origin what was stripped from the front of the path. A proxy in front may have stripped some, too.
pub fn add_prefix(headers: &mut Headers, stripped: HeaderValue) {
    let before = headers.get(X_FORWARDED_PREFIX).map(HeaderValue::as_bytes).unwrap_or_default();
    let whole = [before.strip_suffix(b"/").unwrap_or(before), stripped.as_bytes()].concat();
    if let Ok(whole) = HeaderValue::from_maybe_shared(Bytes::from(whole)) {
        headers.insert(X_FORWARDED_PREFIX, whole);
    }
}

/// What of a caller's headers an origin sees, before the relay adds its own: for whoever answers in an origin's place.
pub fn seen_by_origin(headers: &mut Headers, caller: &Caller) {
    let rules = caller.rules();
    let takes_trailers = wants_trailers(headers);
    leave_out(headers, |name| !rules.pass(name), |name| rules.pass(name));
    if takes_trailers {
        headers.append(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// The headers of a response that may pass on; of the announced trailers, those that `follow`.
pub fn for_caller(
    headers: Headers,
    origin_version: Version,
    follow: impl Fn(&HeaderName) -> bool,
) -> Headers {
    let mut kept = headers;
    leave_out(&mut kept, |_| false, follow);
    add_via(&mut kept, origin_version);
    kept
}

/// Whether a name is one by which relay itself tells callers something: no origin may tell it.
fn is_relays_own(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-relay-")
}

/// Sets a header, unless the value is none that can be set.
pub fn set(headers: &mut Headers, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Whether the caller can take trailers: the one thing in `TE` that is meant for the origin as well.
pub fn wants_trailers(headers: &Headers) -> bool {
    headers.get_all(header::TE).any(|value| has_word(value.as_bytes(), "trailers"))
}

/// Whether it is gRPC, whose streams may be silent for as long as they like.
pub fn is_grpc(headers: &Headers) -> bool {
    let content = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    content.is_some_and(|content| content.starts_with(b"application/grpc"))
}

/// Whether `list`, whose elements are separated by commas, has `word`, in whatever case.
pub fn has_word(list: &[u8], word: &str) -> bool {
    list.split(|&byte| byte == b',').any(|told| told.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// The address of whoever is behind the trusted proxies that a request came through: the last of
/// `X-Forwarded-For` or of `Forwarded` that is not one of them. None when nobody says, or two say different
/// things: what a proxy does not set itself may be the caller's.
pub fn behind_proxies(headers: &Headers, peer: Peer, trusts: impl Fn(Peer) -> bool) -> Option<IpAddr> {
    let told = |name: &HeaderName, read: fn(&str) -> Option<IpAddr>| {
        if !headers.contains_key(name) {
            return None;
        }
        let values: Option<Vec<&str>> = headers.get_all(name).map(|value| value.to_str().ok()).collect();
        let hops: Option<Vec<IpAddr>> =
            values.map(|values| values.join(",")).and_then(|all| all.split(',').map(read).collect());
        let hops = hops.unwrap_or_default();
        let stranger = hops.iter().rev().find(|hop| !trusts(Peer::Address(**hop)));
        Some(stranger.or(hops.first()).copied())
    };
    let plain = told(&X_FORWARDED_FOR, |hop| node(hop.trim()));
    let standard = told(&header::FORWARDED, |element| {
        let pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
        let mut nodes = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("for"));
        nodes.next().and_then(|(_, node_of)| node(node_of.trim_matches('"')))
    });
    match (plain, standard, peer) {
        (None, None, Peer::Address(address)) => Some(address),
        (None, None, Peer::Unknown) => None,
        (Some(told), None, _) | (None, Some(told), _) => told,
        (Some(plain), Some(standard), _) => plain.filter(|_| plain == standard),
    }
}

/// The address of the caller, behind the trusted proxies that its request came through.
pub fn address_of(caller: &Caller, headers: &Headers, trusts: impl Fn(Peer) -> bool) -> Option<IpAddr> {
    match caller.peer {
        peer if caller.trusted => behind_proxies(headers, peer, trusts),
        Peer::Address(address) => Some(address),
        Peer::Unknown => None,
    }
}

/// The address of a node (RFC 7239 §6), with a port or without.
fn node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(text, |(bare, _)| bare);
    let address = bare.parse().or_else(|_| text.parse::<std::net::SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// Whether a proxy says that its caller uses TLS.
pub fn used_tls(headers: &Headers) -> bool {
    headers.get(X_FORWARDED_PROTO).is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// What passes on of what an origin says: everything but hop-by-hop headers and `X-Relay-*`, which are the relay's to set.
pub fn end_to_end(mut headers: Headers) -> Headers {
    leave_out(&mut headers, is_relays_own, |_| true);
    headers
}

/// `Forwarded` (RFC 7239) and its older relatives. What a trusted proxy said is continued; for
/// anybody else it starts here.
fn add_forwarding(headers: &mut Headers, caller: &Caller) {
    let host = headers.get(header::HOST).cloned();
    let scheme = if caller.tls { "https" } else { "http" };
    let Introduced { element, address } = caller.introduction.of(caller.peer, scheme, host.as_ref());
    append_to_list(headers, header::FORWARDED, element);
    append_to_list(headers, X_FORWARDED_FOR, address);
    headers.set_default(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if let Some(host) = host {
        headers.set_default(X_FORWARDED_HOST, host);
    }
}

/// The addresses that a request came by.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme the caller used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The host the caller asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Adds an element to a comma-separated list, in one line with what is there.
fn append_to_list(headers: &mut Headers, name: HeaderName, element: HeaderValue) {
    if !headers.contains_key(&name) {
        return headers.append(name, element);
    }
    let mut list: Vec<&[u8]> = headers.get_all(&name).map(HeaderValue::as_bytes).collect();
    list.push(element.as_bytes());
    if let Some(list) = value(list.join(&b", "[..])) {
        headers.insert(name, list);
    }
}

/// It can't be refused: it is of names, addresses and what was a value already.
fn value(text: impl Into<Bytes>) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(text.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_behind_proxies_is_the_last_that_is_none_of_them() {
        let proxy: IpAddr = "10.0.0.1".parse().unwrap();
        let at = |pairs: &[(&'static str, &str)]| {
            let mut headers = Headers::new();
            for (name, value) in pairs {
                headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
            }
            let trusts =
                |peer| matches!(peer, Peer::Address(IpAddr::V4(address)) if address.octets()[0] == 10);
            behind_proxies(&headers, Peer::Address(proxy), trusts).map(|address| address.to_string())
        };
        let is = |address: &str| Some(address.to_owned());
        assert_eq!(at(&[]), is("10.0.0.1"));
        assert_eq!(at(&[("x-forwarded-for", "6.6.6.6, 192.0.2.7, 10.0.0.2")]), is("192.0.2.7"));
        assert_eq!(at(&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.7")]), is("192.0.2.7"));
        assert_eq!(
            at(&[("forwarded", "for=6.6.6.6, for=\"[2001:db8::1]:80\";proto=https")]),
            is("2001:db8::1")
        );
        assert_eq!(
            at(&[("forwarded", "for=192.0.2.7"), ("x-forwarded-for", "192.0.2.7:99")]),
            is("192.0.2.7")
        );
        assert_eq!(at(&[("forwarded", "for=192.0.2.7"), ("x-forwarded-for", "192.0.2.8")]), None);
        assert_eq!(at(&[("forwarded", "for=unknown")]), None);
        assert_eq!(at(&[("x-forwarded-for", "192.0.2.7, nonsense")]), None, "nobody's word");
    }

    #[test]
    fn hop_by_hop_headers_and_those_connection_names_are_left_out() {
        let kept = for_origin(
            map(&[
                ("host", "a.example"),
                ("connection", "close, X-Secret, host"),
                ("x-secret", "1"),
                ("keep-alive", "5"),
                ("te", "trailers"),
                ("upgrade", "h2c"),
                ("proxy-authorization", "Basic x"),
                ("accept", "*/*"),
            ]),
            &stranger(),
        );
        assert_eq!(
            names(&kept),
            [
                "host",
                "accept",
                "forwarded",
                "x-forwarded-for",
                "x-forwarded-proto",
                "x-forwarded-host",
                "via"
            ]
        );
    }

    #[test]
    fn a_name_known_by_sight_is_that_name() {
        let source = include_str!("headers.rs");
        let (_, names) = source.split_once("pub fn name(").unwrap();
        let (names, _) = names.split_once("other =>").unwrap();
        let names: Vec<&str> = names.split("b\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(names.len() > 10);
        for text in names.into_iter().chain(["x-other", "Host"]) {
            assert_eq!(name(text.as_bytes()).unwrap(), text.parse::<HeaderName>().unwrap());
        }
        assert!(name(b"no name").is_err());
    }

    #[test]
    fn a_stranger_cannot_say_where_he_comes_from() {
        let kept = for_origin(
            map(&[
                ("host", "a.example:8000"),
                ("x-forwarded-for", "6.6.6.6"),
                ("x-real-ip", "6.6.6.6"),
                ("forwarded", "for=6.6.6.6"),
                ("x-relay-secret", "1"),
            ]),
            &stranger(),
        );
        assert_eq!(kept["x-forwarded-for"], "192.0.2.7");
        assert_eq!(kept["forwarded"], "for=192.0.2.7;proto=http;host=\"a.example:8000\"");
        assert!(!kept.contains_key("x-real-ip"));
        assert!(!kept.contains_key("x-relay-secret"));
    }

    #[test]
    fn an_address_of_ipv6_is_written_as_usual() {
        let caller = Caller { peer: Peer::Address("2001:db8::7".parse().unwrap()), ..stranger() };
        let kept = for_origin(map(&[("host", "inner")]), &caller);
        assert_eq!(kept["forwarded"], "for=\"[2001:db8::7]\";proto=http;host=inner");
        assert_eq!(kept["x-forwarded-for"], "2001:db8::7");
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_continued() {
        let caller = Caller { trusted: true, ..stranger() };
        let kept = for_origin(
            map(&[
                ("host", "inner"),
                ("x-forwarded-for", "203.0.113.9"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "shop.example"),
                ("forwarded", "for=203.0.113.9;proto=https"),
            ]),
            &caller,
        );
        assert_eq!(kept["x-forwarded-for"], "203.0.113.9, 192.0.2.7");
        assert_eq!(kept["x-forwarded-proto"], "https");
        assert_eq!(kept["x-forwarded-host"], "shop.example");
        assert_eq!(kept["forwarded"], "for=203.0.113.9;proto=https, for=192.0.2.7;proto=http;host=inner");
    }

    #[test]
    fn a_caller_without_an_address_is_unknown_and_tls_is_told() {
        let caller = Caller { peer: Peer::Unknown, tls: true, ..stranger() };
        let kept = for_origin(map(&[("host", "a.example")]), &caller);
        assert_eq!(kept["forwarded"], "for=unknown;proto=https;host=a.example");
        assert_eq!(kept["x-forwarded-for"], "unknown");
        assert_eq!(kept["x-forwarded-proto"], "https");
        let caller = Caller { peer: Peer::Address("2001:db8::1".parse().unwrap()), ..stranger() };
        let kept = for_origin(map(&[("host", "a.example")]), &caller);
        assert_eq!(kept["forwarded"], "for=\"[2001:db8::1]\";proto=http;host=a.example");
    }

    #[test]
    fn repeated_headers_stay_apart_and_in_order() {
        let kept = for_caller(
            map(&[
                ("set-cookie", "a=1"),
                ("connection", "close"),
                ("set-cookie", "b=2"),
                ("via", "1.0 other"),
            ]),
            Version::HTTP_11,
            |_| true,
        );
        let cookies: Vec<_> = kept.get_all("set-cookie").collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        assert_eq!(kept["via"], "1.0 other, 1.1 relay");
    }

    #[test]
    fn an_origin_does_not_speak_for_the_relay() {
        let pairs =
            [("x-relay-id", "a"), ("x-relay-job", "done"), ("x-relay-anything", "1"), ("x-relayed", "2")];
        assert_eq!(names(&end_to_end(map(&pairs))), ["x-relayed"]);
    }

    fn stranger() -> Caller {
        Caller {
            peer: Peer::Address("192.0.2.7".parse().unwrap()),
            trusted: false,
            underscores: false,
            tls: false,
            version: Version::HTTP_11,
            introduction: Introduction::default(),
        }
    }

    fn map(pairs: &[(&'static str, &'static str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn names(headers: &Headers) -> Vec<&str> {
        headers.keys().map(HeaderName::as_str).collect()
    }
}
