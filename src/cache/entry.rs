//! What is kept of a response: its head, its body in pieces, and what it costs.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{
    control::Wants,
    fresh::{Fresh, Times},
    key::{Key, Vary},
};
use crate::wire::{Headers, Name};

/// A request for something that may be stored.
#[derive(Debug, Clone)]
pub struct Question {
    /// What it is for.
    pub key: Key,
    /// Its headers, as the caller sent them.
    pub headers: Headers,
    /// What it says about caching.
    pub wants: Wants,
    /// Whether it is HEAD: the answer has no body.
    pub head: bool,
}

/// The head of a response that may be stored.
#[derive(Debug)]
pub struct Head {
    /// The upstream it is from.
    pub upstream: Name,
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: Headers,
    /// How old it is and how long it is fresh.
    pub fresh: Fresh,
    /// What it depends on.
    pub vary: Vary,
    /// The tags it can be purged by.
    pub tags: Box<[Box<str>]>,
}

/// A stored response. To clone it is to count another reference.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its head.
    pub head: Arc<Head>,
    /// Its body.
    pub body: Pieces,
}

/// A body in pieces.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    pieces: Arc<[Bytes]>,
    length: u64,
}

impl Head {
    /// The head of a response from `upstream` with this status and these headers to `question`, purged by
    /// `tags`; `None` when it must not be stored.
    pub fn of(
        question: &Question,
        upstream: &Name,
        status: StatusCode,
        headers: &Headers,
        tags: &[Box<str>],
        times: Times,
    ) -> Option<Head> {
        let (fresh, vary) = Fresh::judge(status, headers, &question.headers, &question.wants, times)?;
        let mut headers = copied(headers);
        // A response without a date gets the one on which it came (RFC 9110 §6.6.1).
        headers.set_default(header::DATE, date_value(times.clock));
        Some(Head { upstream: upstream.clone(), status, headers, fresh, vary, tags: tags.into() })
    }

    /// The head after a 304 with `headers` and `tags` (RFC 9111 §3.2, §4.3.4); `None` when the 304 is of another
    /// response, or says that this one must not be stored.
    pub fn freshened(
        &self,
        question: &Question,
        headers: &Headers,
        tags: &[Box<str>],
        times: Times,
    ) -> Option<Head> {
        let differs = |name: HeaderName| match (self.headers.get(&name), headers.get(&name)) {
            (Some(old), Some(new)) => opaque(old) != opaque(new),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        let by_etag = headers.contains_key(header::ETAG);
        if differs(header::ETAG) || !by_etag && differs(header::LAST_MODIFIED) {
            return None;
        }
        let mut merged = self.headers.clone();
        merged.remove(header::AGE);
        for name in headers.keys().filter(|name| !is_of_content(name)) {
            merged.remove(name);
            for value in headers.get_all(name) {
                merged.append(name.clone(), value.clone());
            }
        }
        let date = headers.get(header::DATE).cloned().unwrap_or_else(|| date_value(times.clock));
        merged.insert(header::DATE, date);
        // The 304 is for the request that asked, which matched.
        let tags = if tags.is_empty() { &self.tags } else { tags };
        Head::of(question, &self.upstream, self.status, &merged, tags, times)
    }

    /// Whether the origin can be asked if it is still the same.
    pub fn has_validator(&self) -> bool {
        self.headers.contains_key(header::ETAG) || self.headers.contains_key(header::LAST_MODIFIED)
    }

    /// Asks the origin, with these headers of a request, whether it is still the same (RFC 9111 §4.3.1). What the
    /// caller asked of that kind is answered here.
    pub fn ask_if_changed(&self, headers: &mut Headers) {
        for name in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::RANGE, header::IF_RANGE] {
            headers.remove(name);
        }
        for (stored, asked) in
            [(header::ETAG, header::IF_NONE_MATCH), (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE)]
        {
            if let Some(value) = self.headers.get(stored) {
                headers.insert(asked, value.clone());
            }
        }
    }

    /// Whether a purge of `tag` is for it.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| **own == *tag)
    }

    /// Bytes it takes.
    pub fn size(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + PER_HEADER).sum();
        let tags: usize = self.tags.iter().map(|tag| tag.len() + PER_TAG).sum();
        size_of::<Head>() + headers + tags + self.vary.size()
    }
}

impl Stored {
    /// Bytes it takes.
    pub fn size(&self) -> usize {
        let body = usize::try_from(self.body.length).unwrap_or(usize::MAX);
        self.head.size().saturating_add(body).saturating_add(self.body.pieces.len() * PER_PIECE)
    }

    /// Whether it is the answer to `question`, which has the same key.
    pub fn matches(&self, question: &Question) -> bool {
        self.head.vary.matches(&question.headers)
    }

    /// How old it is, for `Age`.
    pub fn age(&self, now: Instant) -> u64 {
        self.head.fresh.age(now).as_secs()
    }
}

impl Pieces {
    /// A body of these pieces. Small ones are put together.
    pub fn new(pieces: impl IntoIterator<Item = Bytes>) -> Pieces {
        let mut pieces: Vec<Bytes> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        let length: usize = pieces.iter().map(Bytes::len).sum();
        if pieces.len() > 1 && length / pieces.len() < SMALL {
            pieces = vec![Bytes::from(pieces.concat())];
        }
        Pieces { pieces: pieces.into(), length: length as u64 }
    }

    /// A copy, which does not keep anything else alive.
    pub fn copy(bytes: &[u8]) -> Pieces {
        Pieces::new([Bytes::copy_from_slice(bytes)])
    }

    /// Bytes in all.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes from `start` up to `end`.
    pub fn part(&self, start: u64, end: u64) -> VecDeque<Bytes> {
        let mut at = 0;
        let mut part = VecDeque::with_capacity(self.pieces.len());
        for piece in self.pieces.iter() {
            let (from, to) = (start.max(at), end.min(at + piece.len() as u64));
            if from < to {
                // Both are within the piece, whose length is a usize.
                part.push_back(piece.slice((from - at) as usize..(to - at) as usize));
            }
            at += piece.len() as u64;
        }
        part
    }
}

/// The tags in `Surrogate-Key`, which is ours alone and taken out of `headers`.
pub fn take_tags(headers: &mut Headers) -> Vec<Box<str>> {
    let mut tags: Vec<Box<str>> = Vec::new();
    for value in headers.get_all(SURROGATE_KEY) {
        let text = String::from_utf8_lossy(value.as_bytes());
        tags.extend(text.split_ascii_whitespace().map(Box::from));
    }
    headers.remove(SURROGATE_KEY);
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// A copy that shares nothing: a header's value is a slice of the message it came in, and would keep all of it.
fn copied(headers: &Headers) -> Headers {
    let mut copy = Headers::with_capacity(headers.len() + 1);
    for (name, value) in headers {
        // It was one already.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            copy.append(name.clone(), value);
        }
    }
    copy
}

/// An entity tag without its weakness: `W/"a"` and `"a"` are of the same content for most purposes.
pub fn opaque(tag: &HeaderValue) -> &[u8] {
    let tag = tag.as_bytes().trim_ascii();
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// What a 304 can't change: it tells of a body that it does not have.
fn is_of_content(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "content-length"
            | "content-encoding"
            | "content-range"
            | "content-md5"
            | "transfer-encoding"
            | "trailer"
    )
}

fn date_value(clock: SystemTime) -> HeaderValue {
    // A date is ASCII.
    HeaderValue::try_from(httpdate::fmt_http_date(clock)).unwrap_or(HeaderValue::from_static(""))
}

/// What a response is purged by.
pub const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
/// What a header, a tag and a piece of a body take besides their bytes, measured with what a `Headers`, an `Arc`
/// and the allocator need.
const PER_HEADER: usize = 96;
const PER_TAG: usize = 24;
const PER_PIECE: usize = 64;
/// Pieces smaller than this on average are put together.
const SMALL: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_cut_out_of_any_pieces() {
        let whole: Vec<u8> = (0..=255).cycle().take(3 * SMALL).collect();
        let pieces = Pieces::new(whole.chunks(SMALL).map(Bytes::copy_from_slice));
        assert_eq!(pieces.pieces.len(), 3);
        for (start, end) in [(0, 0), (0, 1), (0, 49152), (16383, 16385), (16384, 32768), (1, 49151)] {
            let part: Vec<u8> = pieces.part(start, end).into_iter().flatten().collect();
            assert_eq!(part, &whole[start as usize..end as usize], "{start}..{end}");
        }
        assert_eq!(Pieces::new([Bytes::from_static(b"a"), Bytes::from_static(b"b")]).pieces.len(), 1);
    }

    #[test]
    fn tags_are_ours_alone() {
        let mut headers = Headers::new();
        headers.append(SURROGATE_KEY, HeaderValue::from_static("b  a"));
        headers.append(SURROGATE_KEY, HeaderValue::from_static("c a"));
        assert_eq!(take_tags(&mut headers), ["a", "b", "c"].map(Box::from));
        assert!(headers.is_empty());
    }
}
