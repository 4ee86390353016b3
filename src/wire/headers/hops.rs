//! What concerns one hop of a message alone, and what tells which hops it has passed (RFC 9110 §7.6).

use std::collections::HashSet;

use http::{HeaderName, HeaderValue, Version, header};

use super::{Headers, append_to_list, callers, has_word, trailers, value};

/// Headers that concern one connection only (RFC 9110 §7.6.1), besides those that `Connection` names.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    match *name {
        header::CONNECTION
        | header::PROXY_AUTHENTICATE
        | header::PROXY_AUTHORIZATION
        | header::TE
        | header::TRANSFER_ENCODING
        | header::UPGRADE => true,
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings"),
    }
}

/// Leaves out hop-by-hop headers and those that `drop` names. Of trailers, those are announced that may be sent and that
/// `follow`.
pub(super) fn leave_out(
    headers: &mut Headers,
    drop: impl Fn(&HeaderName) -> bool,
    follow: impl Fn(&HeaderName) -> bool,
) {
    let named = connection_options(headers);
    // Few are compared sooner than looked up; many would be compared with every header.
    let many: HashSet<&HeaderName> = if named.len() > FEW { named.iter().collect() } else { HashSet::new() };
    let is_named =
        |name: &HeaderName| if named.len() > FEW { many.contains(name) } else { named.contains(name) };
    let mut announces = false;
    headers.retain(|name, _| {
        announces |= *name == header::TRAILER;
        !(is_hop_by_hop(name) || is_named(name) || drop(name))
    });
    if announces {
        trailers::announce(headers, |name| trailers::may_trail(name) && follow(name));
    }
}

/// As many names are compared one by one.
const FEW: usize = 16;

fn connection_options(headers: &Headers) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .flat_map(|value| value.as_bytes().split(|&b| b == b','))
        .filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok())
        .filter(|name| !stays(name))
        .collect()
}

/// Whether a header stays although `Connection` names it: `host` must not cost the origin its Host nor `content-length`
/// the framing, and what tells who a caller is and where a request has been is not the caller's to take away.
fn stays(name: &HeaderName) -> bool {
    matches!(*name, header::HOST | header::CONTENT_LENGTH | header::VIA) || !callers::is_anyones(name)
}

/// Whether `Connection` names `option`.
pub fn has_option(headers: &Headers, option: &str) -> bool {
    headers.get_all(header::CONNECTION).any(|value| has_word(value.as_bytes(), option))
}

/// The protocols that a request may change to, of those it asks for; nothing when it asks for none of them, or not of this
/// hop. HTTP in any version is not one of them, nor is TLS: what is asked for over it would be seen by nobody here.
/// Whoever speaks HTTP/2 here says so from the start (RFC 9113 §3.1).
pub fn protocols(headers: &Headers) -> Option<HeaderValue> {
    if !has_option(headers, "upgrade") {
        return None;
    }
    let all = headers.get_all(header::UPGRADE).flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    let relayed: Vec<&[u8]> = all.map(<[u8]>::trim_ascii).filter(|protocol| is_relayed(protocol)).collect();
    if relayed.is_empty() { None } else { value(relayed.join(&b", "[..])) }
}

/// Whether a request may change to this protocol, a token with a version or without (RFC 9110 §7.8).
fn is_relayed(protocol: &[u8]) -> bool {
    let mut words = protocol.splitn(2, |&byte| byte == b'/');
    let name = words.next().unwrap_or_default().to_ascii_lowercase();
    let is_token = |word: &[u8]| HeaderName::from_bytes(word).is_ok();
    let is_http = [&b"h2"[..], b"h3", b"http", b"tls", b"ssl"].iter().any(|start| name.starts_with(start));
    is_token(&name) && words.all(is_token) && !is_http
}

/// Adds the version that the message came by, and our pseudonym.
pub(super) fn add_via(headers: &mut Headers, version: Version) {
    append_to_list(
        headers,
        header::VIA,
        HeaderValue::from_static(match version {
            Version::HTTP_09 => "0.9 relay",
            Version::HTTP_10 => "1.0 relay",
            Version::HTTP_2 => "2 relay",
            Version::HTTP_3 => "3 relay",
            _ => "1.1 relay",
        }),
    );
}

/// How often a request with this `Via` has passed a relay. Comments are not told apart: a caller could hide in one what is
/// added behind it.
pub fn times_passed(via: &HeaderValue) -> usize {
    let hops = via.as_bytes().split(|&byte| byte == b',');
    let received_by =
        hops.filter_map(|hop| hop.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(1));
    received_by.filter(|by| by.eq_ignore_ascii_case(b"relay")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> Headers {
        let of = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        pairs.iter().map(of).collect()
    }

    #[test]
    fn connection_cannot_take_away_where_a_request_comes_from() {
        let mut kept = headers(&[
            ("connection", "via, x-forwarded-for, X_Real_IP, forwarded, host, content-length, x-other"),
            ("via", "1.1 relay"),
            ("x-forwarded-for", "1"),
            ("x_real_ip", "2"),
            ("forwarded", "3"),
            ("host", "4"),
            ("content-length", "5"),
            ("x-other", "6"),
        ]);
        leave_out(&mut kept, |_| false, |_| true);
        let names: Vec<_> = kept.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["via", "x-forwarded-for", "x_real_ip", "forwarded", "host", "content-length"]);
    }

    #[test]
    fn of_the_protocols_that_are_asked_for_those_are_left_that_are_not_http() {
        let asked = |upgrade: &[&'static str]| {
            let mut all = headers(&[("connection", "keep-alive, Upgrade")]);
            upgrade.iter().for_each(|value| all.append(header::UPGRADE, HeaderValue::from_static(value)));
            protocols(&all).map(|value| value.to_str().unwrap().to_owned())
        };
        for (upgrade, left) in [
            (&["websocket"][..], Some("websocket")),
            (&["foo, h2c"], Some("foo")),
            (&["foo,h2c ,\tbar/1.0"], Some("foo, bar/1.0")),
            (&["foo", "h2c"], Some("foo")),
            (&["h2c", "websocket"], Some("websocket")),
            (&["h2c"], None),
            (&["H2C"], None),
            (&["h2c, h2"], None),
            (&["h2c/1"], None),
            (&["h2c-14, HTTP/2.0, http/1.1, TLS/1.3"], None),
            (&["\"h2c\", h2c;q=1, a b"], None),
            (&[",", ""], None),
        ] {
            assert_eq!(asked(upgrade).as_deref(), left, "{upgrade:?}");
        }
        assert_eq!(protocols(&headers(&[("upgrade", "websocket")])), None, "it is for another hop");
    }

    #[test]
    fn passes_are_counted_whatever_stands_beside_them() {
        for (via, passes) in [
            ("1.1 relay", 1),
            ("1.1 relay, 2 relay (v1, x), 1.0 other,1.1 Relay", 3),
            ("1.1 other (, 1.1 relay", 1),
            ("1.1 other \", 1.1   relay", 1),
            ("1.1 relayed, relay, 1.1 other relay", 0),
        ] {
            assert_eq!(times_passed(&HeaderValue::from_static(via)), passes, "{via}");
        }
    }
}
