//! Fields after a body (RFC 9110 §6.5): which there may be, and which are announced.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{FieldRules, Headers, callers::is_anyones, hops::is_hop_by_hop};

/// Whether a field may come after a body: nothing that frames or routes a message, changes what is asked for, carries
/// credentials or tells how to read the body (RFC 9110 §6.5.1), nor what says who the caller is. Who merges trailers into
/// the header would take it for that.
pub fn may_trail(name: &HeaderName) -> bool {
    !is_hop_by_hop(name) && is_anyones(name) && !NEVER.contains(&name.as_str())
}

/// Leaves out what may not come after a body.
#[inline]
pub fn sift(mut trailers: HeaderMap) -> HeaderMap {
    // Nearly all messages have none.
    if !trailers.is_empty() {
        retain(&mut trailers, may_trail);
    }
    trailers
}

/// Leaves out what may not come after a request's body, from a caller that is believed so much.
#[inline]
pub fn of_caller(mut trailers: HeaderMap, rules: FieldRules) -> HeaderMap {
    if !trailers.is_empty() {
        retain(&mut trailers, |name| may_trail(name) && rules.pass(name));
    }
    trailers
}

fn retain(trailers: &mut HeaderMap, keep: impl Fn(&HeaderName) -> bool) {
    let gone: Vec<HeaderName> = trailers.keys().filter(|name| !keep(name)).cloned().collect();
    for name in gone {
        trailers.remove(name);
    }
}

/// Announces those of the trailers that are announced and that `keep` says yes to.
pub(super) fn announce(headers: &mut Headers, keep: impl Fn(&HeaderName) -> bool) {
    let announced = headers.get_all(header::TRAILER).flat_map(|value| names(value.as_bytes()));
    let kept: Vec<HeaderName> = announced.filter(keep).collect();
    headers.remove(header::TRAILER);
    if let Some(list) = list(&kept) {
        headers.append(header::TRAILER, list);
    }
}

/// The names in a list of them.
pub fn names(list: &[u8]) -> impl Iterator<Item = HeaderName> {
    list.split(|&byte| byte == b',').filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
}

/// A list of names, as `Trailer` has it; nothing when there are none.
pub fn list<'a>(names: impl IntoIterator<Item = &'a HeaderName>) -> Option<HeaderValue> {
    let names: Vec<&str> = names.into_iter().map(HeaderName::as_str).collect();
    if names.is_empty() { None } else { HeaderValue::from_str(&names.join(", ")).ok() }
}

/// What may not come after a body, besides what concerns one hop and what says who the caller is.
const NEVER: [&str; 38] = [
    "age",
    "authorization",
    "cache-control",
    "cdn-cache-control",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "location",
    "max-forwards",
    "pragma",
    "range",
    "retry-after",
    "set-cookie",
    "surrogate-control",
    "surrogate-key",
    "trailer",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-api-key",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-csrf-token",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_routes_or_vouches_for_a_message_does_not_come_after_it() {
        for name in [
            "content-length",
            "transfer-encoding",
            "host",
            "authorization",
            "cookie",
            "set-cookie",
            "trailer",
            "te",
            "via",
            "x-forwarded-for",
            "x_forwarded_for",
            "forwarded",
            "x-real-ip",
            "x-relay-id",
            "content_length",
            "expect",
            "range",
            "proxy-authorization",
            "keep-alive",
        ] {
            assert!(!may_trail(&name.parse().unwrap()), "{name}");
        }
        for name in ["etag", "server-timing", "grpc-status", "grpc-message", "x-checksum", "digest", "my_sum"]
        {
            assert!(may_trail(&name.parse().unwrap()), "{name}");
        }
    }
}
