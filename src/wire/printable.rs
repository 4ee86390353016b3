//! Text that others wrote, as a terminal may be shown it: the one place that says which characters it must not get.
//!
//! A control character moves the cursor, changes what was printed before, or types for the reader (OSC and DCS answers); a
//! character that only directs or has no width hides text or swaps it. Both are written as `\u{1b}`.

use std::{borrow::Cow, fmt};

/// Whether a terminal shows this as a character, and does nothing else.
fn is_shown(c: char) -> bool {
    if (' '..='~').contains(&c) {
        return true;
    }
    !matches!(c,
        // C0, DEL and C1.
        '\0'..='\x1f' | '\x7f'..='\u{9f}'
        // Of no width, or directions of text: soft hyphen, joiners, marks, embeddings, overrides, isolates.
        | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        // Marks that are written over what stands before them.
        | '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}'
        // Whose meaning is private, and no characters at all.
        | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{f0000}'..='\u{10ffff}')
}

/// `text` on one line.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_shown)
}

/// `text` with its lines and tabs.
pub fn text(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_shown(c) || matches!(c, '\n' | '\t'))
}

/// Bytes that may be text, with lines and tabs; those that are none as `\x9b`.
pub fn bytes(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        shown.push_str(&text(chunk.valid()));
        chunk.invalid().iter().for_each(|byte| shown.push_str(&format!("\\x{byte:02x}")));
    }
    shown
}

/// A JSON document, with its lines: what a terminal must not get is in strings, and escaped there as JSON does it.
pub fn json(document: String) -> String {
    let plain = |c: char| is_shown(c) || c == '\n';
    if document.chars().all(plain) {
        return document;
    }
    let mut safe = String::with_capacity(document.len() + 64);
    for c in document.chars() {
        if plain(c) {
            safe.push(c);
        } else {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}")));
        }
    }
    safe
}

fn escaped(text: &str, plain: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(&plain) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if plain(c) {
            safe.push(c);
        } else {
            safe.extend(c.escape_unicode());
        }
    }
    safe.into()
}

/// Writes on one line to `0`.
pub struct Line<'a, W>(pub &'a mut W);

impl<W: fmt::Write> fmt::Write for Line<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&line(text))
    }
}

/// Columns that `c` takes, which is shown.
fn columns(c: char) -> usize {
    let wide = matches!(c,
        '\u{1100}'..='\u{115e}' | '\u{231a}'..='\u{231b}' | '\u{2329}'..='\u{232a}' | '\u{23e9}'..='\u{23f3}'
        | '\u{25fd}'..='\u{25fe}' | '\u{2614}'..='\u{27bf}' | '\u{2b1b}'..='\u{2b55}' | '\u{2e80}'..='\u{a4cf}'
        | '\u{a960}'..='\u{a97f}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{fe10}'..='\u{fe6f}'
        | '\u{ff01}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{16fe0}'..='\u{1b2ff}' | '\u{1f000}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}');
    if wide { 2 } else { 1 }
}

/// Columns of a line that a terminal is shown.
pub fn width(line: &str) -> usize {
    line.chars().map(columns).sum()
}

/// `text` on one line of at most `most` columns, with `…` where it was longer.
pub fn clipped(text: &str, most: usize) -> String {
    // What is cut is not looked at: a text may be large.
    let mut clipped = String::new();
    let mut left = most;
    for c in text.chars() {
        let start = clipped.len();
        if is_shown(c) {
            clipped.push(c);
        } else {
            clipped.extend(c.escape_unicode());
        }
        let columns = width(&clipped[start..]);
        if columns > left {
            clipped.truncate(start);
            while width(&clipped) >= most.max(1) {
                clipped.pop();
            }
            clipped.push('…');
            break;
        }
        left -= columns;
    }
    clipped
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// What a peer may try: C0, OSC, DEL, C1 as one character, overrides, isolates, what has no width, tags.
    const HOSTILE: &str =
        "a\x1b]0;owned\x07b\x7fc\u{9b}2Jd\u{202e}e\u{2066}f\u{200b}g\u{feff}h\u{e0041}i\rj\u{301}k";

    fn is_safe(text: &str) -> bool {
        text.chars().all(|c| is_shown(c) || c == '\n')
    }

    #[test]
    fn no_control_character_is_left_and_all_other_text_is_as_it_was() {
        for safe in [line(HOSTILE).into_owned(), clipped(HOSTILE, 1000), bytes(HOSTILE.as_bytes())] {
            assert!(is_safe(&safe), "{safe:?}");
            assert!(safe.starts_with("a\\u{1b}]0;owned\\u{7}b") && safe.contains("\\u{202e}e"), "{safe}");
        }
        for plain in ["", "hello", "Grüße, 世界 – «été» 🦀", "\\u{1b}"] {
            assert_eq!((&*line(plain), &*text(plain), &*bytes(plain.as_bytes())), (plain, plain, plain));
        }
        assert_eq!((&*line("a\nb\tc"), &*text("a\nb\tc")), ("a\\u{a}b\\u{9}c", "a\nb\tc"));
        assert_eq!(bytes(b"\x9b2J\xff\xc2\x9bok\n"), "\\x9b2J\\xff\\u{9b}ok\n");
        let mut written = String::new();
        write!(Line(&mut written), "{HOSTILE}").unwrap();
        assert_eq!(written, line(HOSTILE));
    }

    #[test]
    fn json_says_the_same_after_it() {
        let document = serde_json::json!({ HOSTILE: [HOSTILE, "Grüße\n", 1] });
        for text in [document.to_string(), serde_json::to_string_pretty(&document).unwrap()] {
            let safe = json(text);
            assert!(is_safe(&safe), "{safe:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), document);
        }
    }

    #[test]
    fn a_text_is_clipped_to_columns_and_not_to_bytes() {
        assert_eq!(clipped("hello", 5), "hello");
        assert_eq!(clipped("hello!", 5), "hell…");
        assert_eq!(
            (clipped("世界世界", 8).as_str(), clipped("世界世界", 7).as_str()),
            ("世界世界", "世界世…")
        );
        assert_eq!(clipped("a\x1bb", 4), "a…");
        for most in 1..40 {
            let clipped = clipped(&HOSTILE.repeat(1000), most);
            assert!(width(&clipped) <= most && is_safe(&clipped), "{most}: {clipped}");
        }
    }
}
