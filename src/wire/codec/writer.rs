//! Writes a MessagePack map field by field, for the messages that every request takes. Numbers and lengths are
//! in their shortest form, as serde's writer has them.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::wire::message::Error;

/// A map of at most 31 fields that is being written.
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A map of no fields yet, with room for `room` bytes.
    pub fn with_room(room: usize) -> Self {
        let mut bytes = Vec::with_capacity(room);
        bytes.push(EMPTY_MAP);
        Writer { bytes }
    }

    /// The next field's name; its value has to follow.
    #[inline]
    pub fn field(&mut self, name: &'static str) -> &mut Self {
        debug_assert!(self.bytes[0] < EMPTY_MAP + MOST_FIELDS && name.len() < 32);
        self.bytes[0] += 1;
        self.bytes.push(0xa0 | name.len() as u8);
        self.bytes.extend_from_slice(name.as_bytes());
        self
    }

    /// A number.
    pub fn number(&mut self, number: u64) {
        let (marker, bytes) = match number {
            0..=0x7f => return self.bytes.push(number as u8),
            0x80..=0xff => (0xcc, 1),
            0x100..=0xffff => (0xcd, 2),
            0x1_0000..=0xffff_ffff => (0xce, 4),
            0x1_0000_0000.. => (0xcf, 8),
        };
        self.marker(marker, number, bytes);
    }

    /// True or false.
    pub fn flag(&mut self, flag: bool) {
        self.bytes.push(if flag { 0xc3 } else { 0xc2 });
    }

    /// A text.
    pub fn text(&mut self, text: &str) {
        match text.len() {
            short @ 0..=31 => self.bytes.push(0xa0 | short as u8),
            length @ 32..=0xff => self.marker(0xd9, length as u64, 1),
            length @ 0x100..=0xffff => self.marker(0xda, length as u64, 2),
            length => self.marker(0xdb, length as u64, 4),
        }
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        match bytes.len() {
            length @ 0..=0xff => self.marker(0xc4, length as u64, 1),
            length @ 0x100..=0xffff => self.marker(0xc5, length as u64, 2),
            length => self.marker(0xc6, length as u64, 4),
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// `count` header pairs as `[[name, value], …]`, value as bytes.
    pub fn headers<'a>(
        &mut self,
        count: usize,
        headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    ) {
        match count {
            few @ 0..=15 => self.bytes.push(0x90 | few as u8),
            many @ 16..=0xffff => self.marker(0xdc, many as u64, 2),
            many => self.marker(0xdd, many as u64, 4),
        }
        for (name, value) in headers {
            self.bytes.push(PAIR);
            self.text(name.as_str());
            self.bytes(value.as_bytes());
        }
    }

    /// A header's value as text.
    pub fn value(&mut self, value: &HeaderValue) {
        self.text(&String::from_utf8_lossy(value.as_bytes()));
    }

    /// An error.
    pub fn error(&mut self, error: &Error) {
        super::write(&mut self.bytes, error);
    }

    /// The whole message.
    pub fn finish(mut self) -> Bytes {
        let fields = self.bytes[0] - EMPTY_MAP;
        if fields > SHORT_MAP {
            self.bytes.splice(..1, [0xde, 0, fields]);
        }
        self.bytes.into()
    }

    /// A marker and the last `bytes` bytes of a number.
    #[inline]
    fn marker(&mut self, marker: u8, number: u64, bytes: usize) {
        self.bytes.push(marker);
        self.bytes.extend_from_slice(&number.to_be_bytes()[8 - bytes..]);
    }
}

/// What these headers take, or a little more.
pub fn room<'a>(headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>) -> usize {
    headers.map(|(name, value)| name.as_str().len() + value.len() + PAIR_ROOM).sum()
}

const EMPTY_MAP: u8 = 0x80;
/// Fields whose number fits in a map's first byte.
const SHORT_MAP: u8 = 15;
const MOST_FIELDS: u8 = 31;
/// A list of two.
const PAIR: u8 = 0x92;
/// What a pair takes besides its name and value; large ones take a little more.
const PAIR_ROOM: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_texts_and_bytes_are_written_as_serde_writes_them() {
        let sizes = [0, 1, 15, 16, 31, 32, 127, 128, 255, 256, 65_535, 65_536];
        for size in sizes {
            let (text, bytes) = ("x".repeat(size), vec![7; size]);
            let by_serde = rmp_serde::to_vec(&(size, &text, serde_bytes::Bytes::new(&bytes))).unwrap();
            let mut writer = Writer::with_room(0);
            writer.number(size as u64);
            writer.text(&text);
            writer.bytes(&bytes);
            assert_eq!(writer.finish()[1..], by_serde[1..], "{size}");
        }
        for number in [u64::from(u32::MAX), 1 << 32, u64::MAX] {
            let mut writer = Writer::with_room(0);
            writer.number(number);
            assert_eq!(writer.finish()[1..], rmp_serde::to_vec(&number).unwrap(), "{number}");
        }
    }

    #[test]
    fn a_map_tells_how_many_fields_it_has() {
        for (fields, start) in
            [(0, &b"\x80"[..]), (15, b"\x8f\xa1a"), (16, b"\xde\0\x10\xa1a"), (31, b"\xde\0\x1f")]
        {
            let mut writer = Writer::with_room(0);
            (0..fields).for_each(|_| writer.field("a").flag(true));
            let written = writer.finish();
            assert!(written.starts_with(start), "{written:?}");
            assert_eq!(written.len(), start.len().min(if fields > 15 { 3 } else { 1 }) + 3 * fields);
        }
    }

    #[test]
    fn a_list_of_headers_tells_its_length() {
        for (many, start) in
            [(0, &b"\x90"[..]), (15, b"\x9f\x92"), (16, b"\xdc\0\x10\x92"), (300, b"\xdc\x01\x2c")]
        {
            let (name, value) = (HeaderName::from_static("a"), HeaderValue::from_static("b"));
            let headers = || std::iter::repeat_n((&name, &value), many);
            let mut writer = Writer::with_room(0);
            writer.field("headers").headers(many, headers());
            let written = writer.finish();
            assert!(written[1 + 1 + "headers".len()..].starts_with(start), "{written:?}");
            assert!(written.len() <= 16 + room(headers()));
        }
    }
}
