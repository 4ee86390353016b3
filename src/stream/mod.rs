//! Bodies on their way: what reads and writes the streams of one process.
//!
//! [`Streams`] is the table of them, fed with what arrives on `relay.body.*`. A [`Stream`] joins a
//! [`Flow`], which decides, to a [`Reader`] and a [`Writer`], which wait. Memory is
//! bounded by credit: bytes count from when they are granted until they are written out or dropped, and the
//! `budget` of the process makes windows smaller the more of them there are. So a reader that pauses stops the
//! writer at the other end, and no NATS server takes this process for too slow.
//! A body that is needed whole is collected by `collector`, in memory that `memory` bounds.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use http::HeaderMap;

use crate::{
    bus::{Bus, Message},
    proto::flow::{Due, FRAME, Flow, Heard},
    sync::{Mutex, MutexGuard, RwLock},
    wire::{Code, Fault, Kind, RequestId, Side, StreamMessage, Subjects, Word, ids::ByNumber},
};

mod budget;
pub mod collector;
mod gathered;
mod limits;
mod loan;
pub mod memory;
pub mod pace;
mod queue;
mod reader;
pub mod ready;
pub mod tunnel;
mod upload;
mod writer;

pub use gathered::Gathered;
pub use limits::Limits;
pub use reader::Reader;
pub use upload::Upload;
pub use writer::{Over, Writer};

use budget::Budget;
use limits::Moves;
use queue::Queue;

/// The streams of one process.
pub struct Streams {
    bus: Bus,
    subjects: Subjects,
    side: Side,
    limits: RwLock<Limits>,
    budget: Budget,
    table: Mutex<ByNumber<Arc<Stream>>>,
}

/// One stream.
pub struct Stream {
    own: RequestId,
    streams: Arc<Streams>,
    state: Mutex<State>,
}

struct State {
    flow: Flow,
    /// The stream at the other side, once it is known.
    peer: Option<RequestId>,
    /// What was received and not read.
    queue: Queue,
    /// Trailers, once the body is received whole.
    last: Option<HeaderMap>,
    cut: Option<Fault>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Whether a response has been decided on, so that no direction is opened any more.
    settled: bool,
    /// Whether that response is whole, so that what is left of the request's body matters to the origin alone.
    answered: bool,
    /// Bytes that are read and not given back.
    lent: u64,
    /// Bytes of it that the budget counts.
    counted: u64,
    moves: Moves,
    progress: Instant,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// It was for a stream, or for none that is known.
    Stream,
    /// The body it belongs to moved on; said once a second at most.
    Progress,
    /// The request is not wanted any more.
    Cancelled,
}

impl Streams {
    /// No streams yet; they are held to `limits`.
    pub fn new(bus: Bus, subjects: Subjects, side: Side, limits: Limits) -> Arc<Self> {
        let (limits, budget) = (RwLock::new(limits), Budget::default());
        Arc::new(Streams { bus, subjects, side, limits, budget, table: Mutex::default() })
    }

    /// Holds all streams to `limits` from now on.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.write() = limits;
    }

    fn limits(&self) -> Limits {
        *self.limits.read()
    }

    /// Whether so much is granted already that a new body should begin with little.
    pub fn is_crowded(&self) -> bool {
        self.budget.is_crowded()
    }

    /// Streams that are open.
    pub fn len(&self) -> usize {
        self.table().len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.table().is_empty()
    }

    /// The stream of request `own`, opened when it is not.
    ///
    /// # Errors
    /// A fault when as many are open as may be.
    pub fn open(self: &Arc<Self>, own: &RequestId) -> Result<Arc<Stream>, Fault> {
        let mut table = self.table();
        if let Some(stream) = table.get(&own.number()) {
            return Ok(Arc::clone(stream));
        }
        let limit = self.limits().streams;
        if table.len() >= limit {
            let detail = format!("{limit} bodies are streamed, the limit of --max-streams");
            let code = if self.side == Side::Client { Code::ClientFull } else { Code::AgentsFull };
            return Err(Fault::new(code, self.side, detail));
        }
        let stream = Arc::new(Stream {
            own: own.clone(),
            streams: Arc::clone(self),
            state: Mutex::new(State::new(Instant::now())),
        });
        table.insert(own.number(), Arc::clone(&stream));
        Ok(stream)
    }

    /// The stream with that number.
    pub fn get(&self, number: u64) -> Option<Arc<Stream>> {
        self.table().get(&number).cloned()
    }

    /// Takes a message on `relay.body.<own>`.
    pub fn hear(&self, number: u64, said: StreamMessage, reply: Option<&str>) -> Told {
        let cancelled = said.word == Word::Cancel;
        match self.get(number).filter(|stream| stream.own == said.to) {
            Some(stream) => {
                if stream.hear(said.word) && !cancelled {
                    return Told::Progress;
                }
            }
            None => self.deny(&said, reply),
        }
        if cancelled { Told::Cancelled } else { Told::Stream }
    }

    /// NATS says that nobody heard what stream `number` said.
    pub fn unheard(&self, number: u64) {
        if let Some(stream) = self.get(number) {
            let (code, who) = match self.side {
                Side::Client => (Code::AgentGone, "the upstream agent"),
                Side::Broker | Side::Upstream => (Code::StreamCut, "the client agent"),
            };
            stream.fail(Fault::new(code, self.side, format!("{who} is gone while a body was on its way")));
        }
    }

    /// Whoever says where it is with a stream that is not known here would wait in vain.
    fn deny(&self, said: &StreamMessage, reply: Option<&str>) {
        let asker = reply.and_then(|reply| self.subjects.id_of(Kind::Body, reply));
        let asker = asker.filter(|asker| asker.is_beside(&said.to));
        if let (Word::Position { .. }, Some(to)) = (&said.word, asker) {
            let unknown = Fault::new(Code::StreamCut, self.side, "the other side does not know the stream");
            self.publish(&StreamMessage { to, word: Word::Cut((&unknown).into()) });
        }
    }

    /// Says what is due, as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        let mut second = tokio::time::interval(TICK);
        loop {
            second.tick().await;
            self.tick();
        }
    }

    fn tick(&self) {
        let open: Vec<_> = self.table().values().cloned().collect();
        let (now, limits) = (Instant::now(), self.limits());
        for stream in open {
            stream.tick(now, &limits);
        }
    }

    /// Cuts every stream: the process ends.
    pub fn cut_all(&self) {
        let open: Vec<_> = self.table().values().cloned().collect();
        for stream in open {
            stream.cut(Fault::new(Code::StreamCut, self.side, "the agent was stopped before the body's end"));
        }
    }

    /// Bytes of one frame at most.
    pub fn frame(&self) -> usize {
        FRAME.min(self.bus.max_payload() / 2)
    }

    fn publish(&self, message: &StreamMessage) -> bool {
        self.bus.publish(self.subjects.of_request(Kind::Body, &message.to), message.encode()).is_ok()
    }

    fn table(&self) -> MutexGuard<'_, ByNumber<Arc<Stream>>> {
        self.table.lock()
    }
}

impl State {
    fn new(now: Instant) -> Self {
        State {
            flow: Flow::new(now),
            peer: None,
            queue: Queue::default(),
            last: None,
            cut: None,
            reader: None,
            writer: None,
            settled: false,
            answered: false,
            lent: 0,
            counted: 0,
            moves: Moves::new(now),
            progress: now,
        }
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    fn is_over(&self) -> bool {
        self.cut.is_some() || (self.settled && self.flow.is_over())
    }
}

impl Stream {
    /// Its id here.
    pub fn id(&self) -> &RequestId {
        &self.own
    }

    /// Bytes sent so far.
    pub fn sent(&self) -> u64 {
        self.state().flow.sent()
    }

    /// The other side is known: what is written may go there. An id of another upstream ends the stream.
    pub fn connect(&self, peer: &RequestId) {
        if !peer.is_beside(&self.own) {
            let detail = "the other side names an id of another upstream";
            self.fail(Fault::new(Code::BadMessage, self.streams.side, detail));
            return;
        }
        let mut state = self.state();
        state.peer.get_or_insert_with(|| peer.clone());
        state.wake();
    }

    /// No direction will be opened any more: when those that are have ended, the stream is forgotten.
    pub fn settle(&self) {
        let mut state = self.state();
        state.settled = true;
        self.forget_when_over(state);
    }

    /// The request whose body is sent has its whole response, from `peer` if that is known. What is left of the body
    /// goes there as long as it moves; without a peer it goes nowhere.
    pub fn settle_answered(&self, peer: Option<&RequestId>) {
        let mut state = self.state();
        (state.settled, state.answered) = (true, true);
        if state.peer.is_none() {
            state.peer = peer.cloned();
        }
        if state.peer.is_none() {
            state.flow.stop_sending();
        }
        state.wake();
        self.forget_when_over(state);
    }

    /// Receives a body, `granted` bytes of which need no permission.
    pub fn reader(self: &Arc<Self>, granted: u64) -> Reader {
        let mut state = self.state();
        state.flow.open_receiving(granted);
        self.streams.budget.count(&mut state);
        drop(state);
        Reader::new(Arc::clone(self))
    }

    /// Sends a body, `credit` bytes of which need no permission.
    pub fn writer(self: &Arc<Self>, credit: u64) -> Writer {
        self.state().flow.open_sending(credit);
        Writer::new(Arc::clone(self))
    }

    /// Lets the other side send, which had to wait for it.
    pub fn let_in(&self) {
        self.give_back(&mut self.state(), 0);
    }

    /// `bytes` that were received need no memory here any more: the other side may send as many.
    fn give_back(&self, state: &mut State, bytes: u64) {
        let now = Instant::now();
        if bytes > 0 {
            state.moves.read(now);
        }
        if let Some(word) = state.flow.read(bytes, self.streams.budget.window(), now) {
            self.tell(state, word);
        }
        self.streams.budget.count(state);
    }

    /// Takes a word of the other side; returns whether the body that is received moved on.
    fn hear(&self, word: Word) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        match state.flow.hear(word, now) {
            Heard::Nothing => return false,
            Heard::Data(data) => {
                state.moves.received(data.len(), now);
                state.queue.push(data);
                state.reader.take().into_iter().for_each(Waker::wake);
                let moved = now.duration_since(state.progress) >= PROGRESS;
                if moved {
                    state.progress = now;
                }
                return moved;
            }
            Heard::Last(data, trailers) => {
                state.moves.received(data.len(), now);
                state.queue.push(data);
                state.last = Some(trailers);
                state.reader.take().into_iter().for_each(Waker::wake);
                self.tell(&state, Word::Done);
            }
            Heard::Again(word) => self.tell(&state, word),
            Heard::Room => state.writer.take().into_iter().for_each(Waker::wake),
            Heard::Delivered | Heard::Stopped => state.wake(),
            Heard::Cancelled => {
                state.cut = Some(Fault::new(Code::StreamCut, self.streams.side, "the caller went away"));
                state.wake();
            }
            Heard::Cut(fault) => {
                state.cut = Some(fault);
                state.wake();
            }
            Heard::Broken(why) => {
                drop(state);
                self.fail(Fault::new(Code::StreamCut, self.streams.side, why));
                return false;
            }
        }
        self.forget_when_over(state);
        false
    }

    fn tick(&self, now: Instant, limits: &Limits) {
        let mut state = self.state();
        if let Some(fault) = state.overdue(self.streams.side, limits, now) {
            drop(state);
            self.fail(fault);
            return;
        }
        let Some(peer) = state.peer.clone() else { return };
        let due = state.flow.tick(self.streams.budget.window(), now);
        self.streams.budget.count(&mut state);
        match due {
            Due::Nothing => {}
            Due::Say(word) => {
                drop(state);
                let subjects = &self.streams.subjects;
                let to = subjects.of_request(Kind::Body, &peer);
                let reply = subjects.of_request(Kind::Body, &self.own);
                // Said again in a while, should the queue be full.
                self.streams.bus.ask(to, reply, StreamMessage { to: peer, word }.encode()).ok();
            }
            Due::Silent => {
                drop(state);
                let why = "nothing was heard of the other side of a body for too long";
                self.fail(Fault::new(Code::StreamCut, self.streams.side, why));
            }
        }
    }

    /// Ends it here because of `fault`, and tells the other side.
    pub fn fail(&self, fault: Fault) {
        self.cut(fault);
    }

    fn cut(&self, fault: Fault) {
        let mut state = self.state();
        if state.cut.is_none() {
            // A client agent does not want the request any more; an agent has no more of the response.
            let word = match self.streams.side {
                Side::Client => Word::Cancel,
                Side::Broker | Side::Upstream => Word::Cut((&fault).into()),
            };
            self.tell(&state, word);
            state.cut = Some(fault);
            state.wake();
        }
        self.forget_when_over(state);
    }

    fn tell(&self, state: &State, word: Word) {
        if let Some(to) = state.peer.clone() {
            // When the queue to NATS is full, the next position makes it good.
            self.streams.publish(&StreamMessage { to, word });
        }
    }

    fn forget_when_over(&self, mut state: MutexGuard<'_, State>) {
        self.streams.budget.count(&mut state);
        let over = state.is_over();
        drop(state);
        if over {
            self.streams.table().remove(&self.own.number());
        }
    }

    /// Is ready with a fault when the stream was cut, or with `None` when the other side wants no more.
    fn poll_over(&self, cx: &mut Context<'_>) -> Poll<Over> {
        let mut state = self.state();
        if let Some(fault) = &state.cut {
            return Poll::Ready(Over::Cut(fault.clone()));
        }
        if !state.flow.is_sending() {
            return Poll::Ready(Over::Stopped);
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until the stream is cut, which is for whoever waits for what comes before a reader.
    pub async fn lost(&self) -> Fault {
        poll_fn(|cx| {
            let mut state = self.state();
            match &state.cut {
                Some(fault) => Poll::Ready(fault.clone()),
                None => {
                    state.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<usize, Over>> {
        if let Poll::Ready(over) = self.poll_over(cx) {
            return Poll::Ready(Err(over));
        }
        let mut state = self.state();
        match state.flow.room() {
            room @ 1.. if state.peer.is_some() => {
                Poll::Ready(Ok(usize::try_from(room).unwrap_or(usize::MAX)))
            }
            _ => {
                state.moves.starves();
                Poll::Pending
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.budget.forget(self.state().counted);
    }
}

/// Reads what a message on `relay.body.<id>` says.
///
/// # Errors
/// As [`StreamMessage::decode`].
pub fn read(message: &Message) -> Result<StreamMessage, crate::wire::codec::Malformed> {
    StreamMessage::decode(&message.payload)
}

const PROGRESS: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_secs(1);
