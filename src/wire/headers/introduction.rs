//! How a caller is introduced to an origin.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::HeaderValue;

use super::Peer;
use crate::sync::Mutex;

/// What tells origins who is asking. Made once for a connection, and again when another host is asked for: it was a
/// tenth of the work on a small request.
#[derive(Debug, Clone, Default)]
pub struct Introduction(Arc<Mutex<Option<Known>>>);

#[derive(Debug)]
struct Known {
    host: Option<HeaderValue>,
    introduced: Introduced,
}

/// Values of headers.
#[derive(Debug, Clone)]
pub struct Introduced {
    /// An element of `Forwarded` (RFC 7239).
    pub element: HeaderValue,
    /// The address, as `X-Forwarded-For` has it.
    pub address: HeaderValue,
}

impl Introduction {
    /// The values for a request to `host` by `scheme` from `peer`, who is always the same.
    pub fn of(&self, peer: Peer, scheme: &str, host: Option<&HeaderValue>) -> Introduced {
        let mut known = self.0.lock();
        if let Some(known) = known.as_ref().filter(|known| known.host.as_ref() == host) {
            return known.introduced.clone();
        }
        let introduced =
            Introduced { element: element(peer, scheme, host), address: value(peer.to_string()) };
        // Of the host a copy: it is a slice of the whole request.
        let host = host.map(|host| HeaderValue::from_bytes(host.as_bytes()).unwrap_or_else(|_| host.clone()));
        known.insert(Known { host, introduced }).introduced.clone()
    }
}

fn element(peer: Peer, scheme: &str, host: Option<&HeaderValue>) -> HeaderValue {
    let mut element = match peer {
        Peer::Address(IpAddr::V6(address)) => format!("for=\"[{address}]\";proto={scheme}"),
        Peer::Address(IpAddr::V4(_)) | Peer::Unknown => format!("for={peer};proto={scheme}"),
    };
    if let Some(host) = host.and_then(|host| host.to_str().ok()) {
        element.push_str(";host=");
        push_quoted(&mut element, host);
    }
    value(element)
}

/// A `Forwarded` value: bare when it is a token, quoted otherwise (a port's colon is no token).
fn push_quoted(out: &mut String, value: &str) {
    if value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-') {
        out.push_str(value);
        return;
    }
    out.push('"');
    for c in value.chars() {
        if c == '"' || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

/// It can't be refused: it is of addresses and what was a value already.
fn value(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_another_host_is_introduced_anew() {
        let introduction = Introduction::default();
        let peer = Peer::Address("192.0.2.7".parse().unwrap());
        let of = |host: Option<&'static str>| {
            let host = host.map(HeaderValue::from_static);
            let Introduced { element, address } = introduction.of(peer, "http", host.as_ref());
            assert_eq!(address, "192.0.2.7");
            element
        };
        for _ in 0..2 {
            assert_eq!(of(Some("a.example")), "for=192.0.2.7;proto=http;host=a.example");
            assert_eq!(of(Some("b.example:1")), "for=192.0.2.7;proto=http;host=\"b.example:1\"");
            assert_eq!(of(None), "for=192.0.2.7;proto=http");
        }
    }
}
