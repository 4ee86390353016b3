//! Texts that were valid a moment ago. Nearly all messages of a process have the same hosts, processes and upstreams in
//! them, and to compare a text with a few costs a fifth of looking at each of its bytes.

use std::cell::RefCell;

/// The last few texts that were found valid by one check, which has no other input than the text.
#[derive(Debug)]
pub struct Recent(RefCell<Texts>);

#[derive(Debug)]
struct Texts {
    valid: [Vec<u8>; KEPT],
    next: usize,
}

impl Recent {
    /// None yet.
    pub const fn new() -> Self {
        Recent(RefCell::new(Texts { valid: [const { Vec::new() }; KEPT], next: 0 }))
    }

    /// Whether `text` is valid: it was a moment ago, or `check` says so.
    pub fn is_valid(&self, text: &[u8], check: impl FnOnce() -> bool) -> bool {
        let mut texts = self.0.borrow_mut();
        // A place that is still free is empty.
        if !text.is_empty() && texts.valid.iter().any(|valid| valid == text) {
            return true;
        }
        let valid = check();
        if valid && text.len() <= LONGEST {
            let at = texts.next;
            texts.next = (at + 1) % KEPT;
            texts.valid[at].clear();
            texts.valid[at].extend_from_slice(text);
        }
        valid
    }
}

const KEPT: usize = 4;
/// Bytes of a text that is kept, at most.
const LONGEST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_checked_again_once_others_have_taken_its_place() {
        let recent = Recent::new();
        assert!(recent.is_valid(b"a", || true));
        assert!(recent.is_valid(b"a", || unreachable!()));
        for other in [b"b", b"c", b"d"] {
            assert!(recent.is_valid(other, || true));
        }
        assert!(recent.is_valid(b"a", || unreachable!()));
        assert!(recent.is_valid(b"e", || true));
        assert!(!recent.is_valid(b"a", || false));
    }

    #[test]
    fn what_is_not_valid_or_is_long_is_not_kept() {
        let recent = Recent::new();
        let long = vec![b'a'; LONGEST + 1];
        for text in [&b""[..], b"a"] {
            assert!(!recent.is_valid(text, || false));
            assert!(!recent.is_valid(text, || false));
        }
        assert!(recent.is_valid(&long, || true));
        assert!(!recent.is_valid(&long, || false));
    }
}
