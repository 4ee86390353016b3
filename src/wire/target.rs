//! An absolute URL of an outside host, taken apart once: what is allowed, what is dialled and what is asked for in
//! TLS are all read from the same value.
//!
//! Only what every parser reads alike is taken: ASCII, a host that is a name or an address in its usual form, no
//! user info, no fragment. [`super::allow`] decides on it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::route::{is_host_name, normal_host};

/// An `http` or `https` URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    scheme: Scheme,
    host: Host,
    port: u16,
    path_and_query: String,
}

/// The scheme of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

/// The host of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A name, in lower case and without its final dot.
    Name(Arc<str>),
    /// An address.
    Ip(IpAddr),
}

/// Why a text is no URL that is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// It is too long.
    #[error("a URL has at most {MAX_URL} bytes")]
    Long,
    /// It has a character that no URL has.
    #[error(
        "a URL has no spaces, no control characters, no \\ and none of \"<>^`{{|}}; write others escaped"
    )]
    Character,
    /// It is not absolute, or for another protocol.
    #[error("write the whole URL, http://HOST or https://HOST")]
    Scheme,
    /// It has a user.
    #[error("a URL has no user name and no password here")]
    UserInfo,
    /// It has a fragment.
    #[error("a URL has no fragment here: leave out the #")]
    Fragment,
    /// Its host is none.
    #[error(
        "a host is a name of letters, digits, - and _ with dots between, an IPv4 address, or an IPv6 address in brackets; write other alphabets as xn--…"
    )]
    Host,
    /// Its host is a number that some read as an address.
    #[error("write an IPv4 address as four decimal numbers")]
    Number,
    /// Its port is none.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// There is something behind the host.
    #[error("write SCHEME://HOST[:PORT], without a path")]
    Path,
}

/// Bytes of a URL at most.
pub const MAX_URL: usize = 16 * 1024;

impl Target {
    /// Takes an absolute URL apart.
    ///
    /// # Errors
    /// When it is none, or one that somebody could read in another way.
    pub fn parse(url: &str) -> Result<Self, InvalidTarget> {
        let (scheme, rest) = split_scheme(url)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = split_port(scheme, authority)?;
        let path_and_query = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Target { scheme, host: Host::parse(host)?, port, path_and_query })
    }

    /// Its scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Its host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its port, which may be the scheme's own.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What is asked for there; begins with `/`.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// Host and port as the `Host` header has them: without the scheme's own port.
    pub fn authority(&self) -> String {
        authority(self.scheme, &self.host, self.port)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority(), self.path_and_query)
    }
}

impl Scheme {
    /// The port of a URL that names none.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        })
    }
}

impl Host {
    /// Reads the host of a URL.
    ///
    /// # Errors
    /// When it is none, or a number that some resolvers take for an address (`2130706433`, `0x7f.1`, `127.1`).
    pub(super) fn parse(text: &str) -> Result<Self, InvalidTarget> {
        if let Some(rest) = text.strip_prefix('[') {
            let address = rest.strip_suffix(']').and_then(|inside| inside.parse::<Ipv6Addr>().ok());
            return address.map(|address| Host::Ip(address.into())).ok_or(InvalidTarget::Host);
        }
        // Its port is taken off already; what is left of a second one would be, too.
        if text.contains(':') {
            return Err(InvalidTarget::Host);
        }
        let host = normal_host(text);
        if ends_in_a_number(&host) {
            let address = host.parse::<Ipv4Addr>();
            return address.map(|address| Host::Ip(address.into())).map_err(|_| InvalidTarget::Number);
        }
        if is_host_name(&host) { Ok(Host::Name(host.into())) } else { Err(InvalidTarget::Host) }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Ip(IpAddr::V4(address)) => address.fmt(f),
            Host::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// The scheme of a URL whose characters are all right, and what follows `://`.
pub(super) fn split_scheme(url: &str) -> Result<(Scheme, &str), InvalidTarget> {
    if url.len() > MAX_URL {
        return Err(InvalidTarget::Long);
    }
    // Before everything else: where a host ends is another question with a `\` or a `#` in it.
    if !url.bytes().all(|byte| is_url_byte(byte) || byte == b'#') {
        return Err(InvalidTarget::Character);
    }
    if url.contains('#') {
        return Err(InvalidTarget::Fragment);
    }
    match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => Ok((Scheme::Http, rest)),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => Ok((Scheme::Https, rest)),
        Some(_) | None => Err(InvalidTarget::Scheme),
    }
}

/// The text of an authority's host, and its port.
pub(super) fn split_port(scheme: Scheme, authority: &str) -> Result<(&str, u16), InvalidTarget> {
    if authority.contains('@') {
        return Err(InvalidTarget::UserInfo);
    }
    // The colons of an IPv6 address stand in brackets.
    let colon = authority.rfind(':').filter(|&colon| !authority[colon..].contains(']'));
    let Some(colon) = colon else { return Ok((authority, scheme.default_port())) };
    let (host, port) = (&authority[..colon], &authority[colon + 1..]);
    // `parse` takes a sign.
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port @ 1..) if is_number => Ok((host, port)),
        Ok(_) | Err(_) => Err(InvalidTarget::Port),
    }
}

/// A host and a port, which is left out when it is the scheme's own.
pub(super) fn authority(scheme: Scheme, host: &impl fmt::Display, port: u16) -> String {
    if port == scheme.default_port() { host.to_string() } else { format!("{host}:{port}") }
}

/// What RFC 3986 §2 lets a URL have. Brackets are not right in a query, but usual there.
fn is_url_byte(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// Whether resolvers and browsers take a host for an IPv4 address in one of its many forms: by its last label.
fn ends_in_a_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    hex || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_has_one_canonical_text() {
        for (url, canonical) in [
            ("https://api.partner.com/a/b?c=d", "https://api.partner.com/a/b?c=d"),
            ("HTTPS://API.Partner.COM./", "https://api.partner.com/"),
            ("http://a", "http://a/"),
            ("http://a?x=/y", "http://a/?x=/y"),
            ("http://a:80/", "http://a/"),
            ("https://a:80/", "https://a:80/"),
            ("https://a:443", "https://a/"),
            ("http://127.0.0.1.:8080/x", "http://127.0.0.1:8080/x"),
            ("http://[::1]:8080/x", "http://[::1]:8080/x"),
            ("http://[0:0:0::1]/", "http://[::1]/"),
            ("http://[::FFFF:127.0.0.1]/", "http://[::ffff:127.0.0.1]/"),
            ("http://_dmarc.xn--bcher-kva.example/", "http://_dmarc.xn--bcher-kva.example/"),
            ("http://a//b/../c/%2e%2E?d?e[f]=@:g", "http://a//b/../c/%2e%2E?d?e[f]=@:g"),
            ("http://a/http://b@c/", "http://a/http://b@c/"),
            ("http://1.2.3.4.example/", "http://1.2.3.4.example/"),
        ] {
            let target = Target::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(target.to_string(), canonical, "{url}");
            assert_eq!(Target::parse(canonical), Ok(target), "{url}");
        }
        let target = Target::parse("https://[::1]:8443").unwrap();
        assert_eq!((target.scheme(), target.port(), target.path_and_query()), (Scheme::Https, 8443, "/"));
        assert_eq!(target.host(), &Host::Ip(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(target.authority(), "[::1]:8443");
    }

    #[test]
    fn what_somebody_could_read_in_another_way_is_refused() {
        let long = format!("http://a/{}", "x".repeat(MAX_URL));
        for (url, why) in [
            ("", InvalidTarget::Scheme),
            ("/path", InvalidTarget::Scheme),
            ("//allowed.com/", InvalidTarget::Scheme),
            ("allowed.com", InvalidTarget::Scheme),
            ("http:allowed.com", InvalidTarget::Scheme),
            ("http:/allowed.com", InvalidTarget::Scheme),
            ("ftp://allowed.com/", InvalidTarget::Scheme),
            ("xhttp://allowed.com/", InvalidTarget::Scheme),
            ("*", InvalidTarget::Scheme),
            ("http://", InvalidTarget::Host),
            ("http:///allowed.com", InvalidTarget::Host),
            ("http://?allowed.com", InvalidTarget::Host),
            ("http://allowed.com@evil", InvalidTarget::UserInfo),
            ("http://allowed.com:80@evil/", InvalidTarget::UserInfo),
            ("http://@allowed.com/", InvalidTarget::UserInfo),
            ("http://evil#.allowed.com", InvalidTarget::Fragment),
            ("http://allowed.com/#", InvalidTarget::Fragment),
            ("http://evil\\.allowed.com/", InvalidTarget::Character),
            ("http://evil\\@allowed.com/", InvalidTarget::Character),
            ("http:\\\\allowed.com\\", InvalidTarget::Character),
            (" http://allowed.com/", InvalidTarget::Character),
            ("http://allowed.com/ HTTP/1.1", InvalidTarget::Character),
            ("http://allowed.com/\r\nHost: evil", InvalidTarget::Character),
            ("http://allowed.com\0.evil/", InvalidTarget::Character),
            ("http://allowed.com/\x7f", InvalidTarget::Character),
            ("http://allowed.com\t/", InvalidTarget::Character),
            ("http://allowed\u{3002}com/", InvalidTarget::Character),
            ("http://\u{ff41}llowed.com/", InvalidTarget::Character),
            ("http://allowed.com%2eevil/", InvalidTarget::Host),
            ("http://evil%00.allowed.com/", InvalidTarget::Host),
            ("http://allowed.com../", InvalidTarget::Host),
            ("http://.allowed.com/", InvalidTarget::Host),
            ("http://./", InvalidTarget::Host),
            ("http://*.allowed.com/", InvalidTarget::Host),
            ("http://-a.allowed.com/", InvalidTarget::Host),
            ("http://a,b/", InvalidTarget::Host),
            ("http://2130706433/", InvalidTarget::Number),
            ("http://0x7f.1/", InvalidTarget::Number),
            ("http://0x7f000001/", InvalidTarget::Number),
            ("http://0X7F.0X1/", InvalidTarget::Number),
            ("http://127.1/", InvalidTarget::Number),
            ("http://127.0.0.01/", InvalidTarget::Number),
            ("http://0177.0.0.1/", InvalidTarget::Number),
            ("http://017700000001/", InvalidTarget::Number),
            ("http://127.0.0.1.1/", InvalidTarget::Number),
            ("http://127.0.0.256/", InvalidTarget::Number),
            ("http://a.1/", InvalidTarget::Number),
            ("http://a.0x/", InvalidTarget::Number),
            ("http://::1/", InvalidTarget::Host),
            ("http://[::1/", InvalidTarget::Host),
            ("http://::1]/", InvalidTarget::Host),
            ("http://[127.0.0.1]/", InvalidTarget::Host),
            ("http://[fe80::1%25eth0]/", InvalidTarget::Host),
            ("http://[::1]evil/", InvalidTarget::Host),
            ("http://[v1.a]/", InvalidTarget::Host),
            ("http://a:/", InvalidTarget::Port),
            ("http://a:0/", InvalidTarget::Port),
            ("http://a:+80/", InvalidTarget::Port),
            ("http://a:65536/", InvalidTarget::Port),
            ("http://a:80:80/", InvalidTarget::Host),
            ("http://a:8o/", InvalidTarget::Port),
            (&long, InvalidTarget::Long),
        ] {
            assert_eq!(Target::parse(url), Err(why), "{url:?}");
        }
    }

    #[test]
    fn what_is_asked_for_is_a_path_of_http() {
        let all: String = (0..=u8::MAX).filter(|&byte| is_url_byte(byte)).map(char::from).collect();
        let target = Target::parse(&format!("http://a/{all}?{all}")).unwrap();
        let path: Result<http::uri::PathAndQuery, _> = target.path_and_query().parse();
        assert_eq!(path.unwrap().as_str(), target.path_and_query());
    }
}
