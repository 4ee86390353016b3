//! Messages to bytes and back.
//!
//! Encoding writes straight from the HTTP types, decoding reads straight into them: a header costs no
//! intermediate string, and a large body is a slice of the message it came in.

use bytes::Bytes;
use rmp_serde::decode;
use serde::{Deserialize, Serialize};

use super::{
    cache::{CacheStats, Purge, Purged},
    job::{Job, JobKey},
    message::{Ack, Claim, Here, Hold, Lease, Lost, Refused, Reply, Request, VERSION},
    session::{Meet, News, Session},
    store::{Ended, StoreReply, StoreRequest},
};

pub(super) mod incoming;
mod outgoing;
pub(super) mod reader;
pub(super) mod writer;

/// A message that can be written.
pub trait Encode {
    /// Its bytes: a MessagePack map with field names.
    fn encode(&self) -> Bytes;
}

/// Bytes of `message`: a MessagePack map with field names.
pub fn encode(message: &impl Encode) -> Bytes {
    message.encode()
}

impl<M: Encode> Encode for Box<M> {
    fn encode(&self) -> Bytes {
        (**self).encode()
    }
}

/// Small messages are written by serde, in the order of their fields.
macro_rules! encoded_by_serde {
    ($($message:ty)+) => {$(
        impl Encode for $message {
            fn encode(&self) -> Bytes {
                let mut bytes = Vec::with_capacity(SMALL);
                write(&mut bytes, self);
                bytes.into()
            }
        }
    )+};
}
encoded_by_serde!(Ack Hold Lease Lost Here Claim Refused Purge Purged CacheStats Job JobKey Session Meet News StoreRequest StoreReply Ended);

/// # Panics
/// Never: every message type is maps, texts, numbers and bytes, and writing to memory can't fail.
fn write(bytes: &mut Vec<u8>, message: &impl Serialize) {
    rmp_serde::encode::write_named(bytes, message).expect("a message can always be encoded");
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
    check_version(payload)?;
    incoming::request(&backing(payload))
}

/// Reads a reply.
///
/// # Errors
/// As [`decode()`]; also when it is neither a response nor an error, or both.
pub fn decode_reply(payload: &Bytes) -> Result<Reply, Malformed> {
    check_version(payload)?;
    incoming::reply(&backing(payload))
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

    /// Says which field it is about.
    fn in_field(mut self, field: &[u8]) -> Self {
        self.what = format!("{}: {}", field.escape_ascii(), self.what);
        self
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

/// Whether the message is one of this version, which is all that is read of it.
///
/// # Errors
/// As [`decode()`].
pub(super) fn check_version(payload: &[u8]) -> Result<(), Malformed> {
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
/// Room for a small message.
const SMALL: usize = 512;
/// Messages up to this size are copied out of the NATS client's buffer.
const COPY_BELOW: usize = 16 * 1024;
/// Headers in one message at most.
pub const MAX_HEADERS: usize = 1024;
