//! When two requests are for the same thing: scheme, authority and target; then `Vary` (RFC 9111 §4.1).

use http::{HeaderName, HeaderValue, header};
use url::Url;

use crate::wire::{Headers, route::without_port};

/// `https://example.org/path?query`: the scheme and authority in lower case, without the scheme's own port, the
/// target as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    /// The key of a request; `None` when the authority is none.
    pub fn new(scheme: &str, authority: &str, target: &str) -> Option<Key> {
        let usable = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b'@' | b'?' | b'#');
        if authority.is_empty() || !authority.bytes().all(usable) || !target.starts_with('/') {
            return None;
        }
        let own = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
        let authority = authority.strip_suffix(own).or(authority.strip_suffix(':')).unwrap_or(authority);
        let mut key = String::with_capacity(scheme.len() + authority.len() + target.len() + 3);
        key.push_str(scheme);
        key.push_str("://");
        key.push_str(authority);
        key.make_ascii_lowercase();
        key.push_str(target);
        Some(Key(key))
    }

    /// The key that a URL names; `None` when it is none of HTTP's.
    pub fn parse(url: &str) -> Option<Key> {
        let (scheme, rest) = url.split_once("://")?;
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return None;
        }
        // A fragment is the caller's own.
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        match target.strip_prefix('/') {
            Some(_) => Key::new(scheme, authority, target),
            None => Key::new(scheme, authority, &format!("/{target}")),
        }
    }

    /// The key of what `reference` names on the same host, as a `Location` does (RFC 9111 §4.4).
    pub fn beside(&self, reference: &str) -> Option<Key> {
        let base = Url::parse(&self.0).ok()?;
        let named = base.join(reference).ok()?;
        let same = named.host_str() == base.host_str() && matches!(named.scheme(), "http" | "https");
        let authority = match named.port() {
            Some(port) => format!("{}:{port}", named.host_str()?),
            None => named.host_str()?.to_owned(),
        };
        let target = named.query().map_or(named.path().to_owned(), |query| [named.path(), query].join("?"));
        same.then(|| Key::new(named.scheme(), &authority, &target)).flatten()
    }

    /// The authority, as every request for the key is asked: an origin may answer with the spelling it was asked by.
    pub fn authority(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }

    /// The whole of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is at `host`; without a port, at any port.
    pub fn is_at(&self, host: &str) -> bool {
        let authority = self.authority();
        authority.eq_ignore_ascii_case(host) || without_port(authority).eq_ignore_ascii_case(host)
    }
}

/// The request headers that a response depends on, with the values they had.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vary(Box<[(HeaderName, Folded)]>);

/// A header's value as one list; none when there is no such header.
type Folded = Option<Box<[u8]>>;

impl Vary {
    /// What a response with these `headers` to a request with these `asked` depends on; `None` when on something
    /// that two requests do not share or that is not the caller's to say.
    pub fn of(headers: &Headers, asked: &Headers) -> Option<Vary> {
        let mut fields = Vec::new();
        for name in names(headers) {
            let name = HeaderName::from_bytes(name.trim_ascii()).ok().filter(|name| !is_ours(name))?;
            let known = fields.iter().any(|(other, _): &(HeaderName, _)| *other == name);
            if !known && !is_in_key(&name) {
                let value = folded(asked, &name);
                fields.push((name, value));
            }
        }
        (fields.len() <= MAX_FIELDS).then(|| Vary(fields.into()))
    }

    /// Whether a request with these headers gets the same.
    pub fn matches(&self, asked: &Headers) -> bool {
        self.0.iter().all(|(name, value)| folded(asked, name) == *value)
    }

    /// Whether two requests are the same, as far as this depends on them.
    pub fn same(&self, one: &Headers, other: &Headers) -> bool {
        self.0.iter().all(|(name, _)| folded(one, name) == folded(other, name))
    }

    /// Bytes it takes.
    pub fn size(&self) -> usize {
        let value = |value: &Folded| value.as_ref().map_or(0, |value| value.len());
        self.0.iter().map(|(name, v)| name.as_str().len() + value(v) + FIELD).sum()
    }
}

fn names(headers: &Headers) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(header::VARY);
    values.flat_map(|value| value.as_bytes().split(|&b| b == b',')).filter(|n| !n.trim_ascii().is_empty())
}

/// Names that say where a request came from and by which ways, which is different for each; and `*`.
fn is_ours(name: &HeaderName) -> bool {
    matches!(name.as_str(), "*" | "forwarded" | "via" | "x-forwarded-for" | "x-real-ip" | "x-forwarded-port")
}

/// What the key has already.
fn is_in_key(name: &HeaderName) -> bool {
    *name == header::HOST || matches!(name.as_str(), "x-forwarded-proto" | "x-forwarded-host")
}

/// A header's value as one list, however it was written.
fn folded(headers: &Headers, name: &HeaderName) -> Folded {
    let mut values = headers.get_all(name).map(HeaderValue::as_bytes).peekable();
    values.peek()?;
    let parts: Vec<&[u8]> =
        values.flat_map(|value| value.split(|&b| b == b',')).map(<[u8]>::trim_ascii).collect();
    Some(parts.join(&b","[..]).into())
}

/// Headers that a response may depend on.
const MAX_FIELDS: usize = 16;
/// What one takes besides its text.
const FIELD: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_depend_on_how_the_host_is_written() {
        let key = |scheme, host| Key::new(scheme, host, "/A?b").unwrap().0;
        assert_eq!(key("http", "Example.ORG:80"), "http://example.org/A?b");
        assert_eq!(key("HTTPS", "example.org:443"), "https://example.org/A?b");
        assert_eq!(key("https", "example.org:80"), "https://example.org:80/A?b");
        assert_eq!(key("http", "[::1]:80"), "http://[::1]/A?b");
        for bad in ["", "a/b", "u@h", "a b", "h?x"] {
            assert_eq!(Key::new("http", bad, "/"), None, "{bad}");
        }
        assert_eq!(Key::parse("HTTP://Example.org").unwrap().0, "http://example.org/");
        assert_eq!(Key::parse("http://example.org?x#y").unwrap().0, "http://example.org/?x");
        assert_eq!(Key::parse("ftp://example.org/"), None);
        assert_eq!(Key::parse("/path"), None);
    }

    #[test]
    fn a_reference_is_only_followed_on_the_same_host() {
        let key = Key::parse("http://a.example:8000/x/y?q").unwrap();
        for (reference, named) in [
            ("z", Some("http://a.example:8000/x/z")),
            ("/z?1", Some("http://a.example:8000/z?1")),
            ("../z", Some("http://a.example:8000/z")),
            ("//a.example/z", Some("http://a.example/z")),
            ("https://a.example/z#f", Some("https://a.example/z")),
            ("http://b.example/z", None),
            ("mailto:a@a.example", None),
        ] {
            assert_eq!(key.beside(reference).as_ref().map(Key::as_str), named, "{reference}");
        }
    }

    #[test]
    fn a_host_is_one_at_any_port_unless_a_port_is_named() {
        let at = |url: &str, host| Key::parse(url).unwrap().is_at(host);
        assert!(at("http://a.example/x", "A.example") && at("https://a.example:8443/", "a.example"));
        assert!(
            at("https://a.example:8443/", "a.example:8443") && !at("http://a.example/", "a.example:8443")
        );
        assert!(at("http://[::1]:8000/", "[::1]") && at("http://[::1]/", "[::1]"));
        assert!(
            !at("http://b.a.example/", "a.example") && !at("http://a.example.org/a.example", "a.example")
        );
    }

    #[test]
    fn what_a_response_varies_on_must_be_the_same() {
        let asked = map(&[("accept-encoding", "gzip,  br"), ("accept-language", "de")]);
        let vary =
            Vary::of(&map(&[("vary", "Accept-Encoding, X-Absent"), ("vary", "host")]), &asked).unwrap();
        assert!(vary.matches(&map(&[("accept-encoding", "gzip"), ("accept-encoding", "br")])));
        assert!(!vary.matches(&map(&[("accept-encoding", "br, gzip")])));
        assert!(!vary.matches(&map(&[])));
        assert!(!vary.matches(&map(&[("accept-encoding", "gzip, br"), ("x-absent", "")])));
        for never in ["*", "accept, *", "X-Forwarded-For", "a b"] {
            assert_eq!(Vary::of(&map(&[("vary", never)]), &asked), None, "{never}");
        }
        assert!(Vary::of(&map(&[("vary", ",")]), &asked).unwrap().matches(&map(&[("a", "b")])));
    }

    fn map(pairs: &[(&'static str, &'static str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }
}
