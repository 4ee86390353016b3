//! Names and ids: validated tokens, so that nothing a peer sends can widen a NATS subject.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasherDefault, Hasher},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use super::recent::Recent;

/// One subject token, `[A-Za-z0-9_-]{1,64}`: the name of an upstream or of a realm.
///
/// The alphabet is the one ADR-32 allows for service names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl FromStr for Name {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if is_token(text) { Ok(Name(text.into())) } else { Err(InvalidId::Name) }
    }
}

/// One process: `<realm>.<process>`.
///
/// The realm is set by the operator, one for each set of credentials, so that NATS permissions can
/// tell whose private subjects these are. The second token is random and new at every start.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(Arc<str>);

impl ProcessId {
    /// A new id in `realm` from 71 random bits.
    pub fn random(realm: &Name) -> Self {
        let token = base62(Uuid::new_v4().as_u128(), 12);
        ProcessId(format!("{}.{token}", realm.as_str()).into())
    }

    /// `<realm>.<process>`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first token.
    pub fn realm(&self) -> &str {
        self.0.split_once('.').map_or("", |(realm, _)| realm)
    }

    /// The second token.
    pub fn process(&self) -> &str {
        self.0.split_once('.').map_or("", |(_, process)| process)
    }
}

impl FromStr for ProcessId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        thread_local!(static RECENT: Recent = const { Recent::new() });
        let valid = || after_tokens(text, 1).is_some_and(is_token);
        if RECENT.with(|recent| recent.is_valid(text.as_bytes(), valid)) {
            Ok(ProcessId(text.into()))
        } else {
            Err(InvalidId::Process)
        }
    }
}

/// One request at one process: `<realm>.<process>.<upstream>.<n>`.
///
/// The process that minted it is its address: what is sent to `relay.resp.<id>` reaches that process
/// and no other. The upstream is part of it so that NATS permissions can hold an agent to the
/// upstreams it may answer for. `<n>` is a number in hexadecimal, see [`Numbers`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    text: Arc<str>,
    number: u64,
}

impl RequestId {
    /// The id of request `number` for `upstream` at `process`.
    pub fn new(process: &ProcessId, upstream: &Name, number: u64) -> Self {
        let (process, upstream) = (process.as_str(), upstream.as_str());
        let mut text = String::with_capacity(process.len() + upstream.len() + LONGEST_NUMBER + 2);
        text.push_str(process);
        text.push('.');
        text.push_str(upstream);
        text.push('.');
        push_number(&mut text, number);
        RequestId { text: text.into(), number }
    }

    /// The id as it stands in subjects and messages.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The number that the minting process knows the request by.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether `process` minted it for `upstream`.
    pub fn is_of(&self, process: &ProcessId, upstream: &Name) -> bool {
        let after = |text, token| str::strip_prefix(text, token)?.strip_prefix('.');
        after(&self.text, process.as_str()).and_then(|rest| after(rest, upstream.as_str())).is_some()
    }

    /// The upstream the request is for.
    pub fn upstream(&self) -> &str {
        self.text.split('.').nth(2).unwrap_or_default()
    }

    /// Whether it names the same upstream as `other`. What is sent to an id out of a message must stay within the upstream that the
    /// message is about: its sender is held to that upstream by NATS permissions, the process that reads it is not.
    pub fn is_beside(&self, other: &RequestId) -> bool {
        self.upstream() == other.upstream()
    }

    /// `<realm>.<process>` of the process that minted it.
    pub fn process(&self) -> &str {
        let end = self.text.match_indices('.').nth(1).map_or(0, |(i, _)| i);
        &self.text[..end]
    }
}

impl FromStr for RequestId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        thread_local!(static RECENT: Recent = const { Recent::new() });
        let (process, number) = cut_last(text).ok_or(InvalidId::Request)?;
        let valid = || after_tokens(process, 2).is_some_and(is_token);
        let number = parse_number(number).ok_or(InvalidId::Request)?;
        if RECENT.with(|recent| recent.is_valid(process.as_bytes(), valid)) {
            Ok(RequestId { text: text.into(), number })
        } else {
            Err(InvalidId::Request)
        }
    }
}

/// What is before the first dot, and what is after it. (`split_once` would search for a character with
/// machinery that pays for texts longer than a token.)
pub(super) fn cut(text: &str) -> Option<(&str, &str)> {
    let dot = text.bytes().position(|b| b == b'.')?;
    Some((&text[..dot], &text[dot + 1..]))
}

/// What is before the last dot, and what is after it.
pub fn cut_last(text: &str) -> Option<(&str, &str)> {
    let dot = text.bytes().rposition(|b| b == b'.')?;
    Some((&text[..dot], &text[dot + 1..]))
}

/// The number at the end of a request id; only its canonical form (lower-case hexadecimal without
/// leading zeros) is a number, so that one request has one spelling.
pub fn parse_number(token: &str) -> Option<u64> {
    let canonical = matches!(token.as_bytes(), [b'0'] | [b'1'..=b'9' | b'a'..=b'f', ..]);
    if !canonical || token.len() > LONGEST_NUMBER {
        return None;
    }
    token.bytes().try_fold(0, |number, b| {
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'f' => b - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(digit))
    })
}

/// Writes a number in its canonical form.
pub(super) fn push_number(text: &mut String, number: u64) {
    let mut digits = [0; LONGEST_NUMBER];
    for (at, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * at)) as usize & 0xf];
    }
    let zeros = (number.leading_zeros() as usize / 4).min(LONGEST_NUMBER - 1);
    text.push_str(std::str::from_utf8(&digits[zeros..]).expect("digits are ASCII"));
}

/// Where request numbers come from: a counter in the low half and a keyed hash of it in the high
/// half, so that numbers never repeat in a process and can't be guessed from others.
pub struct Numbers<H = std::hash::RandomState> {
    keyed: H,
    next: u32,
}

impl<H: std::hash::BuildHasher> Numbers<H> {
    /// Numbers under `keyed`, whose key is the secret.
    pub fn new(keyed: H) -> Self {
        Numbers { keyed, next: 0 }
    }

    /// The next number.
    pub fn fresh(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        let high = self.keyed.hash_one(self.next) & 0xffff_ffff_0000_0000;
        high | u64::from(self.next)
    }
}

/// Things by the number that [`Numbers`] gave them. Nobody else chooses a key, and the numbers are as good as a
/// hash of themselves.
pub type ByNumber<T> = HashMap<u64, T, BuildHasherDefault<ItselfHash>>;

/// Things by the name of an upstream. It is looked up several times for each request, and a map of names that strangers
/// choose is bounded, so that its hash is quick rather than one that no names collide in.
pub type ByName<T> = HashMap<Name, T, foldhash::fast::RandomState>;

/// The hash of a number: itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct ItselfHash(u64);

impl Hasher for ItselfHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Numbers come whole; anything else is hashed correctly, not well.
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Not a [`Name`].
    #[error("must be 1 to 64 letters, digits, '-' or '_'")]
    Name,
    /// Not a [`ProcessId`].
    #[error("is not a process id (<realm>.<process>)")]
    Process,
    /// Not a [`RequestId`].
    #[error("is not a request id (<realm>.<process>.<upstream>.<number>)")]
    Request,
}

fn is_token(text: &str) -> bool {
    (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(|byte| CLASS[usize::from(byte)] == Class::Token)
}

/// What is behind the first `count` tokens, each of which ends with a dot. One pass with one look-up for each byte:
/// every message has several ids, and a comparison for each range of letters was a fiftieth of an agent's work.
fn after_tokens(text: &str, mut count: usize) -> Option<&str> {
    let mut start = 0;
    for (at, &byte) in text.as_bytes().iter().enumerate() {
        match CLASS[usize::from(byte)] {
            Class::Token => {}
            Class::Dot if (1..=MAX_TOKEN).contains(&(at - start)) => {
                start = at + 1;
                count -= 1;
                if count == 0 {
                    return Some(&text[start..]);
                }
            }
            Class::Dot | Class::Other => return None,
        }
    }
    None
}

/// What a byte is in an id.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Token,
    Dot,
    Other,
}

const CLASS: [Class; 256] = {
    let mut table = [Class::Other; 256];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() || byte == b'-' as usize || byte == b'_' as usize {
            table[byte] = Class::Token;
        }
        byte += 1;
    }
    table[b'.' as usize] = Class::Dot;
    table
};

fn base62(mut bits: u128, digits: usize) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(digits);
    for _ in 0..digits {
        text.push(char::from(ALPHABET[(bits % 62) as usize]));
        bits /= 62;
    }
    text
}

macro_rules! text_id {
    ($($id:ident)+) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }
        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                d.deserialize_str(TextVisitor(std::marker::PhantomData))
            }
        }
    )+};
}
text_id!(Name ProcessId RequestId);

struct TextVisitor<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = InvalidId>> de::Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id as text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|why: InvalidId| {
            let shown: String = text.chars().take(MAX_TOKEN).collect();
            E::custom(format_args!("'{}' {why}", shown.escape_default()))
        })
    }
}

const MAX_TOKEN: usize = 64;
/// The most digits of a request's number.
pub(super) const LONGEST_NUMBER: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_subject_token() {
        for good in ["hello", "a", "A-b_9", &"x".repeat(64)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "a.b", "*", ">", "a b", "é", "a\n", &"x".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_request_id_names_its_process_its_upstream_and_its_number() {
        let process: ProcessId = "client.Ab3".parse().unwrap();
        let id = RequestId::new(&process, &"hello".parse().unwrap(), 0x2a);
        assert_eq!(id.as_str(), "client.Ab3.hello.2a");
        assert_eq!(id.as_str().parse::<RequestId>().unwrap(), id);
        assert_eq!(id.upstream(), "hello");
        assert_eq!(id.process(), process.as_str());
        assert!(id.is_of(&process, &"hello".parse().unwrap()));
        assert!(!id.is_of(&process, &"hell".parse().unwrap()));
        assert!(!id.is_of(&"client.Ab".parse().unwrap(), &"hello".parse().unwrap()));
    }

    #[test]
    fn a_request_id_has_one_spelling() {
        for bad in [
            "client.Ab3.hello",
            "client.Ab3.hello.2A",
            "client.Ab3.hello.02a",
            "client.Ab3.hello.+2a",
            "client.Ab3.hello.2a.x",
            "client.*.hello.2a",
            "client..hello.2a",
            "client.Ab3.hello.",
            "client.Ab3.hello.12345678901234567",
        ] {
            assert!(bad.parse::<RequestId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_is_written_as_it_is_read() {
        for number in [0, 1, 0xf, 0x10, 0xabc, u64::from(u32::MAX), u64::MAX] {
            let mut text = String::new();
            push_number(&mut text, number);
            assert_eq!(text, format!("{number:x}"));
            assert_eq!(parse_number(&text), Some(number));
        }
    }

    #[test]
    fn numbers_do_not_repeat_and_do_not_follow_from_each_other() {
        let mut numbers = Numbers::new(std::hash::RandomState::new());
        let drawn: Vec<u64> = (0..1000).map(|_| numbers.fresh()).collect();
        let distinct: std::collections::HashSet<_> = drawn.iter().collect();
        assert_eq!(distinct.len(), drawn.len());
        let high: std::collections::HashSet<_> = drawn.iter().map(|n| n >> 32).collect();
        assert!(high.len() > 990, "the high half is as good as random");
    }

    #[test]
    fn two_processes_never_share_an_id() {
        let realm: Name = "client".parse().unwrap();
        let one = ProcessId::random(&realm);
        assert_ne!(one, ProcessId::random(&realm));
        assert_eq!(one.realm(), "client");
        assert_eq!(one.process().len(), 12);
        assert!(one.as_str().parse::<ProcessId>().is_ok());
    }
}
