//! Chance under a seed: the same seed gives the same run.

use std::hash::{BuildHasher, Hasher};

/// A random number generator (splitmix64).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Chance under `seed`.
    pub fn new(seed: u64) -> Self {
        Chance(seed)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// A small count from `low` to `high`, both included.
    pub fn count(&mut self, low: u64, high: u64) -> usize {
        usize::try_from(self.between(low, high)).expect("a small count")
    }

    /// True in `n` of a thousand cases.
    pub fn per_mille(&mut self, n: u64) -> bool {
        self.next() % 1000 < n
    }

    /// One of `choices`.
    pub fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        let at = self.next() % choices.len() as u64;
        choices[usize::try_from(at).expect("an index is small")].clone()
    }

    /// An independent source, so that what one part draws does not shift another's numbers.
    pub fn fork(&mut self) -> Chance {
        Chance(self.next())
    }

    /// A key for [`relay::wire::ids::Numbers`].
    pub fn key(&mut self) -> Keyed {
        Keyed(self.next())
    }
}

/// A keyed hash whose key is known: request numbers repeat with the seed.
#[derive(Debug, Clone)]
pub struct Keyed(u64);

impl BuildHasher for Keyed {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer(self.0)
    }
}

/// The hasher of [`Keyed`].
pub struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = mix(self.0 ^ u64::from(byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
