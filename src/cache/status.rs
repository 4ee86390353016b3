//! What a caller is told of how the cache dealt with its request: `Cache-Status` (RFC 9211).

use std::fmt::Write;

use http::HeaderValue;

/// Why a request went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// The cache is not for such requests.
    Bypass,
    /// Not for this method.
    Method,
    /// Nothing is stored for this URL.
    UriMiss,
    /// What is stored is for other request headers.
    VaryMiss,
    /// What is stored is not fresh.
    Stale,
    /// The caller wanted it.
    Request,
}

/// What became of a request at the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStatus {
    /// It was answered from the store, with something fresh for so many seconds.
    Hit {
        /// Seconds; fewer than none for something stale.
        ttl: i64,
    },
    /// It was neither answered from the store nor went on: the caller did not want that.
    OnlyIfCached,
    /// It went on.
    Forwarded {
        /// Why.
        why: Forward,
        /// What the origin answered, when something else is.
        status: Option<u16>,
        /// How long what is answered is fresh, when it is stored.
        ttl: Option<i64>,
        /// Whether the answer is stored.
        stored: bool,
        /// Whether another request went in its place.
        collapsed: bool,
    },
}

impl CacheStatus {
    /// It went on, and nothing else is known.
    pub fn forwarded(why: Forward) -> Self {
        CacheStatus::Forwarded { why, status: None, ttl: None, stored: false, collapsed: false }
    }

    /// One member of the header's list.
    pub fn value(self) -> HeaderValue {
        let mut text = String::with_capacity(ROOM);
        text.push_str("relay");
        // Writing to a String can't fail.
        let _ = match self {
            CacheStatus::Hit { ttl } => write!(text, "; hit; ttl={ttl}"),
            CacheStatus::OnlyIfCached => write!(text, "; detail=only-if-cached"),
            CacheStatus::Forwarded { why, status, ttl, stored, collapsed } => {
                let _ = write!(text, "; fwd={}", why.as_str());
                let _ = status.map_or(Ok(()), |status| write!(text, "; fwd-status={status}"));
                let _ = ttl.map_or(Ok(()), |ttl| write!(text, "; ttl={ttl}"));
                text.push_str(if stored { "; stored" } else { "" });
                text.push_str(if collapsed { "; collapsed" } else { "" });
                Ok(())
            }
        };
        // It is of our own words and numbers.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("relay"))
    }
}

impl Forward {
    fn as_str(self) -> &'static str {
        match self {
            Forward::Bypass => "bypass",
            Forward::Method => "method",
            Forward::UriMiss => "uri-miss",
            Forward::VaryMiss => "vary-miss",
            Forward::Stale => "stale",
            Forward::Request => "request",
        }
    }
}

const ROOM: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_rfc() {
        assert_eq!(CacheStatus::Hit { ttl: -3 }.value(), "relay; hit; ttl=-3");
        assert_eq!(CacheStatus::forwarded(Forward::UriMiss).value(), "relay; fwd=uri-miss");
        let all = CacheStatus::Forwarded {
            why: Forward::Stale,
            status: Some(304),
            ttl: Some(60),
            stored: true,
            collapsed: true,
        };
        assert_eq!(all.value(), "relay; fwd=stale; fwd-status=304; ttl=60; stored; collapsed");
    }
}
