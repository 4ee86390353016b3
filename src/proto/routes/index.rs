//! Finds the route of a request, at the same cost however many routes there are.

use std::collections::HashMap;

use super::{
    Command,
    claimed::{Claimed, Holder},
};
use bytes::Bytes;
use http::HeaderValue;

use crate::wire::{
    Name, ProcessId, RequestTarget, Route,
    route::{Host, normal_host, normal_path},
};

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The upstream.
    pub upstream: Name,
    /// How many segments are stripped from the front of its path.
    pub strip: usize,
    /// Whether the route has a path, which a dot segment could lead out of.
    pub is_below_path: bool,
}

/// Routes by host, then by path.
#[derive(Debug, Default)]
pub struct Index {
    exact: HashMap<Box<str>, Paths>,
    below: HashMap<Box<str>, Paths>,
    any: Paths,
    len: usize,
}

/// The routes of one host.
#[derive(Debug, Default)]
struct Paths {
    by_path: HashMap<Box<str>, Claimed>,
    /// How many segments the longest of them ever had.
    deepest: usize,
}

impl Index {
    /// Where a request for `host` and `path` goes: the most specific host with a path that fits, and of its
    /// paths the longest.
    pub fn find(&self, host: &str, path: &str) -> Option<Found> {
        let host = normal_host(host);
        let path = normal_path(path);
        let exact = self.exact.get(&*host);
        let below = parents(&host).filter_map(|parent| self.below.get(parent));
        exact.into_iter().chain(below).chain([&self.any]).find_map(|paths| paths.find(&path))
    }

    /// Whether any route is for `host`, whatever its path.
    pub fn has_host(&self, host: &str) -> bool {
        let host = normal_host(host);
        let below = parents(&host).filter_map(|parent| self.below.get(parent));
        let mut all = self.exact.get(&*host).into_iter().chain(below).chain([&self.any]);
        all.any(|paths| !paths.by_path.is_empty())
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether anybody claims `route`.
    pub fn contains(&self, route: &Route) -> bool {
        self.claimed(route).is_some()
    }

    /// Whether more than one upstream claims `route`.
    pub fn is_contested(&self, route: &Route) -> bool {
        self.claimed(route).is_some_and(Claimed::is_contested)
    }

    /// What the upstreams that claimed `route` later are to be told.
    pub fn refuse_later(&self, route: &Route) -> Vec<Command> {
        self.claimed(route).map(Claimed::refuse_later).unwrap_or_default()
    }

    /// Every route.
    pub fn iter(&self) -> impl Iterator<Item = &Claimed> {
        let paths = self.exact.values().chain(self.below.values()).chain([&self.any]);
        paths.flat_map(|paths| paths.by_path.values())
    }

    /// An agent claims a route; returns who is to be told that he is refused.
    pub fn claim(&mut self, route: &Route, upstream: Name, strip: bool, holder: Holder) -> Vec<Command> {
        let paths = match route.host() {
            Host::Any => &mut self.any,
            Host::Exact(host) => self.exact.entry((**host).into()).or_default(),
            Host::Below(host) => self.below.entry((**host).into()).or_default(),
        };
        paths.deepest = paths.deepest.max(route.segments());
        let claimed = paths.by_path.entry(route.path().into()).or_insert_with(|| Claimed::new(route.clone()));
        self.len += usize::from(claimed.is_empty());
        claimed.claim(upstream, strip, holder)
    }

    /// An agent gives a route up; returns who is to be told that he is refused.
    pub fn release(&mut self, route: &Route, upstream: &Name, agent: &ProcessId) -> Vec<Command> {
        let paths = match route.host() {
            Host::Any => Some(&mut self.any),
            Host::Exact(host) => self.exact.get_mut(&**host),
            Host::Below(host) => self.below.get_mut(&**host),
        };
        let Some(paths) = paths else { return Vec::new() };
        let Some(claimed) = paths.by_path.get_mut(route.path()) else { return Vec::new() };
        let told = claimed.release(upstream, agent);
        if claimed.is_empty() {
            paths.by_path.remove(route.path());
            self.len -= 1;
            let unused = paths.by_path.is_empty();
            match route.host() {
                Host::Exact(host) if unused => drop(self.exact.remove(&**host)),
                Host::Below(host) if unused => drop(self.below.remove(&**host)),
                Host::Any | Host::Exact(_) | Host::Below(_) => {}
            }
        }
        told
    }

    fn claimed(&self, route: &Route) -> Option<&Claimed> {
        let paths = match route.host() {
            Host::Any => Some(&self.any),
            Host::Exact(host) => self.exact.get(&**host),
            Host::Below(host) => self.below.get(&**host),
        };
        paths.and_then(|paths| paths.by_path.get(route.path()))
    }
}

impl Paths {
    fn find(&self, path: &str) -> Option<Found> {
        if self.by_path.is_empty() {
            return None;
        }
        // `*` has no segments (RFC 9112 §3.2.4).
        let path = if path.starts_with('/') { path } else { "" };
        let mut segments = 0;
        let deep = |&(_, byte): &(usize, u8)| {
            segments += usize::from(byte == b'/');
            segments <= self.deepest
        };
        // The longest beginning that a route could have, then one segment less each time.
        let end = path.bytes().enumerate().take_while(deep).last().map_or(0, |(at, _)| at + 1);
        let mut candidate = path[..end].strip_suffix('/').unwrap_or(&path[..end]);
        loop {
            if let Some(claimed) = self.by_path.get(candidate) {
                return claimed.holder().map(|(upstream, strip)| Found {
                    upstream: upstream.clone(),
                    strip: if strip { claimed.route().segments() } else { 0 },
                    is_below_path: !claimed.route().path().is_empty(),
                });
            }
            candidate = &candidate[..candidate.rfind('/')?];
        }
    }
}

/// What `host` is below of, the nearest first.
fn parents(host: &str) -> impl Iterator<Item = &str> {
    host.match_indices('.').map(|(dot, _)| &host[dot + 1..])
}

/// Takes the first `segments` off the path of `url`; what they were comes with it.
pub fn strip(url: RequestTarget, segments: usize) -> (RequestTarget, Option<HeaderValue>) {
    if segments == 0 {
        return (url, None);
    }
    let path = url.path();
    let next = memchr::memchr_iter(b'/', path).nth(segments).unwrap_or(path.len());
    let stripped = HeaderValue::from_bytes(&path[..next]).ok();
    let rest = url.from_byte(next);
    let rest =
        if rest.starts_with("/") { rest } else { Bytes::from([b"/", rest.as_bytes()].concat()).into() };
    (rest, stripped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripping_takes_whole_segments_and_leaves_a_path() {
        for (url, segments, rest, stripped) in [
            ("/a/b?c=/d", 1, "/b?c=/d", Some("/a")),
            ("/a/b/", 2, "/", Some("/a/b")),
            ("/a", 1, "/", Some("/a")),
            ("/a?b", 1, "/?b", Some("/a")),
            ("/%61/b", 1, "/b", Some("/%61")),
            ("/a//b", 1, "//b", Some("/a")),
            ("/a/b", 0, "/a/b", None),
        ] {
            let (left, prefix) = strip(url.into(), segments);
            assert_eq!(left, *rest, "{url}");
            assert_eq!(prefix.as_ref().and_then(|value| value.to_str().ok()), stripped, "{url}");
        }
    }
}
