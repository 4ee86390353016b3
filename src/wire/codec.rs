//! Messages to bytes and back.
//!
//! Encoding writes straight from the HTTP types, decoding reads straight into them: a header costs no
//! intermediate string, and a large body is a slice of the message it came in.

use bytes::Bytes;
use rmp_serde::{decode, encode};
use serde::{Deserialize, Serialize};

use super::message::{Reply, Request, VERSION};

mod incoming;

pub(super) use incoming::Pairs;

/// Bytes of `message`: a MessagePack map with field names.
///
/// # Panics
/// Never: every message type is maps, texts, numbers and bytes, and writing to memory can't fail.
pub fn encode<M: Serialize>(message: &M) -> Bytes {
    encode_with_room(message, SMALL)
}

/// Bytes of a message that carries a body of `body_len` bytes.
pub fn encode_with_room<M: Serialize>(message: &M, body_len: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(body_len + SMALL);
    encode::write_named(&mut bytes, message).expect("a message can always be encoded");
    bytes.into()
}

/// Reads a message without a body.
///
/// # Errors
/// What is wrong, in one line: not MessagePack, a field missing or of the wrong type, a version this
/// program does not know.
pub fn decode<'a, M: Deserialize<'a>>(payload: &'a [u8]) -> Result<M, Malformed> {
    check_version(payload)?;
    read(payload)
}

/// Reads a request.
///
/// # Errors
/// As [`decode()`].
pub fn decode_request(payload: &Bytes) -> Result<Request, Malformed> {
    let backing = backing(payload);
    let read: incoming::Request<'_> = decode(&backing)?;
    read.owned(&backing)
}

/// Reads a reply.
///
/// # Errors
/// As [`decode()`]; also when it is neither a response nor an error, or both.
pub fn decode_reply(payload: &Bytes) -> Result<Reply, Malformed> {
    let backing = backing(payload);
    let read: incoming::Reply<'_> = decode(&backing)?;
    read.owned(&backing)
}

/// Why a payload is not the message it should be.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}")]
pub struct Malformed {
    what: String,
    version: bool,
}

impl Malformed {
    /// It is `what`.
    pub fn new(what: impl Into<String>) -> Self {
        Malformed { what: what.into(), version: false }
    }

    /// Whether it is of a version this program does not know.
    pub fn is_version(&self) -> bool {
        self.version
    }
}

fn read<'a, M: Deserialize<'a>>(payload: &'a [u8]) -> Result<M, Malformed> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(payload);
    reader.set_max_depth(MAX_DEPTH);
    M::deserialize(&mut reader).map_err(|error: decode::Error| Malformed::new(error.to_string()))
}

fn check_version(payload: &[u8]) -> Result<(), Malformed> {
    // `v` is written first, so that the usual case is one comparison: map header, "v", fixint.
    if let [first, 0xa1, b'v', VERSION, ..] = payload
        && (*first & 0xf0 == 0x80 || *first == 0xde)
    {
        return Ok(());
    }
    #[derive(Deserialize)]
    struct Versioned {
        v: u8,
    }
    let Versioned { v } = read(payload)?;
    if v == VERSION {
        Ok(())
    } else {
        let what = format!("protocol version {v}, this program speaks {VERSION}");
        Err(Malformed { what, version: true })
    }
}

/// The bytes that header values and the body of a message are slices of: one allocation for all of them.
/// A small payload is copied, because a slice of it would pin a whole read buffer of the NATS client for as
/// long as the request lasts.
pub(super) fn backing(payload: &Bytes) -> Bytes {
    if payload.len() <= COPY_BELOW { Bytes::copy_from_slice(payload) } else { payload.clone() }
}

/// Messages are maps of lists of pairs; whatever is deeper is hostile.
const MAX_DEPTH: usize = 16;
/// Room for a head and its field names.
const SMALL: usize = 512;
/// Messages up to this size are copied out of the NATS client's buffer.
const COPY_BELOW: usize = 16 * 1024;
/// Headers in one message at most.
pub const MAX_HEADERS: usize = 1024;

/// A body as MessagePack `bin`.
pub(super) mod body {
    use bytes::Bytes;
    use serde::Serializer;

    pub fn serialize<S: Serializer>(body: &Bytes, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(body)
    }

    pub fn serialize_some<S: Serializer>(body: &Option<Bytes>, s: S) -> Result<S::Ok, S::Error> {
        match body {
            Some(body) => serialize(body, s),
            None => s.serialize_none(),
        }
    }

    pub fn serialize_part<S: Serializer>(body: &Option<&Bytes>, s: S) -> Result<S::Ok, S::Error> {
        match body {
            Some(body) => serialize(body, s),
            None => s.serialize_none(),
        }
    }
}

/// A method as text.
pub(super) mod method {
    use http::Method;
    use serde::Serializer;

    pub fn serialize<S: Serializer>(method: &Method, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(method.as_str())
    }
}

/// A status as a number.
pub(super) mod status {
    use http::StatusCode;
    use serde::Serializer;

    pub fn serialize<S: Serializer>(status: &Option<StatusCode>, s: S) -> Result<S::Ok, S::Error> {
        match status {
            Some(status) => s.serialize_u16(status.as_u16()),
            None => s.serialize_none(),
        }
    }
}

/// Header pairs as `[[name, value], …]`, value as `bin`.
pub(super) mod headers {
    use http::{HeaderMap, HeaderValue};
    use serde::{Serializer, ser::SerializeSeq};

    pub fn serialize<S: Serializer>(headers: &HeaderMap, s: S) -> Result<S::Ok, S::Error> {
        let mut seq = s.serialize_seq(Some(headers.len()))?;
        for (name, value) in headers {
            seq.serialize_element(&(name.as_str(), serde_bytes::Bytes::new(value.as_bytes())))?;
        }
        seq.end()
    }

    pub fn serialize_some<S: Serializer>(headers: &Option<&HeaderMap>, s: S) -> Result<S::Ok, S::Error> {
        match headers {
            Some(headers) => serialize(headers, s),
            None => s.serialize_none(),
        }
    }

    pub fn serialize_value<S: Serializer>(value: &Option<HeaderValue>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => s.serialize_str(&String::from_utf8_lossy(value.as_bytes())),
            None => s.serialize_none(),
        }
    }
}
