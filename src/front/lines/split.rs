//! Bytes to lines. A line that is too long is skipped to its end, whatever is in it.

use bytes::{Bytes, BytesMut};

/// Makes lines of what arrives.
pub struct Splitter {
    bytes: BytesMut,
    /// Bytes at the front that have no end of a line.
    scanned: usize,
    max: usize,
    skipping: bool,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut {
    /// A line without its end.
    Line(Bytes),
    /// A line was too long; it is being skipped.
    TooLong,
}

impl Splitter {
    /// Lines have at most `max` bytes, without their ends.
    pub fn new(max: usize) -> Self {
        Splitter { bytes: BytesMut::new(), scanned: 0, max, skipping: false }
    }

    /// Where what arrives goes.
    pub fn room(&mut self) -> &mut BytesMut {
        if self.bytes.is_empty() && self.bytes.capacity() > KEEP {
            self.bytes = BytesMut::new();
        }
        if self.bytes.capacity() - self.bytes.len() < ROOM / 2 {
            self.bytes.reserve(ROOM);
        }
        &mut self.bytes
    }

    /// The next line; `None` when more has to arrive.
    pub fn next_line(&mut self) -> Option<Cut> {
        loop {
            match memchr::memchr(b'\n', &self.bytes[self.scanned..]) {
                Some(at) => {
                    let mut line = self.bytes.split_to(self.scanned + at + 1);
                    self.scanned = 0;
                    line.truncate(line.len() - 1);
                    if std::mem::take(&mut self.skipping) {
                        continue;
                    }
                    if line.last() == Some(&b'\r') {
                        line.truncate(line.len() - 1);
                    }
                    return Some(if line.len() > self.max { Cut::TooLong } else { Cut::Line(line.freeze()) });
                }
                None if self.skipping => {
                    self.bytes.clear();
                    self.scanned = 0;
                    return None;
                }
                // One more may be the '\r' of its end.
                None if self.bytes.len() > self.max + 1 => {
                    self.skipping = true;
                    self.bytes.clear();
                    self.scanned = 0;
                    return Some(Cut::TooLong);
                }
                None => {
                    self.scanned = self.bytes.len();
                    return None;
                }
            }
        }
    }

    /// What is left when nothing more arrives: a line without its end is one.
    pub fn end(&mut self) -> Option<Cut> {
        let left = !self.bytes.is_empty() && !self.skipping;
        self.scanned = 0;
        let mut line = self.bytes.split();
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        left.then(|| if line.len() > self.max { Cut::TooLong } else { Cut::Line(line.freeze()) })
    }
}

/// Bytes of room that a connection keeps for its next lines.
const KEEP: usize = 16 * 1024;
/// Bytes that are read at once.
const ROOM: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_ends_with_a_newline_and_perhaps_a_return_before_it() {
        assert_eq!(all(b"a\nb\r\n\n\r\nc\rd\ne", 9, 100), texts(&["a", "b", "", "", "c\rd", "e"]));
    }

    #[test]
    fn a_line_that_is_too_long_is_told_once_and_skipped() {
        assert_eq!(
            all(b"12345\n123456\n12345\r\nabcdefghijklmnop\nx\n", 5, 1),
            [&texts(&["12345"])[..], &[Cut::TooLong], &texts(&["12345"]), &[Cut::TooLong], &texts(&["x"])]
                .into_iter()
                .flatten()
                .map(copy)
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_line_that_never_ends_takes_no_memory() {
        let mut splitter = Splitter::new(10);
        let mut told = 0;
        for _ in 0..100_000 {
            splitter.room().extend_from_slice(&[b'x'; 100]);
            told += usize::from(splitter.next_line() == Some(Cut::TooLong));
        }
        assert!(told == 1 && splitter.bytes.len() < 1000, "{told}");
        splitter.room().extend_from_slice(b"x\ngood\n");
        assert_eq!(splitter.next_line(), Some(Cut::Line(Bytes::from_static(b"good"))));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_their_bytes_arrive(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a'), any::<u8>()], 0..200),
            max in 1_usize..20,
            step in 1_usize..50,
        ) {
            let expected: Vec<Cut> = {
                let mut parts: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
                if parts.last().is_some_and(|last| last.is_empty()) {
                    parts.pop();
                }
                let strip = |part: &&[u8]| part.strip_suffix(b"\r").unwrap_or(part).to_vec();
                let cut = |line: Vec<u8>| if line.len() > max { Cut::TooLong } else { Cut::Line(line.into()) };
                parts.iter().map(strip).map(cut).collect()
            };
            prop_assert_eq!(all(&bytes, max, step), expected);
        }
    }

    fn all(bytes: &[u8], max: usize, step: usize) -> Vec<Cut> {
        let mut splitter = Splitter::new(max);
        let mut found = Vec::new();
        for chunk in bytes.chunks(step) {
            splitter.room().extend_from_slice(chunk);
            found.extend(std::iter::from_fn(|| splitter.next_line()));
        }
        found.extend(splitter.end());
        found
    }

    fn texts(lines: &[&'static str]) -> Vec<Cut> {
        lines.iter().map(|line| Cut::Line(Bytes::from_static(line.as_bytes()))).collect()
    }

    fn copy(cut: &Cut) -> Cut {
        match cut {
            Cut::Line(line) => Cut::Line(line.clone()),
            Cut::TooLong => Cut::TooLong,
        }
    }
}
