//! The body of a message: how its end is known, and what of it is here (RFC 9112 sections 6.3 and 7.1).

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};

use super::{LINE_END, blank_line};

/// What is wrong with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A chunk.
    #[error("its body has an invalid chunk")]
    Chunk,
    /// Its trailers.
    #[error("its trailers are invalid or over a limit")]
    Trailers,
    /// It ended before its end.
    #[error("the connection closed before the end of its body")]
    Cut,
}

/// What is left of a message's body.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Ended,
    /// As many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// What comes until the connection ends.
    UntilClose,
}

/// What comes next in a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunks {
    /// The line that tells the next chunk's size.
    Size,
    /// As much of a chunk.
    Data(u64),
    /// The line end after a chunk.
    LineEnd,
    /// Trailers, or the empty line in their place.
    Trailers,
}

impl Body {
    /// The next frame, if it is in `buffer`.
    ///
    /// # Errors
    /// When it is not framed as it should be.
    pub fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Malformed> {
        match self {
            Body::Ended => Ok(None),
            Body::Length(left) => {
                let data = data(left, buffer);
                if *left == 0 {
                    *self = Body::Ended;
                }
                Ok(data)
            }
            Body::Chunked(_) => self.take_chunk(buffer),
            Body::UntilClose => Ok(data(&mut { u64::MAX }, buffer)),
        }
    }

    /// The connection has ended: so has the body, if that is how its end is told.
    ///
    /// # Errors
    /// When the body is cut.
    pub fn close(&mut self) -> Result<(), Malformed> {
        match std::mem::replace(self, Body::Ended) {
            Body::Ended | Body::UntilClose => Ok(()),
            Body::Length(_) | Body::Chunked(_) => Err(Malformed::Cut),
        }
    }

    /// Whether nothing is left.
    pub fn is_ended(&self) -> bool {
        matches!(self, Body::Ended)
    }

    /// What is known of the length that is left.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Body::Ended => SizeHint::with_exact(0),
            Body::Length(left) => SizeHint::with_exact(*left),
            Body::Chunked(_) | Body::UntilClose => SizeHint::default(),
        }
    }

    fn take_chunk(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Malformed> {
        while let Body::Chunked(next) = self {
            match next {
                Chunks::Size => match size(buffer)? {
                    None => return Ok(None),
                    Some(0) => *next = Chunks::Trailers,
                    Some(size) => *next = Chunks::Data(size),
                },
                Chunks::Data(left) => {
                    let data = data(left, buffer);
                    if *left == 0 {
                        *next = Chunks::LineEnd;
                        // Known at once, when it is here: nobody need ask for another frame.
                        if buffer.starts_with(LAST) {
                            buffer.advance(LAST.len());
                            *self = Body::Ended;
                        }
                    }
                    return Ok(data);
                }
                Chunks::LineEnd => {
                    if buffer.len() < LINE_END.len() {
                        return Ok(None);
                    }
                    if !buffer.starts_with(LINE_END) {
                        return Err(Malformed::Chunk);
                    }
                    buffer.advance(LINE_END.len());
                    *next = Chunks::Size;
                }
                Chunks::Trailers => {
                    let Some(trailers) = trailers(buffer)? else { return Ok(None) };
                    *self = Body::Ended;
                    return Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
                }
            }
        }
        Ok(None)
    }
}

/// What is here of as many bytes.
fn data(left: &mut u64, buffer: &mut BytesMut) -> Option<Frame<Bytes>> {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= length as u64;
    (length > 0).then(|| Frame::data(buffer.split_to(length).freeze()))
}

/// The size of the next chunk, when its line is here.
fn size(buffer: &mut BytesMut) -> Result<Option<u64>, Malformed> {
    let end = memchr::memchr(b'\n', &buffer[..buffer.len().min(MAX_SIZE_LINE)]);
    let Some(end) = end else {
        return if buffer.len() < MAX_SIZE_LINE { Ok(None) } else { Err(Malformed::Chunk) };
    };
    let line = &buffer[..=end];
    match httparse::parse_chunk_size(line) {
        // To httparse no digits are a zero.
        Ok(httparse::Status::Complete((length, size)))
            if length == line.len() && line[0].is_ascii_hexdigit() =>
        {
            buffer.advance(length);
            Ok(Some(size))
        }
        Ok(_) | Err(_) => Err(Malformed::Chunk),
    }
}

/// The trailers, when all of them are here.
fn trailers(buffer: &mut BytesMut) -> Result<Option<HeaderMap>, Malformed> {
    if buffer.starts_with(LINE_END) {
        buffer.advance(LINE_END.len());
        return Ok(Some(HeaderMap::new()));
    }
    let Some(end) = blank_line(&buffer[..buffer.len().min(MAX_TRAILERS)], 0) else {
        return if buffer.len() < MAX_TRAILERS { Ok(None) } else { Err(Malformed::Trailers) };
    };
    let lines = buffer.split_to(end).freeze();
    // As in the lines of sizes, a line feed alone ends nothing: where it does, a body ends at another place.
    if memchr::memchr_iter(b'\n', &lines).any(|at| at == 0 || lines[at - 1] != b'\r') {
        return Err(Malformed::Trailers);
    }
    let mut room = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let Ok(httparse::Status::Complete((length, fields))) = httparse::parse_headers(&lines, &mut room) else {
        return Err(Malformed::Trailers);
    };
    if length != lines.len() {
        return Err(Malformed::Trailers);
    }
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(lines.slice_ref(field.value));
        let (Ok(name), Ok(value)) = (name, value) else { return Err(Malformed::Trailers) };
        trailers.append(name, value);
    }
    Ok(Some(trailers))
}

/// What most often follows the last chunk with data.
const LAST: &[u8] = b"\r\n0\r\n\r\n";
/// A chunk's size and its extensions at most.
const MAX_SIZE_LINE: usize = 4 * 1024;
/// All trailers at most.
const MAX_TRAILERS: usize = 16 * 1024;
/// As many trailers at most.
const MAX_TRAILER_FIELDS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_as_they_are_here_and_end_with_their_trailers() {
        let mut body = Body::Chunked(Chunks::Size);
        let mut buffer = BytesMut::from(&b"4;a=b\r\nab"[..]);
        assert_eq!(taken(&mut body, &mut buffer), "ab");
        buffer.extend_from_slice(b"cd\r\n10 \r\n0123456789abcdef\r\n0\r\nX-End: \xffes\r\n\r\nstray");
        assert_eq!(taken(&mut body, &mut buffer), "cd");
        assert_eq!(taken(&mut body, &mut buffer), "0123456789abcdef");
        let trailers = body.take(&mut buffer).unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["x-end"].as_bytes(), b"\xffes");
        assert!(body.is_ended() && buffer == "stray");
    }

    #[test]
    fn the_end_of_a_body_is_known_with_its_last_bytes() {
        for (mut body, bytes) in
            [(Body::Chunked(Chunks::Size), &b"2\r\nok\r\n0\r\n\r\n"[..]), (Body::Length(2), b"ok")]
        {
            let mut buffer = BytesMut::from(bytes);
            assert_eq!(taken(&mut body, &mut buffer), "ok");
            assert!(body.is_ended() && buffer.is_empty());
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        let long = format!("1;{}\r\nx", "x".repeat(MAX_SIZE_LINE));
        let trailers = format!("0\r\nx: {}\r\n\r\n", "x".repeat(MAX_TRAILERS));
        let many = format!("0\r\n{}\r\n", "x: y\r\n".repeat(MAX_TRAILER_FIELDS + 1));
        for wrong in [
            "\r\n\r\n",
            ";x\r\n",
            " 4\r\n",
            "4\nabcd",
            "4;\nabcd\r\n",
            "-1\r\n",
            "0x4\r\n",
            "g\r\n",
            "11111111111111111\r\n",
            "1\r\nab\r\n",
            "1\r\na\n\n",
            "0\r\nbad\r\n\r\n",
            "0\r\nx : y\r\n\r\n",
            "0\r\nx: y\r\n z\r\n\r\n",
            "0\r\nx: \0\r\n\r\n",
            "0\r\nx: y\n\r\n",
            "0\r\nx: y\r\n\n",
            "0\r\n\n\r\n",
            "0\r\nx: y\nz: y\r\n\r\n",
            &long,
            &trailers,
            &many,
        ] {
            let mut body = Body::Chunked(Chunks::Size);
            let mut buffer = BytesMut::from(wrong);
            let outcome = loop {
                match body.take(&mut buffer) {
                    Ok(Some(_)) => {}
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            assert!(outcome, "{wrong:?}");
        }
    }

    #[test]
    fn a_cut_body_is_not_a_whole_one() {
        for mut body in [Body::Length(1), Body::Chunked(Chunks::Size), Body::Chunked(Chunks::Trailers)] {
            assert!(matches!(body.close(), Err(Malformed::Cut)));
        }
        assert!(Body::UntilClose.close().is_ok());
    }

    fn taken(body: &mut Body, buffer: &mut BytesMut) -> Bytes {
        body.take(buffer).unwrap().expect("a frame").into_data().expect("data")
    }
}
