//! The lines of a head, as they are written.

use std::{
    cell::RefCell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, Version, header};

use crate::framing::LINE_END;

/// The lines of a head.
pub struct Lines<'a> {
    /// What they are added to.
    pub bytes: &'a mut Vec<u8>,
    /// Whether names are written as `Content-Length`.
    pub title_case: bool,
}

impl Lines<'_> {
    /// The first line of a response.
    pub fn status(&mut self, version: Version, status: StatusCode) {
        if version != Version::HTTP_10 && status == StatusCode::OK {
            self.bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
            return;
        }
        let version: &[u8] = if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " };
        self.bytes.extend_from_slice(version);
        self.bytes.extend_from_slice(status.as_str().as_bytes());
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        self.bytes.extend_from_slice(LINE_END);
    }

    /// A header.
    pub fn field(&mut self, name: &HeaderName, value: &[u8]) {
        self.name(name);
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(LINE_END);
    }

    /// A header whose value is a number.
    pub fn number(&mut self, name: &HeaderName, number: u64) {
        self.name(name);
        write_decimal(number, self.bytes);
        self.bytes.extend_from_slice(LINE_END);
    }

    /// The date.
    pub fn date(&mut self) {
        self.name(&header::DATE);
        write_date(self.bytes);
        self.bytes.extend_from_slice(LINE_END);
    }

    fn name(&mut self, name: &HeaderName) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(name.as_str().as_bytes());
        if self.title_case {
            let mut begins = true;
            for byte in &mut self.bytes[from..] {
                if begins {
                    byte.make_ascii_uppercase();
                }
                begins = *byte == b'-';
            }
        }
        self.bytes.extend_from_slice(b": ");
    }
}

fn write_decimal(mut number: u64, into: &mut Vec<u8>) {
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    into.extend_from_slice(&text[at..]);
}

/// Writes a number as chunks have it.
pub fn write_hexadecimal(number: usize, into: &mut Vec<u8>) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let digit = (number >> (4 * digit)) & 0xf;
        into.push(b"0123456789abcdef"[digit]);
    }
}

/// The date, for a field.
pub fn date() -> Option<HeaderValue> {
    let mut text = Vec::with_capacity(DATE_LENGTH);
    write_date(&mut text);
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

/// Writes the date (RFC 9110 section 6.6.1), which is made once a second.
fn write_date(into: &mut Vec<u8>) {
    thread_local! {
        static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    DATE.with_borrow_mut(|(second, date)| {
        if *second != now || date.is_empty() {
            *second = now;
            *date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
        }
        into.extend_from_slice(date.as_bytes());
    });
}

/// Bytes of a date.
const DATE_LENGTH: usize = 29;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_numbers_are() {
        for number in [0, 1, 9, 10, 15, 16, 255, 256, 4095, 65_535, 1 << 40, usize::MAX] {
            let (mut decimal, mut hexadecimal) = (Vec::new(), Vec::new());
            write_decimal(number as u64, &mut decimal);
            write_hexadecimal(number, &mut hexadecimal);
            assert_eq!(decimal, number.to_string().into_bytes());
            assert_eq!(hexadecimal, format!("{number:x}").into_bytes());
        }
    }
}
