//! What follows a request or a response whose body does not ride in one message: frames, credit, and the
//! ways a stream ends. All of it is sent on `relay.body.<id>`, where `<id>` is the stream at the addressee.

use super::{
    codec::{
        self, Malformed,
        incoming::{self, each_field, id, missing, once, once_or_nil, pairs},
        reader::Reader,
        writer::{self, Writer},
    },
    ids::RequestId,
    message::{Error, VERSION},
};
use bytes::Bytes;
use http::HeaderMap;

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
        let room = match &self.word {
            Word::Frame { data, end, .. } => {
                data.len() + end.as_ref().map_or(0, |end| writer::room(end.trailers.iter()))
            }
            Word::Credit { .. } | Word::Position { .. } | Word::Done | Word::Stop | Word::Cancel => 0,
            Word::Cut(error) => error.message.len(),
        };
        let mut map = Writer::with_room(HEAD + room);
        map.field("v").number(VERSION.into());
        map.field("to").text(self.to.as_str());
        match &self.word {
            Word::Frame { seq, data, end } => {
                map.field("seq").number(*seq);
                map.field("data").bytes(data);
                if let Some(End { length, trailers }) = end {
                    map.field("length").number(*length);
                    if !trailers.is_empty() {
                        map.field("trailers").headers(trailers.len(), trailers.iter());
                    }
                }
            }
            Word::Credit { bytes } => map.field("credit").number(*bytes),
            Word::Position { frames, credit } => {
                map.field("frames").number(*frames);
                map.field("credit").number(*credit);
            }
            Word::Done => map.field("done").flag(true),
            Word::Stop => map.field("stop").flag(true),
            Word::Cut(error) => map.field("error").error(error),
            Word::Cancel => map.field("cancel").flag(true),
        }
        map.finish()
    }

    /// Reads one.
    ///
    /// # Errors
    /// As [`codec::decode()`]; also when it says nothing this version knows.
    pub fn decode(payload: &Bytes) -> Result<StreamMessage, Malformed> {
        codec::check_version(payload)?;
        let backing = codec::backing(payload);
        let (mut to, mut seq, mut data, mut length, mut trailers) = (None, None, None, None, None);
        let (mut frames, mut credit, mut error) = (None, None, None);
        let (mut done, mut stop, mut cancel) = (None, None, None);
        each_field(&backing, |field, value| match field {
            b"to" => once(&mut to, id(value)?),
            b"seq" => once_or_nil(&mut seq, value, Reader::number),
            b"data" => once_or_nil(&mut data, value, Reader::bytes),
            b"length" => once_or_nil(&mut length, value, Reader::number),
            b"trailers" => once(&mut trailers, HeaderMap::from(pairs(value, &backing)?)),
            b"frames" => once_or_nil(&mut frames, value, Reader::number),
            b"credit" => once_or_nil(&mut credit, value, Reader::number),
            b"done" => once(&mut done, value.flag()?),
            b"stop" => once(&mut stop, value.flag()?),
            b"cancel" => once(&mut cancel, value.flag()?),
            b"error" => once_or_nil(&mut error, value, incoming::error),
            _ => value.any().map(drop),
        })?;
        let is = |flag: Option<bool>| flag.unwrap_or_default();
        let word = match (error, seq, frames, credit) {
            _ if is(cancel) => Word::Cancel,
            (Some(error), ..) => Word::Cut(error),
            (None, Some(seq), ..) => {
                let data = data.map_or_else(Bytes::new, |data| part(&backing, data));
                let trailers = trailers.unwrap_or_default();
                Word::Frame { seq, data, end: length.map(|length| End { length, trailers }) }
            }
            (None, None, Some(frames), Some(credit)) => Word::Position { frames, credit },
            (None, None, None, Some(bytes)) => Word::Credit { bytes },
            _ if is(done) => Word::Done,
            _ if is(stop) => Word::Stop,
            _ => return Err(Malformed::new("it says nothing about its stream")),
        };
        Ok(StreamMessage { to: to.ok_or_else(|| missing("to"))?, word })
    }
}

/// A part of a message, without the rest of it when that is most of it: credit counts the part alone.
fn part(backing: &Bytes, data: &[u8]) -> Bytes {
    if data.len() < backing.len() / 2 { Bytes::copy_from_slice(data) } else { backing.slice_ref(data) }
}

/// Room for what a message has besides a part of a body and trailers.
const HEAD: usize = 192;
