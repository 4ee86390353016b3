//! The first line of a request: its target, and those lines that httparse does not take (RFC 9112 sections 2.3 and 3).

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::Method;

use super::Refusal;
use crate::{
    front::message::Target,
    wire::{UnfitByte, authority::is_authority},
};

/// What the target of a `method` request is for (RFC 9112 section 3.2).
///
/// # Errors
/// When it is none of the four forms, too long, or has a byte that none has.
pub fn target(method: &Method, target: Bytes) -> Result<Target, Refusal> {
    if target.len() > LONGEST_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    if let Some(unfit) = UnfitByte::first_of(&target) {
        return Err(Refusal::Unfit(unfit));
    }
    if target.starts_with(b"/") || target == "*" {
        return Ok(Target { url: Some(target.into()), authority: None });
    }
    let Some((scheme, rest)) = scheme(&target) else {
        // As CONNECT has it.
        let authority = String::from_utf8(target.into()).ok().filter(|text| is_authority(text.as_bytes()));
        return authority
            .map_or(Err(Refusal::Target), |authority| Ok(Target { url: None, authority: Some(authority) }));
    };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let authority = std::str::from_utf8(&rest[..end]).ok().filter(|authority| !authority.is_empty());
    let authority = authority.ok_or(Refusal::Target)?.to_owned();
    let url = target.slice(target.len() - (rest.len() - end)..);
    let is_served = [&b"http"[..], b"https"].iter().any(|served| scheme.eq_ignore_ascii_case(served));
    let url = is_served.then(|| match url.first() {
        Some(b'/') => url.into(),
        // `http://a?b` has the path `/` (RFC 9112 section 3.2.1).
        Some(_) => Bytes::from([b"/", &url[..]].concat()).into(),
        // The last proxy that is told of a server itself asks it about itself (RFC 9112 section 3.2.4).
        None if *method == Method::OPTIONS => "*".into(),
        None => "/".into(),
    });
    Ok(Target { url, authority: Some(authority) })
}

/// The scheme of an absolute URL, and what follows its `://`.
fn scheme(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_of_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let end = target.iter().position(|byte| !is_of_scheme(byte))?;
    let rest = target[end..].strip_prefix(b"://")?;
    target[0].is_ascii_alphabetic().then_some((&target[..end], rest))
}

/// A head whose first line httparse does not take.
pub struct Unusual {
    /// The same with a line that it takes.
    pub head: Bytes,
    /// The target that the line has.
    pub target: Bytes,
}

/// Looks at the first line of a head that is not read for it: its target may have other bytes than UTF-8's, or its version
/// a minor number that is not known, which is read as the one that is (RFC 9110 section 2.5). None when more of the line
/// is to come.
///
/// # Errors
/// Why the line is none that is read.
#[cold]
pub fn unusual(head: &Bytes) -> Result<Option<Unusual>, Refusal> {
    let end = memchr::memchr(b'\n', head);
    let line = &head[..end.unwrap_or(head.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let method = memchr::memchr(b' ', line).ok_or(Refusal::Malformed)?;
    Method::from_bytes(&line[..method]).map_err(|_| Refusal::Malformed)?;
    let last = memchr::memrchr(b' ', line).unwrap_or(method);
    let whole = end.is_some();
    let is_version = |word: &[u8]| match word.get(..NAME.len()) {
        Some(start) => start.eq_ignore_ascii_case(NAME),
        None => !whole && NAME.starts_with(word),
    };
    let has_version = last > method && is_version(&line[last + 1..]);
    let target = method + 1..if has_version { last } else { line.len() };
    if let Some(unfit) = UnfitByte::first_of(&line[target.clone()]) {
        return Err(Refusal::Unfit(unfit));
    }
    let version = if has_version { last + 1..line.len() } else { line.len()..line.len() };
    let is_later = match &line[version.clone()] {
        b"HTTP/1.0" | b"HTTP/1.1" => false,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'] => true,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(Refusal::Version),
        begun if !whole && begun.len() < VERSION => return Ok(None),
        _ => return Err(Refusal::Malformed),
    };
    if !is_later && line[target.clone()].is_ascii() {
        return Err(Refusal::Malformed);
    }
    Ok(Some(Unusual { head: usual(head, target.clone(), version), target: head.slice(target) }))
}

/// A copy of `head` with a target of plain letters and a version that is known.
fn usual(head: &[u8], target: Range<usize>, version: Range<usize>) -> Bytes {
    let mut usual = BytesMut::from(head);
    usual[target].fill(b'x');
    if &usual[version.clone()] != b"HTTP/1.0" {
        usual[version].copy_from_slice(b"HTTP/1.1");
    }
    usual.freeze()
}

/// A target at most, in bytes.
const LONGEST_TARGET: usize = u16::MAX as usize - 1;
/// What a version begins with.
const NAME: &[u8] = b"HTTP/";
/// Bytes of a version.
const VERSION: usize = b"HTTP/1.1".len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_path_a_url_a_star_or_a_host() {
        for (text, url, authority) in [
            ("/", Some("/"), None),
            ("*", Some("*"), None),
            ("/a{b}|\"?c[d]", Some("/a{b}|\"?c[d]"), None),
            ("/<>`^\\?<>`^\\", Some("/<>`^\\?<>`^\\"), None),
            ("//h/p", Some("//h/p"), None),
            ("/\u{e4}", Some("/\u{e4}"), None),
            ("http://u@h:1/p?q", Some("/p?q"), Some("u@h:1")),
            ("HTTP://h/\u{e4}<", Some("/\u{e4}<"), Some("h")),
            ("https://h", Some("/"), Some("h")),
            ("http://h/", Some("/"), Some("h")),
            ("http://h?a=b", Some("/?a=b"), Some("h")),
            ("http://h?q=/", Some("/?q=/"), Some("h")),
            ("http://h?", Some("/?"), Some("h")),
            ("http://[::1]:80?x", Some("/?x"), Some("[::1]:80")),
            ("h:80", None, Some("h:80")),
            ("ftp://h/p", None, Some("h")),
        ] {
            let expected = Target { url: url.map(Into::into), authority: authority.map(str::to_owned) };
            assert_eq!(target(&Method::GET, text.into()), Ok(expected), "{text}");
        }
        for wrong in
            ["p/q", "?a", "http:/h", "http:///p", "http://?a", "1http://h/", "a?b=c://d", "h:80/", "h<"]
        {
            assert_eq!(target(&Method::GET, wrong.into()), Err(Refusal::Target), "{wrong}");
        }
        for fragment in ["/a#b", "/#", "/a?b#", "#", "http://h/#a", "http://h#", "*#", "/\u{e4}#"] {
            let unfit = UnfitByte::first_of(fragment.as_bytes()).unwrap();
            assert_eq!(target(&Method::GET, fragment.into()), Err(Refusal::Unfit(unfit)), "{fragment}");
        }
        let long = format!("/{}", "x".repeat(LONGEST_TARGET));
        assert_eq!(target(&Method::GET, long.into()), Err(Refusal::TargetTooLong));
    }

    #[test]
    fn options_of_a_url_without_a_path_are_about_the_server() {
        for (text, url) in
            [("http://h", "*"), ("http://h/", "/"), ("http://h?q", "/?q"), ("*", "*"), ("/", "/")]
        {
            let url = Some(url.into());
            assert_eq!(target(&Method::OPTIONS, text.into()).map(|target| target.url), Ok(url), "{text}");
        }
    }

    #[test]
    fn a_line_that_is_not_taken_says_why() {
        let why = |line: &'static [u8]| unusual(&Bytes::from_static(line)).err();
        for (line, before) in [
            (&b"GET /a b HTTP/1.1\r\n"[..], 2),
            (b"GET  / HTTP/1.1\r\n", 0),
            (b"GET /\xE4\t HTTP/1.1\r\n", 2),
            (b"GET /a\x01", 2),
            (b"GET /a\x7F HTTP/1.1\n", 2),
            (b"GET /\xE4#b HTTP/1.1\r\n", 2),
        ] {
            let unfit = UnfitByte::first_of(&line[4..]).map(Refusal::Unfit);
            assert_eq!(why(line), unfit);
            assert_eq!(
                UnfitByte::first_of(&line[4 + before..]),
                UnfitByte::first_of(&line[4 + before..][..1])
            );
        }
        for line in
            [&b"GET / HTTP/2.0\r\n"[..], b"GET / HTTP/0.9\r\n", b"GET /\xE4 HTTP/3.1\n", b"GET / HTTP/2.0"]
        {
            assert_eq!(why(line), Some(Refusal::Version));
        }
        for line in [
            &b"GET / http/1.1\r\n"[..],
            b"GET /\r\n",
            b"G(T / HTTP/1.2\r\n",
            b"GET / HTTP/1.10\r\n",
            b"GET / HTTP/11\r\n",
            b"GET / HTTP/1.1\r\n: x\r\n",
            b"\x16\x03\x01",
            b"",
        ] {
            assert_eq!(why(line), Some(Refusal::Malformed));
        }
        for begun in [&b"GET / HTTP/1"[..], b"GET /\xE4", b"GET /\xE4 HTT", b"GET / HTTP/2."] {
            assert!(unusual(&Bytes::from_static(begun)).unwrap().is_none());
        }
    }
}
