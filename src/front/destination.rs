//! Which upstream a request is for: the one the listener is for, the one the caller names where that is
//! allowed, or the one whose route fits its host and path.

use http::{HeaderName, HeaderValue, Version, header};

use super::{
    http::{Ask, Front, Sought},
    message::Head,
};
use crate::{
    proto::routes::Found,
    wire::{Code, Fault, Name, RequestTarget, Side, authority::is_authority, show::beginning},
};

/// Leaves the host that a request is for in its one `Host` header, where routes, the cache and the origin read it. That
/// of an absolute target, or `:authority`, replaces the header (RFC 9112 section 3.2.2, RFC 9113 section 8.3.1).
pub(super) fn settle_host(head: &mut Head) -> Result<(), Fault> {
    let refused = |detail: &'static str| Err(Fault::new(Code::BadRequest, Side::Client, detail));
    let mut hosts = head.headers.get_all(header::HOST);
    let (host, another) = (hosts.next(), hosts.next());
    drop(hosts);
    if another.is_some() || (host.is_none() && head.version == Version::HTTP_11) {
        return refused("a request must have exactly one Host header");
    }
    if host.is_some_and(|host| !is_authority(host.as_bytes())) {
        return refused(
            "the Host header is not HOST or HOST:PORT: a name of letters, digits, -, _ and dots, an IPv4 address, or \
             an IPv6 address in brackets; write other alphabets as xn--…",
        );
    }
    let Some(authority) = head.target.authority.take() else { return Ok(()) };
    let differs = host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()));
    if differs && head.version == Version::HTTP_2 {
        return refused("the Host header and :authority name different hosts");
    }
    match HeaderValue::from_str(&authority) {
        Ok(host) if is_authority(host.as_bytes()) => head.headers.insert(header::HOST, host),
        Ok(_) | Err(_) => return refused("the host in the request target is not HOST or HOST:PORT"),
    }
    Ok(())
}

impl<A: Ask> Front<A> {
    /// The upstream that the caller names, where that is allowed.
    pub(super) fn named(&self, head: &Head) -> Result<Option<Name>, Fault> {
        let named = head.headers.get(UPSTREAM).filter(|_| self.settings.allow_upstream_header);
        let name = named.map(|named| named.to_str().ok().and_then(|name| name.parse().ok()));
        match name {
            Some(None) => {
                let detail = "X-Relay-Upstream is not the name of an upstream: letters, digits, - and _";
                Err(Fault::new(Code::BadRequest, Side::Client, detail))
            }
            Some(name) => Ok(name),
            None => Ok(None),
        }
    }

    /// Where the request with this head goes; `url` is its target in origin form.
    pub(super) fn destination(&self, head: &Head, url: &RequestTarget) -> Result<Found, Fault> {
        if let Some(upstream) = &self.settings.upstream {
            return Ok(Found { upstream: upstream.clone(), strip: 0, is_below_path: false });
        }
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        match self.ask.seek(host, url.path()) {
            Sought::Found(found) => Ok(found),
            Sought::Climbs => Err(Fault::new(Code::BadTarget, Side::Client, CLIMBS)),
            Sought::Nowhere => {
                let (host, path) = (beginning(host, SHOWN), url.path_text());
                let path = beginning(&path, SHOWN);
                let detail = format!("no upstream has a route for {host}{path}");
                Err(Fault::new(Code::NoRoute, Side::Client, detail))
            }
            Sought::NotYet => {
                let detail = "the client agent has just come and does not know all routes yet";
                Err(Fault::new(Code::NotReady, Side::Client, detail))
            }
        }
    }

    /// The upstream of what is answered before its upstream is known.
    pub(super) fn nowhere(&self) -> Name {
        self.settings.upstream.clone().unwrap_or_else(|| NOWHERE.parse().expect("it is a name"))
    }
}

/// Why a target with a dot segment is refused where its route has a path.
pub const CLIMBS: &str = "the request target has a '.' or '..' segment, in this or another spelling, which could leave \
                          the path of its route: write the path without it";
/// How a caller names the upstream.
const UPSTREAM: HeaderName = HeaderName::from_static("x-relay-upstream");
const NOWHERE: &str = "-";
/// Bytes of a host or a path that belong into a sentence.
const SHOWN: usize = 200;
