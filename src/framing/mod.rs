//! Messages on a connection, as far as requests and responses have it in common. Of HTTP/1 (RFC 9112), `input` is what has
//! been read, `body` finds where a message ends, and `unsent` is what the system keeps; `http2` has the bodies of HTTP/2.
//! The reader of a head judges its fields.

use bytes::{Buf, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode};

pub mod body;
pub mod http2;
pub mod input;
mod unsent;

pub use unsent::keep_little_unsent;

/// The end of a line.
pub const LINE_END: &[u8] = b"\r\n";

/// Where the first empty line ends, given that none ends within the first `searched` bytes.
pub fn blank_line(bytes: &[u8], searched: usize) -> Option<usize> {
    // The line end before the empty line may have been searched already.
    let from = searched.saturating_sub(2);
    memchr::memchr_iter(b'\n', &bytes[from..]).find_map(|at| match &bytes[from + at + 1..] {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// Takes the empty lines at the beginning of `buffer`, in front of a message (RFC 9112 section 2.2). A carriage return
/// is none by itself: one that is alone may be the beginning of one.
pub fn skip_empty_lines(buffer: &mut BytesMut) {
    loop {
        match &buffer[..] {
            [b'\r', b'\n', ..] => buffer.advance(2),
            [b'\n', ..] => buffer.advance(1),
            _ => return,
        }
    }
}

/// Whether `codings`, the value of the only `Transfer-Encoding` field of a message, is the chunked coding and nothing
/// else. Another coding would have to be decoded here: it is of this hop alone (RFC 9112 section 6.1).
pub fn is_chunked(codings: &[u8]) -> bool {
    codings.eq_ignore_ascii_case(b"chunked")
}

/// Whether a response with this status ends with its head and tells no length (RFC 9110 section 8.6, RFC 9112
/// section 6.1). That of a 304 would be another response's.
pub fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// How long these fields are when they are written, each with its line end.
pub fn size<'a>(fields: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>) -> usize {
    fields.map(|(name, value)| field_size(name, value)).sum()
}

/// How long a field is when it is written, with its line end.
pub fn field_size(name: &HeaderName, value: &HeaderValue) -> usize {
    name.as_str().len() + value.len() + 4
}

/// A number of decimal digits alone, without a sign.
pub fn digits(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
