//! Dot segments of a request target, in every spelling that some server reads as one.
//!
//! RFC 3986 §5.2.4 removes `.` and `..`, so a target with one names another path than it shows. Where a path is a
//! border, such a target is refused and never repaired: servers differ in what they decode, how often, and where they
//! end a segment. What is read here as a dot segment:
//!
//! - escapes of any character, escaped any number of times (`%2e`, `%252e`, `%%32%65`), `%u002e`;
//! - `/` and `\` as ends of a segment, escaped or not;
//! - a segment that ends at `;` (path parameters), at NUL, or at an escaped `?` or `#`;
//! - blanks and control characters inside, which some parsers remove;
//! - UTF-8 that is longer than it need be, and the full-width forms of the characters.

/// Whether the path of `target`, which may have a query, has a dot segment.
pub fn has_dot_segment(target: &[u8]) -> bool {
    let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
    may_have_one(path) && read_as_widely_as_possible(path).split(|&byte| is_separator(byte)).any(is_dots)
}

/// Nearly every path has neither a segment that begins with a dot nor anything that hides one.
fn may_have_one(path: &[u8]) -> bool {
    let mut before = b'/';
    path.iter().any(|&byte| {
        let begins_with_a_dot = byte == b'.' && before == b'/';
        before = byte;
        begins_with_a_dot || matches!(byte, b'%' | b'\\') || !byte.is_ascii_graphic()
    })
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

fn is_dots(segment: &[u8]) -> bool {
    let mut dots = 0;
    for &byte in segment {
        match byte {
            b'.' => dots += 1,
            b';' | b'?' | b'#' | 0 => break,
            ..=b' ' | 0x7F => {}
            _ => return false,
        }
    }
    matches!(dots, 1 | 2)
}

/// The bytes of `path` without any escapes, and with ASCII for what stands for it.
fn read_as_widely_as_possible(path: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(path.len());
    path.iter().for_each(|&byte| push(&mut bytes, byte));
    let mut ascii = Vec::with_capacity(bytes.len());
    let mut rest = &bytes[..];
    while let Some(&first) = rest.first() {
        let (length, plain) = character(rest);
        match plain {
            Some(plain) => plain.iter().for_each(|&byte| push(&mut ascii, byte)),
            None => ascii.push(first),
        }
        rest = &rest[length..];
    }
    ascii
}

/// Adds a byte, and undoes the escape that it completes: what comes of that may complete another.
fn push(bytes: &mut Vec<u8>, byte: u8) {
    bytes.push(byte);
    loop {
        let (length, code) = match bytes[..] {
            [.., b'%', high, low] if is_hex(&[high, low]) => (3, number(&[high, low])),
            [.., b'%', b'u' | b'U', a, b, c, d] if is_hex(&[a, b, c, d]) => (6, number(&[a, b, c, d])),
            _ => return,
        };
        bytes.truncate(bytes.len() - length);
        match (length, u8::try_from(code)) {
            (3, Ok(byte)) => bytes.push(byte),
            (_, _) => bytes.extend_from_slice(stands_for(code).unwrap_or(OTHER)),
        }
    }
}

fn is_hex(digits: &[u8]) -> bool {
    digits.iter().all(u8::is_ascii_hexdigit)
}

fn number(digits: &[u8]) -> u32 {
    digits.iter().filter_map(|&digit| char::from(digit).to_digit(16)).fold(0, |sum, digit| sum * 16 + digit)
}

/// How many bytes the first character of `bytes` has, read as loosely as UTF-8 ever was, and the ASCII that it stands
/// for.
fn character(bytes: &[u8]) -> (usize, Option<&'static [u8]>) {
    let (first, rest) = (bytes[0], &bytes[1..]);
    // Of two bytes that are one too many, some readers take the second as it is.
    if matches!(first, 0xC0 | 0xC1) && rest.first().is_some_and(u8::is_ascii) {
        return (1, Some(&[]));
    }
    let (length, bits) = match first {
        ..0xC0 => return (1, stands_for(first.into()).filter(|_| first < 0x80)),
        0xC0..0xE0 => (2, first & 0x1F),
        0xE0..0xF0 => (3, first & 0x0F),
        _ => (4, first & 0x07),
    };
    let Some(more) = rest.get(..length - 1).filter(|more| more.iter().all(|byte| byte & 0xC0 == 0x80)) else {
        return (1, None);
    };
    let code = more.iter().fold(u32::from(bits), |code, byte| code << 6 | u32::from(byte & 0x3F));
    (length, stands_for(code))
}

/// The ASCII that a character is, or is taken for.
fn stands_for(code: u32) -> Option<&'static [u8]> {
    let ascii = match code {
        ..0x80 => code,
        0x2024 | 0xFE52 => return Some(b"."),
        0x2025 | 0xFE30 => return Some(b".."),
        0x2044 | 0x2215 | 0x29F8 => return Some(b"/"),
        0x2216 | 0x29F5 | 0x29F9 | 0xFE68 => return Some(b"\\"),
        // The full-width forms.
        0xFF01..=0xFF5E => code - 0xFEE0,
        _ => return None,
    };
    let at = usize::try_from(ascii).ok()?;
    ASCII.get(at..=at)
}

/// Every character of ASCII.
const ASCII: [u8; 128] = {
    let mut all = [0; 128];
    let mut byte = 0;
    while byte < all.len() {
        all[byte] = byte as u8;
        byte += 1;
    }
    all
};
/// What stands for nothing here.
const OTHER: &[u8] = b"_";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_dot_segment_is_one_in_every_spelling() {
        let spellings = [
            "..",
            ".",
            "%2e%2e",
            "%2E.",
            ".%2e",
            "%2e",
            "%252e%252e",
            "%25252E.",
            "%%32%65.",
            "%25%32%65%2e",
            "%u002e%u002E",
            "%uff0e.",
            "..;",
            "..;x=y",
            "..;a/b",
            ".;",
            "..%3b",
            "..%3Bx",
            "..%00",
            "..%00x",
            "..\0",
            "..%3f",
            "..%23x",
            "..#",
            "..%20",
            ".%09.",
            "%0a..",
            "%c0%ae%c0%ae",
            "%c0%2e%c0%2e",
            "%e0%80%ae.",
            "%f0%80%80%ae.",
            "%ef%bc%8e%ef%bc%8e",
            "\u{ff0e}\u{ff0e}",
            "\u{2025}",
            "%2%65.",
        ];
        let between = [
            ("/", "/"),
            ("\\", "\\"),
            ("%2f", "%2F"),
            ("%5c", "/"),
            ("/", "%5C"),
            ("%252f", "%255c"),
            ("%c0%af", "/"),
            ("%u2215", "/"),
            ("%c1%9c", "/"),
            ("/", ""),
            ("//", "//"),
            ("%ef%bc%8f", "/"),
        ];
        for dots in spellings {
            for (before, after) in between {
                for query in ["", "?q"] {
                    let target = format!("/shop{before}{dots}{after}{query}");
                    assert!(has_dot_segment(target.as_bytes()), "{target:?}");
                }
            }
        }
        for target in ["/..", "/.", "..", "/%2e%2e", "/a/./b", "/a/.;/b", "/a/..;x=y?z", "/shop#/../admin"] {
            assert!(has_dot_segment(target.as_bytes()), "{target:?}");
        }
    }

    #[test]
    fn what_is_no_dot_segment_passes() {
        for target in [
            "",
            "/",
            "*",
            "//",
            "/a//b",
            "/a/..b/c",
            "/a/b..",
            "/a/...",
            "/.well-known/x",
            "/a.b/c.d",
            "/a/%2eb",
            "/a?x=/../",
            "/a?..",
            "/a%20b/%c3%a4",
            "/a/b;x=..",
            "/\u{e4}/%E4.",
            "/a%",
            "/a%2",
            "/100%/x",
            "/%u1",
            "/a/%c0",
            "/a/%c0%ae%c0%aeb",
            "/a/;..",
            "/..%2",
            "/..%zz/",
        ] {
            assert!(!has_dot_segment(target.as_bytes()), "{target:?}");
        }
    }

    proptest! {
        #[test]
        fn a_dot_segment_is_seen_however_its_characters_are_escaped(
            before in "(/[a-z]{1,3}){0,3}",
            (dots, levels) in ("[.]{1,2}", proptest::collection::vec(0_usize..4, 4)),
            after in "(/[a-z]{1,3}){0,3}",
        ) {
            let mut target = before;
            for (byte, level) in format!("/{dots}").bytes().zip(levels) {
                let mut text = char::from(byte).to_string();
                for _ in 0..level {
                    text = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
                }
                target.push_str(&text);
            }
            target.push_str(&after);
            prop_assert!(has_dot_segment(target.as_bytes()), "{}", target);
        }

        #[test]
        fn any_text_is_looked_at_without_a_panic(target in ".{0,40}|([%0-9a-fu.;/\\\\]{0,40})") {
            has_dot_segment(target.as_bytes());
        }
    }
}
