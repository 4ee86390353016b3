//! What follows a request or a response whose body does not ride in one message: frames, credit, and the
//! ways a stream ends. All of it is sent on `relay.body.<id>`, where `<id>` is the stream at the addressee.

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::{
    codec::{self, Malformed},
    ids::RequestId,
    message::{Error, VERSION},
};

/// One message about a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamMessage {
    /// The stream at the addressee.
    pub to: RequestId,
    /// What is said.
    pub word: Word,
}

/// What one side of a stream tells the other. A stream has two directions; each side speaks of the one it
/// sends with `Frame` and `Cut`, and of the one it receives with `Credit`, `Done` and `Stop`.
#[derive(Debug, Clone, PartialEq)]
pub enum Word {
    /// A part of the body.
    Frame {
        /// Its number: 0, 1, 2 …; whoever misses one fails the body.
        seq: u64,
        /// The bytes; may be none.
        data: Bytes,
        /// Set in the last frame.
        end: Option<End>,
    },
    /// How many bytes of the body may have been sent in all. It only ever grows, so a lost one does no harm.
    Credit {
        /// Bytes from the body's beginning.
        bytes: u64,
    },
    /// Said when there was nothing else to say for a while: the sender is there, and this is how far it is.
    /// It makes good a lost credit and tells of a lost frame.
    Position {
        /// Frames sent so far.
        frames: u64,
        /// Bytes of the other direction that may have been sent.
        credit: u64,
    },
    /// The body arrived whole.
    Done,
    /// The rest of the body is not wanted; what it is about may still succeed.
    Stop,
    /// The body breaks off here, or the stream is not known.
    Cut(Error),
    /// The request is not wanted any more, whatever it has come to.
    Cancel,
}

/// The end of a body.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct End {
    /// Its length in bytes, so that a cut body never looks complete.
    pub length: u64,
    /// Trailers.
    pub trailers: HeaderMap,
}

impl StreamMessage {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut fields = Fields::to(&self.to);
        match &self.word {
            Word::Frame { seq, data, end } => {
                fields.seq = Some(*seq);
                fields.data = Some(data);
                fields.length = end.as_ref().map(|end| end.length);
                fields.trailers = end.as_ref().map(|end| &end.trailers).filter(|map| !map.is_empty());
                return codec::encode_with_room(&fields, data.len());
            }
            Word::Credit { bytes } => fields.credit = Some(*bytes),
            Word::Position { frames, credit } => {
                fields.frames = Some(*frames);
                fields.credit = Some(*credit);
            }
            Word::Done => fields.done = Some(true),
            Word::Stop => fields.stop = Some(true),
            Word::Cut(error) => fields.error = Some(error),
            Word::Cancel => fields.cancel = Some(true),
        }
        codec::encode(&fields)
    }

    /// Reads one.
    ///
    /// # Errors
    /// As [`codec::decode()`]; also when it says nothing this version knows.
    pub fn decode(payload: &Bytes) -> Result<StreamMessage, Malformed> {
        let backing = codec::backing(payload);
        let read: Read<'_> = codec::decode(&backing)?;
        let word = match read {
            Read { cancel: true, .. } => Word::Cancel,
            Read { error: Some(error), .. } => Word::Cut(error),
            Read { seq: Some(seq), data, length, trailers, .. } => {
                let trailers = trailers.owned(&backing)?;
                let data = data.map_or_else(Bytes::new, |data| part(&backing, data));
                Word::Frame { seq, data, end: length.map(|length| End { length, trailers }) }
            }
            Read { frames: Some(frames), credit: Some(credit), .. } => Word::Position { frames, credit },
            Read { credit: Some(bytes), .. } => Word::Credit { bytes },
            Read { done: true, .. } => Word::Done,
            Read { stop: true, .. } => Word::Stop,
            _ => return Err(Malformed::new("it says nothing about its stream")),
        };
        Ok(StreamMessage { to: read.to, word })
    }
}

/// A part of a message, without the rest of it when that is most of it: credit counts the part alone.
fn part(backing: &Bytes, data: &[u8]) -> Bytes {
    if data.len() < backing.len() / 2 { Bytes::copy_from_slice(data) } else { backing.slice_ref(data) }
}

/// A message as it is written: one map, with what is said as its fields.
#[derive(Serialize)]
struct Fields<'a> {
    v: u8,
    to: &'a RequestId,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "codec::body::serialize_part")]
    data: Option<&'a Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "codec::headers::serialize_some")]
    trailers: Option<&'a HeaderMap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Error>,
}

impl<'a> Fields<'a> {
    fn to(to: &'a RequestId) -> Self {
        Fields {
            v: VERSION,
            to,
            seq: None,
            data: None,
            length: None,
            trailers: None,
            frames: None,
            credit: None,
            done: None,
            stop: None,
            cancel: None,
            error: None,
        }
    }
}

/// A message as it is read.
#[derive(Deserialize)]
struct Read<'a> {
    to: RequestId,
    #[serde(default)]
    seq: Option<u64>,
    #[serde(default, borrow)]
    data: Option<&'a serde_bytes::Bytes>,
    #[serde(default)]
    length: Option<u64>,
    #[serde(default, borrow)]
    trailers: codec::Pairs<'a>,
    #[serde(default)]
    frames: Option<u64>,
    #[serde(default)]
    credit: Option<u64>,
    #[serde(default)]
    done: bool,
    #[serde(default)]
    stop: bool,
    #[serde(default)]
    cancel: bool,
    #[serde(default)]
    error: Option<Error>,
}
