//! Routes: which requests an upstream wants, by host and path.
//!
//! A route is `host`, `*.host`, `host/path` or `/path`. Hosts are compared without case and without port,
//! paths segment by segment. Every route has one canonical text and one way to stand in a subject, with the
//! host from its right end, so that NATS permissions can hold an agent to a domain.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Which requests an upstream wants.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    host: Host,
    /// Empty for every path, otherwise `/` and segments, without a slash at the end.
    path: Arc<str>,
}

/// Which hosts a route is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// Any.
    Any,
    /// This one.
    Exact(Arc<str>),
    /// Every host below this one, at any depth.
    Below(Arc<str>),
}

/// Why a text is no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoute {
    /// There is nothing in it.
    #[error("write HOST, *.HOST, HOST/PATH or /PATH")]
    Empty,
    /// The host names a port.
    #[error("ports do not matter: leave it out")]
    Port,
    /// The host is not a host name.
    #[error(
        "a host is labels of letters, digits, - and _ with dots between; write other alphabets as xn--…, and * only as the first label"
    )]
    Host,
    /// The path is not a path.
    #[error("a path is segments with one slash between, without ?, # and spaces, and without . and ..")]
    Path,
    /// The path has a wildcard.
    #[error("a path already covers everything below it: leave out the *")]
    Wildcard,
    /// It is too long.
    #[error("a route has at most {MAX_PATH} bytes and {MAX_SEGMENTS} segments of path")]
    Long,
}

/// Bytes of a route's path at most.
pub const MAX_PATH: usize = 512;
/// Segments of a route's path at most.
pub const MAX_SEGMENTS: usize = 16;
/// Bytes of a host name at most (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;

impl Route {
    /// Which hosts it is for.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its path: empty for every path, otherwise `/` and segments, without a slash at the end.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How many segments its path has.
    pub fn segments(&self) -> usize {
        self.path.matches('/').count()
    }

    /// Its tokens in a subject: the host's labels from the right (`+` for any), `/`, the path's segments, `/`.
    pub fn tokens(&self) -> String {
        let mut tokens = String::new();
        let mut push = |token: &str| {
            tokens.push_str(token);
            tokens.push('.');
        };
        match &self.host {
            Host::Any => push(ANY),
            Host::Exact(host) => host.rsplit('.').for_each(&mut push),
            Host::Below(host) => {
                host.rsplit('.').for_each(&mut push);
                push(ANY);
            }
        }
        push("/");
        for segment in self.path.split('/').skip(1) {
            push(&segment.replace('.', "%2E"));
        }
        tokens.push('/');
        tokens
    }
}

const ANY: &str = "+";

/// A host as routes have it: without port and final dot, in lower case.
pub fn normal_host(host: &str) -> Cow<'_, str> {
    let host = without_port(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// The host of an authority.
pub fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        // The colons of an IPv6 address stand in brackets.
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        Some(_) | None => authority,
    }
}

/// A path as routes have it (RFC 3986 §6.2.2): what need not be escaped is not, and escapes are upper case.
pub fn normal_path(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        normal.push_str(&rest[..at]);
        let hex = rest.get(at + 1..at + 3).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let escaped = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escaped {
            Some(byte) if is_unreserved(byte) && !completes_escape(&normal, byte) => {
                normal.push(char::from(byte))
            }
            Some(byte) => normal.push_str(&format!("%{byte:02X}")),
            None => {
                normal.push('%');
                rest = &rest[at + 1..];
                continue;
            }
        }
        rest = &rest[at + 3..];
    }
    normal.push_str(rest);
    Cow::Owned(normal)
}

/// Whether `byte` would make an escape of a `%` before it that is none: of `%2%65` there would be `%2e`.
fn completes_escape(before: &str, byte: u8) -> bool {
    let begun = match before.as_bytes() {
        [.., b'%'] => true,
        [.., b'%', digit] => digit.is_ascii_hexdigit(),
        _ => false,
    };
    begun && byte.is_ascii_hexdigit()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

impl FromStr for Route {
    type Err = InvalidRoute;

    fn from_str(text: &str) -> Result<Self, InvalidRoute> {
        if text.is_empty() {
            return Err(InvalidRoute::Empty);
        }
        let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        Ok(Route { host: parse_host(host)?, path: parse_path(path)?.into() })
    }
}

fn parse_host(text: &str) -> Result<Host, InvalidRoute> {
    if text.is_empty() {
        return Ok(Host::Any);
    }
    if text.contains(':') {
        return Err(InvalidRoute::Port);
    }
    let host = normal_host(text);
    let (below, host) = match host.strip_prefix("*.") {
        Some(host) => (true, host),
        None => (false, &*host),
    };
    if !is_host_name(host) {
        return Err(InvalidRoute::Host);
    }
    Ok(if below { Host::Below(host.into()) } else { Host::Exact(host.into()) })
}

/// Whether this is a host name, in ASCII and without final dot.
pub(super) fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| {
        let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        plain && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    host.len() <= MAX_HOST && host.split('.').all(is_label)
}

fn parse_path(text: &str) -> Result<String, InvalidRoute> {
    let path = text.strip_suffix('/').unwrap_or(text);
    if path.contains('*') {
        return Err(InvalidRoute::Wildcard);
    }
    let path = normal_path(path);
    if path.len() > MAX_PATH || path.matches('/').count() > MAX_SEGMENTS {
        return Err(InvalidRoute::Long);
    }
    let is_segment = |segment: &str| {
        let bytes = segment.as_bytes();
        let escaped =
            |at: usize| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let is_char = |(at, &byte): (usize, &u8)| match byte {
            b'%' => escaped(at),
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'+' | b',' | b';' | b'=' | b':' | b'@' => true,
            byte => is_unreserved(byte),
        };
        !segment.is_empty() && segment != "." && segment != ".." && bytes.iter().enumerate().all(is_char)
    };
    if !path.split('/').skip(1).all(is_segment) {
        return Err(InvalidRoute::Path);
    }
    Ok(path.into_owned())
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any if self.path.is_empty() => f.write_str("/"),
            Host::Any => f.write_str(&self.path),
            Host::Exact(host) => write!(f, "{host}{}", self.path),
            Host::Below(host) => write!(f, "*.{host}{}", self.path),
        }
    }
}

impl Serialize for Route {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(d)?;
        text.parse().map_err(|error| de::Error::custom(format_args!("not a route: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_one_canonical_text() {
        for (text, canonical) in [
            ("shop.example.com", "shop.example.com"),
            ("Shop.Example.COM.", "shop.example.com"),
            ("shop.example.com/", "shop.example.com"),
            ("*.Example.com", "*.example.com"),
            ("example.com/Shop/", "example.com/Shop"),
            ("example.com/%7euser/%2f", "example.com/~user/%2F"),
            ("/api/v1", "/api/v1"),
            ("/", "/"),
            ("localhost", "localhost"),
            ("192.0.2.1/x", "192.0.2.1/x"),
            ("_dmarc.example.com", "_dmarc.example.com"),
        ] {
            let route: Route = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(route.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse(), Ok(route), "{text}");
        }
    }

    #[test]
    fn what_is_no_route_is_refused_with_its_reason() {
        let long = format!("/{}", "a".repeat(MAX_PATH));
        let deep = "/a".repeat(MAX_SEGMENTS + 1);
        let label = format!("{}.example.com", "a".repeat(64));
        for (text, why) in [
            ("", InvalidRoute::Empty),
            ("example.com:80", InvalidRoute::Port),
            ("[::1]", InvalidRoute::Port),
            ("*", InvalidRoute::Host),
            ("a.*.example.com", InvalidRoute::Host),
            ("*.", InvalidRoute::Host),
            ("-a.example.com", InvalidRoute::Host),
            ("exa mple.com", InvalidRoute::Host),
            ("a..b", InvalidRoute::Host),
            ("bücher.example", InvalidRoute::Host),
            ("a.>.b", InvalidRoute::Host),
            (&label, InvalidRoute::Host),
            ("example.com//a", InvalidRoute::Path),
            ("/a/../b", InvalidRoute::Path),
            ("/a?b", InvalidRoute::Path),
            ("/a b", InvalidRoute::Path),
            ("/a%2", InvalidRoute::Path),
            ("/é", InvalidRoute::Path),
            ("/api/*", InvalidRoute::Wildcard),
            (&long, InvalidRoute::Long),
            (&deep, InvalidRoute::Long),
        ] {
            assert_eq!(text.parse::<Route>(), Err(why), "{text}");
        }
    }

    #[test]
    fn a_route_stands_in_a_subject_with_its_host_from_the_right() {
        for (text, tokens) in [
            ("shop.example.com", "com.example.shop././"),
            ("*.example.com", "com.example.+././"),
            ("example.com/v1.2/x", "com.example./.v1%2E2.x./"),
            ("/api", "+./.api./"),
            ("/", "+././"),
        ] {
            assert_eq!(text.parse::<Route>().unwrap().tokens(), tokens);
        }
    }

    #[test]
    fn a_caller_s_host_is_compared_without_case_port_and_final_dot() {
        for (host, normal) in [
            ("Example.com", "example.com"),
            ("example.com:8080", "example.com"),
            ("example.com.:80", "example.com"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(normal_host(host), normal);
        }
    }

    #[test]
    fn a_caller_s_path_is_compared_without_needless_escapes() {
        for (path, normal) in [
            ("/a/b", "/a/b"),
            ("/%61%2fb", "/a%2Fb"),
            ("/%zz%4", "/%zz%4"),
            ("/%2%65%%32e", "/%2%65%%32e"),
            ("/%2F%61%2%7e", "/%2Fa%2~"),
            ("/%C3%a9", "/%C3%A9"),
            ("/%é%+1", "/%é%+1"),
        ] {
            assert_eq!(normal_path(path), normal);
        }
    }
}
