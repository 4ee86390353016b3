//! Bytes like those of a corpus, and wrong in a place or two. The same seed makes the same bytes.

/// Makes mutations of a corpus.
pub struct Mutator {
    state: u64,
    /// What they begin as.
    pub corpus: Vec<Vec<u8>>,
}

impl Mutator {
    /// From this seed on.
    pub fn new(seed: u64, corpus: Vec<Vec<u8>>) -> Self {
        assert!(!corpus.is_empty(), "there is something to begin with");
        Mutator { state: seed, corpus }
    }

    /// The next bytes.
    pub fn make(&mut self) -> Vec<u8> {
        let mut bytes = self.pick().clone();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes);
        }
        bytes.truncate(MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let end = (at + 1 + self.below(8)).min(bytes.len());
        match self.below(11) {
            0 if at < bytes.len() => bytes[at] = self.byte(),
            1 => bytes.insert(at, self.byte()),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            4 => {
                let text = INTERESTING[self.below(INTERESTING.len())];
                bytes.splice(at..end.min(at + self.below(3)), text.iter().copied());
            }
            5 => bytes.truncate(at),
            6 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            7 => self.repeat_line(bytes),
            8 => {
                let other = self.pick().clone();
                let from = self.below(other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
            9 => {
                let line = self.line_of_another();
                let at = bytes[at..]
                    .iter()
                    .position(|&byte| byte == b'\n')
                    .map_or(bytes.len(), |end| at + end + 1);
                bytes.splice(at..at, line);
            }
            _ => bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0x20),
        }
    }

    fn repeat_line(&mut self, bytes: &mut Vec<u8>) {
        let lines: Vec<Vec<u8>> = bytes.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        if let Some(line) = lines.get(self.below(lines.len() + 1)) {
            let at: usize = lines[..self.below(lines.len() + 1)].iter().map(Vec::len).sum();
            bytes.splice(at..at, line.clone());
        }
    }

    fn line_of_another(&mut self) -> Vec<u8> {
        let other = self.pick().clone();
        let lines: Vec<_> = other.split_inclusive(|&byte| byte == b'\n').collect();
        lines.get(self.below(lines.len().max(1))).map(|line| line.to_vec()).unwrap_or_default()
    }

    fn pick(&mut self) -> &Vec<u8> {
        let at = self.below(self.corpus.len());
        &self.corpus[at]
    }

    fn byte(&mut self) -> u8 {
        const USUAL: &[u8] = b"\r\n\t\0 :,;=/?#@%[]{}\"'\\.-_+*0159afxAZ\x7f\x80\xc3\xff";
        match self.below(4) {
            0 => (self.next() & 0xff) as u8,
            _ => USUAL[self.below(USUAL.len())],
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Texts on which readers have differed.
const INTERESTING: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Connection: close\r\n",
    b"Host: a\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"chunked",
    b"+5",
    b"0x5",
    b"18446744073709551616",
    b"ffffffffffffffff",
    b"-1",
    b";a=b",
    b"..",
    b"%2e%2e",
    b"%00",
    b"#",
    b"@",
    b"//",
    b"http://",
    b"[::1]",
    b"\xc3\xa4",
    b"\xed\xa0\x80",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\x81\xa1v\x01",
    b"{}",
    b"[[[[",
    b"\\u0000",
    b"1e999",
    b"max-age=99999999999999999999",
    b"bytes=0-,-1",
];
/// Bytes at most: what is larger is tested elsewhere.
const MAX: usize = 4096;
