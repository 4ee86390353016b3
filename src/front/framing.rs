//! Where the requests of an HTTP/1 connection begin and end, followed beside hyper: a request that has both a
//! `Content-Length` and `Transfer-Encoding` is one that two readers may end at different places (RFC 9112
//! §6.1). hyper drops the length and tells nobody.
//!
//! Each byte of a head is looked at once; bodies are skipped by their lengths. What is not HTTP is not
//! followed further: hyper refuses it.

/// Follows the requests of one connection, from its beginning.
#[derive(Debug, Default)]
pub struct Framing {
    at: At,
    /// The start of a line whose end has not come.
    line: Vec<u8>,
    head: Head,
    /// Heads that have ended.
    heads: u64,
    doubled: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In a head.
    #[default]
    Head,
    /// In a body, with so much to come.
    Body(u64),
    /// In the line with a chunk's size.
    Size,
    /// In a chunk, with so much to come.
    Chunk(u64),
    /// In the line end after a chunk.
    ChunkEnd,
    /// In the trailers.
    Trailers,
    /// Beyond what is HTTP.
    Lost,
}

/// What a head has said so far.
#[derive(Debug, Default)]
struct Head {
    has_begun: bool,
    is_chunked: bool,
    length: Option<u64>,
}

impl Framing {
    /// The first request, counted from 1, that has two framings.
    pub fn doubled(&self) -> Option<u64> {
        self.doubled
    }

    /// Takes the next bytes.
    pub fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.at {
                At::Body(left) => self.skip(bytes, left, At::Body, At::Head),
                At::Chunk(left) => self.skip(bytes, left, At::Chunk, At::ChunkEnd),
                At::Head | At::Size | At::ChunkEnd | At::Trailers => self.read_line(bytes),
                At::Lost => return,
            };
        }
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64, more: fn(u64) -> At, then: At) -> &'a [u8] {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - here as u64;
        self.at = if left == 0 { then } else { more(left) };
        &bytes[here..]
    }

    /// Reads up to the end of a line.
    fn read_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.keep(bytes);
            return &[];
        };
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        if self.line.is_empty() {
            self.on_line(line);
        } else {
            self.keep(line);
            let line = std::mem::take(&mut self.line);
            self.on_line(&line);
        }
        rest
    }

    /// Keeps what a line may say that matters; that is short.
    fn keep(&mut self, part: &[u8]) {
        let room = MAX_LINE - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn on_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.at = match self.at {
            At::Head if line.is_empty() && self.head.has_begun => self.end_head(),
            // Empty lines before a request are skipped (RFC 9112 §2.2).
            At::Head if line.is_empty() => At::Head,
            At::Head if !self.head.has_begun => {
                self.head.has_begun = true;
                At::Head
            }
            At::Head => self.on_header(line),
            At::Size => match size(line) {
                Some(0) => At::Trailers,
                Some(size) => At::Chunk(size),
                None => At::Lost,
            },
            At::ChunkEnd if line.is_empty() => At::Size,
            At::ChunkEnd => At::Lost,
            At::Trailers if line.is_empty() => At::Head,
            At::Trailers => At::Trailers,
            other @ (At::Body(_) | At::Chunk(_) | At::Lost) => other,
        };
    }

    fn on_header(&mut self, line: &[u8]) -> At {
        match line.first() {
            Some(b't' | b'T') if value(line, b"transfer-encoding:").is_some() => self.head.is_chunked = true,
            Some(b'c' | b'C') => {
                if let Some(text) = value(line, b"content-length:") {
                    let length = (line.len() < MAX_LINE).then(|| number(text, 10)).flatten();
                    match (length, self.head.length) {
                        (Some(length), None) => self.head.length = Some(length),
                        (Some(length), Some(before)) if length == before => {}
                        // With an encoding hyper does not look at the length; without one it refuses.
                        (Some(_), Some(_)) | (None, _) => self.head.length = Some(u64::MAX),
                    }
                }
            }
            Some(_) | None => {}
        }
        At::Head
    }

    fn end_head(&mut self) -> At {
        self.heads += 1;
        match std::mem::take(&mut self.head) {
            Head { is_chunked: true, length, .. } => {
                if length.is_some() && self.doubled.is_none() {
                    self.doubled = Some(self.heads);
                }
                At::Size
            }
            Head { length: Some(0) | None, .. } => At::Head,
            Head { length: Some(length), .. } => At::Body(length),
        }
    }
}

/// What follows `name`, which is in lower case.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// A chunk's size; extensions may follow it.
fn size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|b| matches!(b, b';' | b' ' | b'\t')).unwrap_or(line.len());
    // One that may have been cut is not believed.
    if end >= MAX_LINE { None } else { number(&line[..end], 16) }
}

fn number(text: &[u8], radix: u32) -> Option<u64> {
    // `from_str_radix` takes a sign.
    let digits = text.iter().all(u8::is_ascii_hexdigit);
    if digits { u64::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok() } else { None }
}

/// Bytes of a line that are kept until its end comes.
const MAX_LINE: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_framings_are_noticed_wherever_they_come() {
        for both in [
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTRANSFER-ENCODING:chunked\r\nHost: a\r\ncontent-length:3\r\n\r\n",
            "POST / HTTP/1.1\nTransfer-encoding: gzip\nTransfer-encoding: chunked\nContent-Length: x\n\n",
        ] {
            for before in BODIES {
                let text = format!("{before}{both}");
                let count = u64::try_from(before.matches("HTTP/1.1").count()).unwrap() + 1;
                for step in [1, 2, 7, 1000] {
                    let mut framing = Framing::default();
                    text.as_bytes().chunks(step).for_each(|part| framing.read(part));
                    assert_eq!(framing.doubled(), Some(count), "{text:?} by {step}");
                }
            }
        }
    }

    #[test]
    fn one_framing_is_none_too_many() {
        for text in BODIES {
            let mut framing = Framing::default();
            framing.read(text.as_bytes());
            assert_eq!((framing.doubled(), framing.at), (None, At::Head), "{text:?}");
        }
        let mut framing = Framing::default();
        framing.read(b"GET / HTTP/1.1\r\nX: Content-Length: 3\r\nX-Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n");
        assert_eq!((framing.doubled(), framing.at), (None, At::Head));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_come(
            text in "(POST / HTTP/1.1\r\n|content-length: ?[0-9a-f]\r\n|transfer-encoding: chunked\r\n|\r\n|[0-9a-f]\r\n|[a-z\n ]{0,9}){0,30}",
            cut in 0..200_usize,
        ) {
            let (mut whole, mut parts) = (Framing::default(), Framing::default());
            whole.read(text.as_bytes());
            let cut = cut.min(text.len());
            parts.read(&text.as_bytes()[..cut]);
            parts.read(&text.as_bytes()[cut..]);
            prop_assert_eq!(whole.doubled(), parts.doubled());
            prop_assert_eq!((whole.at, whole.heads), (parts.at, parts.heads));
        }
    }

    const BODIES: [&str; 6] = [
        "",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 38\r\n\r\nTransfer-Encoding: chunked\r\n\r\nab\r\n\r\ncdef",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nxGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n15;a=b\r\n\r\n\r\nContent-Length: 1\r\n0\r\nX: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n000\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ];
}
