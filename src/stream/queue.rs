//! What was received of a body and not read: bounded in bytes by credit, and here in parts as well.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Parts of a body in their order. Small ones are put together: a credit of 4 MiB may come as as many parts,
/// each of which would cost a hundred times its size.
#[derive(Default)]
pub struct Queue {
    parts: VecDeque<Bytes>,
    last: BytesMut,
}

impl Queue {
    /// Adds a part.
    pub fn push(&mut self, data: Bytes) {
        if data.len() >= SMALL {
            self.close_last();
            self.parts.push_back(data);
            return;
        }
        if self.last.len() + data.len() > TOGETHER {
            self.close_last();
        }
        self.last.extend_from_slice(&data);
    }

    /// Takes the first part.
    pub fn pop(&mut self) -> Option<Bytes> {
        let whole = || (!self.last.is_empty()).then(|| self.last.split().freeze());
        self.parts.pop_front().or_else(whole)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.last.is_empty()
    }

    /// Forgets all of it.
    pub fn clear(&mut self) {
        *self = Queue::default();
    }

    fn close_last(&mut self) {
        if !self.last.is_empty() {
            self.parts.push_back(self.last.split().freeze());
        }
    }
}

/// Parts below this size are put together, up to so many bytes.
const SMALL: usize = 1024;
const TOGETHER: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_out_as_they_went_in_and_few() {
        let mut queue = Queue::default();
        let mut expected: Vec<u8> = Vec::new();
        for (turn, size) in
            [1, 2, SMALL, 0, 3, SMALL - 1, 40_000, 7].into_iter().cycle().take(4000).enumerate()
        {
            let part = vec![turn as u8; size];
            expected.extend(&part);
            queue.push(part.into());
        }
        let (mut all, mut parts) = (Vec::<u8>::new(), 0);
        while let Some(part) = queue.pop() {
            assert!(!part.is_empty());
            all.extend(&part);
            parts += 1;
        }
        assert!(queue.is_empty() && all == expected);
        assert!(parts <= 4000 / 2 + 1, "{parts}");
    }

    #[test]
    fn many_small_parts_are_kept_as_few_large_ones() {
        let mut queue = Queue::default();
        for _ in 0..1_000_000 {
            queue.push(Bytes::from_static(b"x"));
        }
        assert!(queue.parts.len() <= 1_000_000 / TOGETHER);
        queue.clear();
        assert!(queue.pop().is_none());
    }
}
