//! Messages to bytes and back.
//!
//! Encoding writes straight from the HTTP types, decoding reads straight into them: a header costs no
//! intermediate string, and a large body is a slice of the message it came in.

use bytes::Bytes;
use rmp_serde::{decode, encode};
use serde::{Deserialize, Serialize};

use super::message::{Reply, Request, VERSION};

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
    rmp_serde::from_slice(payload).map_err(Malformed::from)
}

/// Reads a request.
///
/// # Errors
/// As [`decode()`].
pub fn decode_request(payload: &Bytes) -> Result<Request, Malformed> {
    let request: Request<&[u8]> = decode(payload)?;
    Ok(request.map_body(|body| detach(payload, body)))
}

/// Reads a reply.
///
/// # Errors
/// As [`decode()`]; also when it is neither a response nor an error, or both.
pub fn decode_reply(payload: &Bytes) -> Result<Reply, Malformed> {
    let reply: Reply<&[u8]> = decode(payload)?;
    if reply.status_code.is_some() == reply.error.is_some() {
        return Err(Malformed("a reply has either a status_code or an error".into()));
    }
    Ok(reply.map_body(|body| detach(payload, body)))
}

/// Why a payload is not the message it should be.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

impl From<decode::Error> for Malformed {
    fn from(error: decode::Error) -> Self {
        Malformed(error.to_string())
    }
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
    let Versioned { v } = rmp_serde::from_slice(payload)?;
    if v == VERSION {
        Ok(())
    } else {
        Err(Malformed(format!("protocol version {v}, this program speaks {VERSION}")))
    }
}

/// A body that no longer depends on the read buffer when that is cheap: a small slice would pin a
/// whole buffer of the NATS client for as long as the request lasts.
fn detach(payload: &Bytes, body: &[u8]) -> Bytes {
    if body.len() <= COPY_BELOW { Bytes::copy_from_slice(body) } else { payload.slice_ref(body) }
}

/// Room for a head and its field names.
const SMALL: usize = 512;
/// Bodies up to this size are copied out of the message; larger ones are slices of it.
const COPY_BELOW: usize = 16 * 1024;
/// Headers in one message at most.
pub const MAX_HEADERS: usize = 1024;

/// What a body can be read into: owned bytes, or a slice of the message.
pub trait Body<'de>: Sized {
    /// The body from a slice of the message.
    fn from_message(bytes: &'de [u8]) -> Self;
}

impl<'de> Body<'de> for &'de [u8] {
    fn from_message(bytes: &'de [u8]) -> Self {
        bytes
    }
}

impl Body<'_> for Bytes {
    fn from_message(bytes: &[u8]) -> Self {
        Bytes::copy_from_slice(bytes)
    }
}

/// A body as MessagePack `bin`.
pub(super) mod body {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<B: AsRef<[u8]>, S: Serializer>(body: &B, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(body.as_ref())
    }

    pub fn deserialize<'de, B: super::Body<'de>, D: Deserializer<'de>>(d: D) -> Result<B, D::Error> {
        <&serde_bytes::Bytes>::deserialize(d).map(|bytes| B::from_message(bytes))
    }
}

/// A body that may be absent.
pub(super) mod some_body {
    use serde::{Deserializer, Serializer};

    pub fn serialize<B: AsRef<[u8]>, S: Serializer>(body: &Option<B>, s: S) -> Result<S::Ok, S::Error> {
        match body {
            Some(body) => super::body::serialize(body, s),
            None => s.serialize_none(),
        }
    }

    pub fn deserialize<'de, B: super::Body<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<B>, D::Error> {
        super::body::deserialize(d).map(Some)
    }
}

/// A method as text.
pub(super) mod method {
    use http::Method;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(method: &Method, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(method.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Method, D::Error> {
        let text = <&str>::deserialize(d)?;
        Method::from_bytes(text.as_bytes()).map_err(|_| D::Error::custom("method is not a token"))
    }
}

/// A status as a number.
pub(super) mod status {
    use http::StatusCode;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(status: &Option<StatusCode>, s: S) -> Result<S::Ok, S::Error> {
        match status {
            Some(status) => s.serialize_u16(status.as_u16()),
            None => s.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<StatusCode>, D::Error> {
        let number = u16::deserialize(d)?;
        // An informational status can't end an exchange; 101 belongs to upgrades.
        match StatusCode::from_u16(number) {
            Ok(status) if !status.is_informational() => Ok(Some(status)),
            _ => Err(D::Error::custom(format_args!("status_code {number} is not a final status"))),
        }
    }
}

/// Header pairs as `[[name, value], …]`, value as `bin`.
pub(super) mod headers {
    use std::fmt;

    use http::{HeaderMap, HeaderName, HeaderValue};
    use serde::{
        Deserializer, Serializer,
        de::{Error, SeqAccess, Visitor},
        ser::SerializeSeq,
    };

    pub fn serialize<S: Serializer>(headers: &HeaderMap, s: S) -> Result<S::Ok, S::Error> {
        let mut seq = s.serialize_seq(Some(headers.len()))?;
        for (name, value) in headers {
            seq.serialize_element(&(name.as_str(), serde_bytes::Bytes::new(value.as_bytes())))?;
        }
        seq.end()
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<HeaderMap, D::Error> {
        d.deserialize_seq(Pairs)
    }

    struct Pairs;

    impl<'de> Visitor<'de> for Pairs {
        type Value = HeaderMap;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("header pairs")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<HeaderMap, A::Error> {
            let announced = seq.size_hint().unwrap_or(0);
            let mut headers = HeaderMap::with_capacity(announced.min(super::MAX_HEADERS));
            while let Some((name, value)) = seq.next_element::<(&str, &serde_bytes::Bytes)>()? {
                if headers.len() == super::MAX_HEADERS {
                    return Err(A::Error::custom(format_args!("over {} headers", super::MAX_HEADERS)));
                }
                // `HeaderName` lowers the case and refuses what is not a token, `HeaderValue` refuses
                // CR, LF and NUL: what a peer sends can't split a message.
                let name = HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| A::Error::custom("a header name is not a token"))?;
                let value = HeaderValue::from_bytes(value).map_err(|_| {
                    A::Error::custom(format_args!("the value of header {name} has control characters"))
                })?;
                headers.append(name, value);
            }
            Ok(headers)
        }
    }
}
