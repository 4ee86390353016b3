//! Answers from what is stored: conditions (RFC 9111 §4.3.2) and ranges (RFC 9110 §14) are seen to here.

use std::{
    ops::Range,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderValue, StatusCode, header};

use super::{
    entry::{Head, Question, opaque},
    fresh::date,
};
use crate::wire::Headers;

/// The answer to a question.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: Headers,
    /// Which bytes of the stored body it has.
    pub body: Body,
}

/// Which bytes of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// None.
    Nothing,
    /// All.
    Whole,
    /// These.
    Part(Range<u64>),
}

/// Answers `question` with the stored response that has this head, and a body of `length` when all of it is here.
pub fn answer(question: &Question, head: &Head, length: Option<u64>, now: Instant) -> Answer {
    let mut headers = head.headers.clone();
    headers.insert(header::AGE, HeaderValue::from(head.fresh.age(now).as_secs()));
    if head.status.is_success() && is_unchanged(&question.headers, &head.headers) {
        for name in [
            header::CONTENT_LENGTH,
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::CONTENT_LANGUAGE,
            header::CONTENT_RANGE,
        ] {
            headers.remove(name);
        }
        return Answer { status: StatusCode::NOT_MODIFIED, headers, body: Body::Nothing };
    }
    if question.head {
        if let Some(length) = length.filter(|_| head.status != StatusCode::NO_CONTENT) {
            headers.set_default(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        return Answer { status: head.status, headers, body: Body::Nothing };
    }
    let asked = match length {
        Some(length) if head.status == StatusCode::OK => part(&question.headers, &head.headers, length),
        Some(_) | None => Part::Ignored,
    };
    let (Part::Satisfied(range, length) | Part::Beyond(range, length)) = asked.clone() else {
        return Answer { status: head.status, headers, body: Body::Whole };
    };
    if let Part::Beyond(..) = asked {
        for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::ETAG, header::LAST_MODIFIED] {
            headers.remove(name);
        }
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        headers.insert(header::CONTENT_RANGE, text(format!("bytes */{length}")));
        return Answer { status: StatusCode::RANGE_NOT_SATISFIABLE, headers, body: Body::Nothing };
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    let told = text(format!("bytes {}-{}/{length}", range.start, range.end - 1));
    headers.insert(header::CONTENT_RANGE, told);
    Answer { status: StatusCode::PARTIAL_CONTENT, headers, body: Body::Part(range) }
}

/// Whether the caller has this already.
fn is_unchanged(asked: &Headers, stored: &Headers) -> bool {
    if asked.contains_key(header::IF_NONE_MATCH) {
        let etag = stored.get(header::ETAG).map(opaque);
        let mut values = asked.get_all(header::IF_NONE_MATCH);
        return values.any(|value| {
            value.as_bytes().trim_ascii() == b"*"
                || etag.is_some_and(|etag| tags(value).any(|tag| tag == etag))
        });
    }
    let Some(since) = date(asked, header::IF_MODIFIED_SINCE) else { return false };
    let modified = date(stored, header::LAST_MODIFIED).or_else(|| date(stored, header::DATE));
    modified.is_some_and(|modified| modified <= since)
}

/// The entity tags of a list, without their weakness. A comma may be part of one.
fn tags(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let mut rest = value.as_bytes();
    std::iter::from_fn(move || {
        let start = rest.iter().position(|&b| b == b'"')?;
        let end = start + 1 + rest[start + 1..].iter().position(|&b| b == b'"')?;
        let tag = &rest[start..=end];
        rest = &rest[end + 1..];
        Some(tag)
    })
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// As if none was asked for.
    Ignored,
    /// These bytes, of so many.
    Satisfied(Range<u64>, u64),
    /// Bytes that there are not, of so many.
    Beyond(Range<u64>, u64),
}

/// The part of a body of `length` that is asked for. Several at once, and what can't be read, are ignored (RFC 9110
/// §14.2).
fn part(asked: &Headers, stored: &Headers, length: u64) -> Part {
    let mut values = asked.get_all(header::RANGE);
    let (Some(value), None) = (values.next(), values.next()) else { return Part::Ignored };
    let spec = value.to_str().ok().and_then(|text| text.split_once('='));
    let Some((_, spec)) = spec.filter(|(unit, _)| unit.trim().eq_ignore_ascii_case("bytes")) else {
        return Part::Ignored;
    };
    let Some((first, last)) = spec.trim().split_once('-') else { return Part::Ignored };
    if spec.contains(',') || !is_same(asked, stored) {
        return Part::Ignored;
    }
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last),
        (Some(first), None) if last.is_empty() => (first, u64::MAX),
        (None, Some(0)) if first.is_empty() => return Part::Beyond(0..0, length),
        (None, Some(count)) if first.is_empty() => (length.saturating_sub(count), u64::MAX),
        _ => return Part::Ignored,
    };
    if first >= length {
        return Part::Beyond(0..0, length);
    }
    Part::Satisfied(first..last.saturating_add(1).min(length), length)
}

/// Digits only: a sign would be none.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Whether the part is of what the caller has the rest of (`If-Range`): compared strongly.
fn is_same(asked: &Headers, stored: &Headers) -> bool {
    let Some(condition) = asked.get(header::IF_RANGE) else { return true };
    let condition = condition.as_bytes().trim_ascii();
    if condition.starts_with(b"\"") {
        return stored.get(header::ETAG).is_some_and(|etag| etag.as_bytes() == condition);
    }
    let modified = date(stored, header::LAST_MODIFIED);
    let same = modified.is_some() && modified == date(asked, header::IF_RANGE);
    // Within the second of its change, a response may have changed again.
    same && modified.is_some_and(|modified| is_strong(modified, date(stored, header::DATE)))
}

fn is_strong(modified: SystemTime, date: Option<SystemTime>) -> bool {
    date.and_then(|date| date.duration_since(modified).ok()).is_some_and(|gap| gap >= Duration::from_secs(1))
}

fn text(text: String) -> HeaderValue {
    // It is of numbers.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
