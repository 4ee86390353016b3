//! The target of a request, byte for byte as its caller wrote it (RFC 9112 section 3.2).
//!
//! Callers write more than RFC 3986 allows: quotes, braces, `|`, `<`, UTF-8, bytes of older alphabets. An origin that
//! takes them gets them. Refused is what two servers could read as the end of a target: blanks, control characters and `#`.

use std::{borrow::Cow, fmt};

use bytes::Bytes;

/// Path and query of a request, or `*`; for an egress agent a whole URL.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RequestTarget(Bytes);

impl RequestTarget {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its bytes, which share their memory with it.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it begins with `text`.
    pub fn starts_with(&self, text: &str) -> bool {
        self.0.starts_with(text.as_bytes())
    }

    /// What is before its query.
    pub fn path(&self) -> &[u8] {
        let end = memchr::memchr(b'?', &self.0).unwrap_or(self.0.len());
        &self.0[..end]
    }

    /// The rest of it from byte `start` on.
    #[must_use]
    pub fn from_byte(&self, start: usize) -> Self {
        RequestTarget(self.0.slice(start..))
    }

    /// The text that it is; none when it is not UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Its path as a text to compare and to show.
    pub fn path_text(&self) -> Cow<'_, str> {
        to_text(self.path())
    }

    /// The first byte that no target has.
    ///
    /// # Errors
    /// When there is one.
    pub fn check(&self) -> Result<(), UnfitByte> {
        UnfitByte::first_of(&self.0).map_or(Ok(()), Err)
    }
}

/// `bytes` as a text; of what is not UTF-8, all bytes over 127 are escaped, which names the same resource
/// (RFC 3986 section 2.1).
pub fn to_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().fold(String::with_capacity(3 * bytes.len()), |mut text, &byte| {
            match byte {
                ..=0x7F => text.push(char::from(byte)),
                _ => text.push_str(&format!("%{byte:02X}")),
            }
            text
        })),
    }
}

impl fmt::Display for RequestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_text(&self.0))
    }
}

impl fmt::Debug for RequestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*to_text(&self.0), f)
    }
}

impl From<Bytes> for RequestTarget {
    fn from(bytes: Bytes) -> Self {
        RequestTarget(bytes)
    }
}

impl From<String> for RequestTarget {
    fn from(text: String) -> Self {
        RequestTarget(text.into())
    }
}

impl From<&str> for RequestTarget {
    fn from(text: &str) -> Self {
        RequestTarget(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl PartialEq<str> for RequestTarget {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

/// A byte that no target has: a blank, a control character, or `#`. What is behind a `#` is none of a server's (RFC 9112
/// section 3.2), and to leave it out is to read another target than the one that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnfitByte {
    byte: u8,
    /// How many bytes of the target are before it.
    before: usize,
}

impl UnfitByte {
    /// The first one among the bytes of a target.
    pub fn first_of(target: &[u8]) -> Option<Self> {
        UnfitByte::first(target, |byte| matches!(byte, 0..=b' ' | b'#' | 0x7F))
    }

    /// The first byte of a target that `is_unfit` for the way that it goes.
    pub fn first(target: &[u8], mut is_unfit: impl FnMut(u8) -> bool) -> Option<Self> {
        let before = target.iter().position(|&byte| is_unfit(byte))?;
        Some(UnfitByte { byte: target[before], before })
    }
}

impl fmt::Display for UnfitByte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnfitByte { byte, before } = *self;
        f.write_str("the request target has ")?;
        match byte {
            b' ' => f.write_str("a space"),
            b'\t' => f.write_str("a tab"),
            b'!'..=b'~' => write!(f, "'{}'", char::from(byte)),
            0x80.. => write!(f, "the byte 0x{byte:02X}"),
            _ => write!(f, "the control character 0x{byte:02X}"),
        }?;
        write!(f, " behind its first {before} bytes: write it as %{byte:02X}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_passes_but_blanks_control_characters_and_the_sign_of_a_fragment() {
        for byte in 0..=255_u8 {
            let target = RequestTarget::from(Bytes::from(vec![b'/', b'?', byte]));
            let passes = byte > b' ' && byte != 0x7F && byte != b'#';
            assert_eq!(target.check().is_ok(), passes, "{byte:#x}");
            if let Err(unfit) = target.check() {
                let told = unfit.to_string();
                assert!(told.contains("2 bytes") && told.ends_with(&format!("%{byte:02X}")), "{told}");
            }
        }
    }

    #[test]
    fn what_is_not_utf_8_is_escaped_where_a_text_is_needed() {
        let target = |bytes: &[u8]| RequestTarget::from(Bytes::copy_from_slice(bytes));
        assert_eq!(target(b"/\xE4/\xC3\xA4?x").path_text(), "/%E4/%C3%A4");
        assert_eq!(target("/\u{e4}?\u{e4}".as_bytes()).path_text(), "/\u{e4}");
        assert_eq!(target(b"/a?b\xFF").to_string(), "/a?b%FF");
        assert_eq!((target(b"/a?b\xFF").as_text(), target(b"/a").as_text()), (None, Some("/a")));
    }
}
