//! What of a message has gone out at its receiver's connection.
//!
//! A body knows what it has given to the connection, that what the system has taken, and only both together what
//! of the body that was: the body gives a part only when everything before it is out, so what goes out next is
//! that part and what HTTP/1 puts before it. With HTTP/2 nobody knows more than that a part was given; the next one
//! is asked for when the receiver has let it through.

use std::{fmt, sync::Arc, task::Poll};

use crate::sync::{Mutex, MutexGuard};

/// Is told once how many bytes have gone out, and whether they are all.
pub type Receipt = Box<dyn FnOnce(u64, bool) + Send>;

/// The way of one message through a connection; the body and the connection have one each.
#[derive(Clone)]
pub struct Delivery(Arc<Shared>);

struct Shared(Mutex<State>);

struct State {
    /// Whether there is a connection that says what goes out.
    attached: bool,
    /// Bytes that are out for sure.
    out: u64,
    /// The part on its way: what HTTP puts before it, and its own bytes.
    before: u64,
    part: u64,
    /// Bytes that went out since everything was out last.
    since: u64,
    /// Whether something may not be out yet; the head, to begin with.
    pending: bool,
    ending: Ending,
    receipt: Option<Receipt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// More will come.
    Not,
    /// All was given.
    Whole,
    /// It breaks off here, and the receiver is to be told in a trailer.
    Cut {
        /// Whether the trailer is out.
        told: bool,
    },
}

impl Delivery {
    /// A message of which nothing is out yet.
    pub fn new(receipt: Receipt) -> Self {
        Delivery(Arc::new(Shared(Mutex::new(State {
            attached: false,
            out: 0,
            before: 0,
            part: 0,
            since: 0,
            pending: true,
            ending: Ending::Not,
            receipt: Some(receipt),
        }))))
    }

    /// There is a connection that will say what goes out.
    pub fn attach(&self) {
        self.state().attached = true;
    }

    /// Whether there is one.
    pub fn is_attached(&self) -> bool {
        self.state().attached
    }

    /// Is ready when everything that was given is out. Nobody is woken: once it is, the connection asks for more.
    pub fn poll_out(&self) -> Poll<()> {
        let state = self.state();
        if !state.attached || !state.pending {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// A part of so many bytes is given, in a chunk or as it is.
    pub fn give(&self, bytes: u64, chunked: bool) {
        let mut state = self.state();
        if !state.attached {
            state.out += bytes;
            return;
        }
        let digits = u64::from((u64::BITS - bytes.leading_zeros()).div_ceil(4).max(1));
        state.before = if chunked { digits + 2 } else { 0 };
        state.part = bytes;
        state.pending = true;
    }

    /// All was given.
    pub fn end(&self) {
        let mut state = self.state();
        state.ending = Ending::Whole;
        if !state.attached {
            state.finish();
        }
    }

    /// It breaks off, and the connection tells the receiver.
    pub fn cut(&self) {
        self.state().ending = Ending::Cut { told: false };
    }

    /// Whether the end that goes out now is to have the trailer; said once.
    pub fn takes_trailer(&self) -> bool {
        let mut state = self.state();
        let takes = state.ending == Ending::Cut { told: false };
        if takes {
            state.ending = Ending::Cut { told: true };
        }
        takes
    }

    /// So many bytes of whatever there is are out.
    pub fn wrote(&self, bytes: usize) {
        self.state().since += bytes as u64;
    }

    /// Everything that was given is out. Says whether the message is over.
    pub fn flushed(&self) -> bool {
        let mut state = self.state();
        state.out += state.part;
        (state.part, state.before, state.since, state.pending) = (0, 0, 0, false);
        if state.ending == Ending::Not {
            return false;
        }
        state.finish();
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock()
    }
}

impl State {
    /// What is out of it, now that no more will be.
    fn finish(&mut self) {
        let part = self.since.saturating_sub(self.before).min(self.part);
        let whole = self.ending == Ending::Whole && part == self.part;
        if let Some(receipt) = self.receipt.take() {
            receipt(self.out + part, whole);
        }
    }
}

/// The body and the connection are gone: nothing more goes out.
impl Drop for Shared {
    fn drop(&mut self) {
        self.0.get_mut().finish();
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Delivery")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_is_out_counts_to_the_byte_wherever_it_breaks_off() {
        for (chunked, before) in [(true, 4), (false, 0)] {
            for out in 0..30_u64 {
                let (delivery, told) = delivery();
                delivery.attach();
                delivery.wrote(100);
                assert!(!delivery.flushed(), "the head");
                delivery.give(5, false);
                delivery.wrote(5);
                delivery.flushed();
                delivery.give(20, chunked);
                delivery.wrote(usize::try_from(out).unwrap());
                drop(delivery);
                assert_eq!(told.recv().unwrap(), (5 + out.saturating_sub(before).min(20), false));
            }
        }
    }

    #[test]
    fn a_message_is_whole_when_its_end_is_out() {
        let (delivery, told) = delivery();
        delivery.attach();
        delivery.give(5, false);
        delivery.end();
        assert!(told.try_recv().is_err());
        delivery.wrote(5);
        assert!(delivery.flushed());
        assert_eq!(told.recv().unwrap(), (5, true));
        drop(delivery);
        assert!(told.recv().is_err(), "once");
    }

    #[test]
    fn without_a_connection_what_was_given_counts() {
        let (delivery, told) = delivery();
        delivery.give(5, true);
        delivery.end();
        assert_eq!(told.recv().unwrap(), (5, true));
    }

    fn delivery() -> (Delivery, mpsc::Receiver<(u64, bool)>) {
        let (sender, receiver) = mpsc::channel();
        (Delivery::new(Box::new(move |bytes, whole| sender.send((bytes, whole)).unwrap())), receiver)
    }
}
