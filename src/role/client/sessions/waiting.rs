//! Whoever waits in sessions here, or sends, or has received: what is said to them finds them by their number.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, time::timeout};

use super::Sessions;
use crate::{
    proto::rendezvous::receiver::{KEPT, Kept, absent},
    sync::{Mutex, MutexGuard},
    wire::{
        Code, Fault, Meet, RequestId, SessionId, Side,
        ids::ByNumber,
        session::{Say, upstream},
    },
};

/// Everybody.
pub struct Table {
    state: Mutex<State>,
    most: usize,
    most_of_one: usize,
}

#[derive(Default)]
struct State {
    entries: ByNumber<Entry>,
    /// Requests that wait, by session.
    waits: HashMap<SessionId, usize>,
    all: usize,
    /// Those of them that are in, and do nothing but wait.
    entered: usize,
    /// Those that have received, in the order in which they may be forgotten.
    kept: VecDeque<(Instant, u64)>,
}

enum Entry {
    /// A request, which hears what is said to it.
    Waiting(mpsc::Sender<Heard>),
    /// One that is answered.
    Kept(Kept),
}

/// What a request hears.
#[derive(Debug)]
pub enum Heard {
    /// Somebody says something.
    Meet(Meet),
    /// Nobody is there to whom it said something.
    Nobody,
}

/// A request that waits or sends; forgotten when it is dropped.
pub struct Waiting {
    own: RequestId,
    session: SessionId,
    heard: mpsc::Receiver<Heard>,
    table: Arc<Table>,
    /// Whether it counts as one that waits, and as one that is in.
    counts: bool,
    entered: bool,
    /// Whether its entry stays behind.
    kept: bool,
}

impl Table {
    /// Nobody; at most `most` may wait, and `most_of_one` in one session.
    pub fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Table { state: Mutex::default(), most, most_of_one })
    }

    /// Requests that wait.
    pub fn waits(&self) -> usize {
        self.state().entered
    }

    /// Takes what is said to request `number`; returns the answer when nobody need be asked for it.
    pub fn hear(&self, number: u64, said: Meet) -> Option<Meet> {
        match self.state().entries.get(&number) {
            Some(Entry::Waiting(heard)) => {
                // Whoever does not hear it is told again.
                heard.try_send(Heard::Meet(said)).ok();
                None
            }
            Some(Entry::Kept(kept)) => kept.answer(&said),
            None => absent(&said),
        }
    }

    /// Nobody is there to whom request `number` said something.
    pub fn nobody(&self, number: u64) {
        if let Some(Entry::Waiting(heard)) = self.state().entries.get(&number) {
            heard.try_send(Heard::Nobody).ok();
        }
    }

    /// What request `number` has received is known, for a while.
    pub fn keep(&self, number: u64, kept: Kept) {
        let mut state = self.state();
        let now = Instant::now();
        let over = matches!(kept, Kept::Received { .. });
        state.entries.insert(number, Entry::Kept(kept));
        if over {
            state.kept.push_back((now + KEPT, number));
        }
        while let Some((until, number)) = state.kept.front().copied()
            && (until <= now || state.kept.len() > self.most)
        {
            state.kept.pop_front();
            state.entries.remove(&number);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Waiting {
    /// A new one, in a session.
    pub fn new(sessions: &Sessions, id: &SessionId) -> Result<Waiting, Fault> {
        let table = Arc::clone(&sessions.table);
        let own = sessions.asker.mint(&upstream());
        let (sender, heard) = mpsc::channel(UNHEARD);
        {
            let mut state = table.state();
            let of_one = state.waits.get(id).copied().unwrap_or_default();
            if state.all >= table.most {
                let detail =
                    format!("{} requests wait in sessions, the limit of --max-session-waits", table.most);
                return Err(Fault::new(Code::SessionsFull, Side::Client, detail));
            }
            if of_one >= table.most_of_one {
                let detail =
                    format!("{of_one} requests wait in this session, the limit of --max-waits-per-session");
                return Err(Fault::new(Code::SessionWaiting, Side::Client, detail));
            }
            state.all += 1;
            state.waits.insert(id.clone(), of_one + 1);
            state.entries.insert(own.number(), Entry::Waiting(sender));
        }
        Ok(Waiting { own, session: id.clone(), heard, table, counts: true, entered: false, kept: false })
    }

    /// Its id.
    pub fn own(&self) -> &RequestId {
        &self.own
    }

    /// What it hears next.
    pub async fn heard(&mut self) -> Heard {
        match self.heard.recv().await {
            Some(heard) => heard,
            // The other end is in the table for as long as this lives.
            None => std::future::pending().await,
        }
    }

    /// It is in.
    pub fn entered(&mut self) {
        self.entered = true;
        self.table.state().entered += 1;
    }

    /// It does not wait any more: it has met somebody.
    pub fn met(&mut self) {
        if std::mem::take(&mut self.counts) {
            let mut state = self.table.state();
            state.all -= 1;
            state.entered -= usize::from(self.entered);
            if let Some(of_one) = state.waits.get_mut(&self.session) {
                *of_one -= 1;
                if *of_one == 0 {
                    state.waits.remove(&self.session);
                }
            }
        }
    }

    /// It receives from `from` now, and what comes of that is kept.
    pub fn receives(mut self, from: RequestId) -> (RequestId, Arc<Table>) {
        self.met();
        self.kept = true;
        self.table.keep(self.own.number(), Kept::Receiving { from });
        (self.own.clone(), Arc::clone(&self.table))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.met();
        if !self.kept {
            self.table.state().entries.remove(&self.own.number());
        }
    }
}

impl Sessions {
    /// Whether that request still receives. One that can't be asked in time may.
    pub(super) async fn is_there(&self, other: &RequestId, asking: &mut Waiting) -> bool {
        self.tell(&Meet::new(asking.own().clone(), other.clone(), Say::Ask));
        let answer = async {
            loop {
                match asking.heard().await {
                    Heard::Nobody => return false,
                    Heard::Meet(said) if said.from == *other => match said.say {
                        Say::There => return true,
                        Say::Over => return false,
                        _ => {}
                    },
                    Heard::Meet(_) => {}
                }
            }
        };
        timeout(ANSWER, answer).await.unwrap_or(true)
    }
}

/// What may wait to be heard by one request; more is said again.
const UNHEARD: usize = 64;
const ANSWER: Duration = Duration::from_secs(1);
