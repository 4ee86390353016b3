//! One stream: bodies that follow a request or a response in frames, under credit.
//!
//! Both sides of a stream run the same machine; each has a direction it sends and one it receives. NATS
//! delivers at most once, so nothing is taken for granted: frames are numbered, credit is a total that only
//! grows, the end tells the length, and who has nothing to say for a while says how far it is. A lost frame
//! fails the body; a lost credit is made good; a body without its end is never complete.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;

use self::ahead::Ahead;
use crate::wire::{End, Fault, Word};

mod ahead;

/// One side of a stream.
#[derive(Debug)]
pub struct Flow {
    sending: Sending,
    receiving: Receiving,
    heard: Instant,
    said: Instant,
}

/// The direction this side sends.
#[derive(Debug)]
struct Sending {
    stage: Stage,
    frames: u64,
    bytes: u64,
    credit: u64,
}

/// The direction this side receives.
#[derive(Debug)]
struct Receiving {
    stage: Stage,
    frames: u64,
    bytes: u64,
    read: u64,
    granted: u64,
    ahead: Ahead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No body in this direction, or not yet.
    Unused,
    Open,
    /// Sent to its end, and the other side has not said that it has it.
    Ended,
    Closed,
}

/// What a word of the other side comes to.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// Nothing new.
    Nothing,
    /// More of the body.
    Data(Bytes),
    /// The last of the body; [`Word::Done`] is to be said.
    Last(Bytes, HeaderMap),
    /// More may be sent.
    Room,
    /// What was sent arrived whole.
    Delivered,
    /// The other side wants no more of what is sent.
    Stopped,
    /// The request is not wanted any more.
    Cancelled,
    /// The other side can't go on.
    Cut(Fault),
    /// The rules were broken or something was lost; the stream must be cut.
    Broken(&'static str),
    /// Say this: the other side missed it.
    Again(Word),
}

/// What is due after some time.
#[derive(Debug, PartialEq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// Say this, and find out whether anybody hears it.
    Say(Word),
    /// The other side has been silent for too long.
    Silent,
}

impl Flow {
    /// A stream of which neither direction is used yet.
    pub fn new(now: Instant) -> Self {
        Flow {
            sending: Sending { stage: Stage::Unused, frames: 0, bytes: 0, credit: 0 },
            receiving: Receiving {
                stage: Stage::Unused,
                frames: 0,
                bytes: 0,
                read: 0,
                granted: 0,
                ahead: Ahead::new(),
            },
            heard: now,
            said: now,
        }
    }

    /// Begins to send; `credit` bytes need no permission.
    pub fn open_sending(&mut self, credit: u64) {
        if self.sending.stage == Stage::Unused {
            self.sending.stage = Stage::Open;
            self.sending.credit = self.sending.credit.max(credit);
        }
    }

    /// Begins to receive; `granted` bytes need no permission.
    pub fn open_receiving(&mut self, granted: u64) {
        if self.receiving.stage == Stage::Unused {
            self.receiving.stage = Stage::Open;
            self.receiving.granted = granted;
        }
    }

    /// Whether this side sends.
    pub fn is_sending(&self) -> bool {
        self.sending.stage == Stage::Open
    }

    /// Whether this side receives.
    pub fn is_receiving(&self) -> bool {
        self.receiving.stage == Stage::Open
    }

    /// Whether both directions are finished or unused.
    pub fn is_over(&self) -> bool {
        let over = |stage| matches!(stage, Stage::Unused | Stage::Closed);
        over(self.sending.stage) && over(self.receiving.stage)
    }

    /// Bytes that may be sent now.
    pub fn room(&self) -> u64 {
        self.sending.credit.saturating_sub(self.sending.bytes)
    }

    /// Bytes sent so far.
    pub fn sent(&self) -> u64 {
        self.sending.bytes
    }

    /// A frame of no more than [`Flow::room`] bytes.
    pub fn send(&mut self, data: Bytes, now: Instant) -> Word {
        self.frame(data, None, now)
    }

    /// The last frame.
    pub fn finish(&mut self, trailers: HeaderMap, now: Instant) -> Word {
        let end = End { length: self.sending.bytes, trailers };
        self.sending.stage = Stage::Ended;
        self.frame(Bytes::new(), Some(end), now)
    }

    fn frame(&mut self, data: Bytes, end: Option<End>, now: Instant) -> Word {
        let seq = self.sending.frames;
        self.sending.frames += 1;
        self.sending.bytes += data.len() as u64;
        self.said = now;
        Word::Frame { seq, data, end }
    }

    /// Whoever takes what was received has taken `bytes` of it and may have `most` ahead of that; returns
    /// the credit when it is worth telling.
    pub fn read(&mut self, bytes: u64, most: u64, now: Instant) -> Option<Word> {
        let receiving = &mut self.receiving;
        let window = receiving.ahead.window().min(most);
        receiving.read += bytes;
        let allowed = receiving.read + window;
        let gained = allowed.saturating_sub(receiving.granted);
        if receiving.stage != Stage::Open || gained == 0 || gained < window / 2 {
            return None;
        }
        receiving.ahead.told(receiving.granted, now);
        receiving.granted = allowed;
        self.said = now;
        Some(Word::Credit { bytes: allowed })
    }

    /// Takes a word of the other side.
    pub fn hear(&mut self, word: Word, now: Instant) -> Heard {
        self.heard = now;
        match word {
            Word::Frame { seq, data, end } => self.receive(seq, data, end, now),
            Word::Credit { bytes } => self.credit(bytes),
            Word::Position { frames, credit } => self.position(frames, credit),
            Word::Done => self.delivered(),
            Word::Stop => match self.sending.stage {
                Stage::Unused | Stage::Closed => Heard::Nothing,
                Stage::Open | Stage::Ended => {
                    self.sending.stage = Stage::Closed;
                    Heard::Stopped
                }
            },
            Word::Cut(error) => Heard::Cut(error.into()),
            Word::Cancel => Heard::Cancelled,
        }
    }

    fn receive(&mut self, seq: u64, data: Bytes, end: Option<End>, now: Instant) -> Heard {
        let receiving = &mut self.receiving;
        if receiving.stage != Stage::Open || seq < receiving.frames {
            return Heard::Nothing;
        }
        if seq > receiving.frames {
            return Heard::Broken("a part of the body was lost on its way");
        }
        receiving.ahead.heard(receiving.bytes, receiving.read, now);
        receiving.frames += 1;
        receiving.bytes += data.len() as u64;
        if receiving.bytes > receiving.granted {
            return Heard::Broken("more of the body came than was allowed");
        }
        match end {
            None => Heard::Data(data),
            Some(end) if end.length == receiving.bytes => {
                receiving.stage = Stage::Closed;
                Heard::Last(data, end.trailers)
            }
            Some(_) => Heard::Broken("the body's length is not what its end says"),
        }
    }

    fn credit(&mut self, bytes: u64) -> Heard {
        if bytes <= self.sending.credit {
            return Heard::Nothing;
        }
        self.sending.credit = bytes;
        Heard::Room
    }

    fn position(&mut self, frames: u64, credit: u64) -> Heard {
        match self.receiving.stage {
            Stage::Open if frames > self.receiving.frames => {
                Heard::Broken("a part of the body was lost on its way")
            }
            // A credit that was lost first: the sender is held up by that. The next position brings the rest.
            Stage::Closed if credit <= self.sending.credit => Heard::Again(Word::Done),
            Stage::Unused | Stage::Open | Stage::Ended | Stage::Closed => self.credit(credit),
        }
    }

    fn delivered(&mut self) -> Heard {
        if self.sending.stage != Stage::Ended {
            return Heard::Nothing;
        }
        self.sending.stage = Stage::Closed;
        Heard::Delivered
    }

    /// Stops receiving without the rest.
    pub fn stop_receiving(&mut self) {
        self.receiving.stage = Stage::Closed;
    }

    /// Stops sending without an end.
    pub fn stop_sending(&mut self) {
        self.sending.stage = Stage::Closed;
    }

    /// Bytes that are granted and not read: they are on their way, or here.
    pub fn ahead(&self) -> u64 {
        let receiving = &self.receiving;
        let until = match receiving.stage {
            Stage::Open => receiving.granted,
            // What was granted beyond the end does not come.
            Stage::Closed | Stage::Ended | Stage::Unused => receiving.bytes,
        };
        until.saturating_sub(receiving.read)
    }

    /// Whether all is sent, and the other side has not said that it has it.
    pub fn awaits_done(&self) -> bool {
        self.sending.stage == Stage::Ended
    }

    /// Looks whether something should be said, or should have been heard. What is said grants a reader as much ahead
    /// as [`Flow::read`] does, however little that is more: so a slow reader is told from one that stands still.
    pub fn tick(&mut self, most: u64, now: Instant) -> Due {
        if now.saturating_duration_since(self.heard) >= SILENT {
            return Due::Silent;
        }
        if now.saturating_duration_since(self.said) < ALIVE {
            return Due::Nothing;
        }
        self.said = now;
        let receiving = &mut self.receiving;
        if receiving.stage == Stage::Open && receiving.read > 0 {
            let allowed = receiving.read + receiving.ahead.window().min(most);
            receiving.granted = receiving.granted.max(allowed);
        }
        Due::Say(Word::Position { frames: self.sending.frames, credit: self.receiving.granted })
    }
}

/// Bytes of a response that may come before any credit, those in the reply included, when so many are promised to the
/// requests that have no answer yet; none when that is [`USUAL_FIRST`]. A NATS server cuts off a client that it has 64 MiB
/// for, and all of this may be on its way at once: each may have a quarter of what is free, so that all together have no
/// more than 16 MiB and the least of each (dynamic thresholds, Choudhury and Hahne 1998).
pub fn first_window(promised: u64) -> Option<u64> {
    let window = (AT_ONCE.saturating_sub(promised) / 4).max(LEAST_FIRST);
    (window < USUAL_FIRST).then_some(window)
}

/// Bytes of responses that may come before any credit, over all requests that have no answer yet.
const AT_ONCE: u64 = 16 * 1024 * 1024;
/// Bytes of a response that may always come before any credit.
const LEAST_FIRST: u64 = 4 * 1024;
/// Bytes of a response that may come before any credit as long as few requests are open.
pub const USUAL_FIRST: u64 = INLINE as u64 + FIRST_WINDOW;
/// Bytes of a body that ride in one message with the head however many requests are open.
pub const SMALL: usize = 16 * 1024;
/// Bytes of a body that ride in the message itself at most; half of the server's `max_payload` where that is less.
pub const INLINE: usize = 128 * 1024;
/// Bytes of a body that may be sent before any credit is given. (Not of a request that expects `100 Continue`.)
pub const FIRST_WINDOW: u64 = 64 * 1024;
/// Bytes that every stream may have ahead of its reader, however many there are.
pub const LEAST_WINDOW: u64 = 16 * 1024;
/// Bytes that one stream may have ahead of its reader at most.
pub const LARGEST_WINDOW: u64 = 4 * 1024 * 1024;
/// Bytes in one frame at most; less where the server's `max_payload` is small. A NATS server reads 64 KiB at a
/// time and allocates for each message that goes beyond; smaller frames cost the agents more than that.
pub const FRAME: usize = 24 * 1024;
/// A side that has said nothing for so long says where it is.
pub const ALIVE: Duration = Duration::from_secs(5);
/// A side that has heard nothing for so long takes the other for gone.
pub const SILENT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests;
