//! One connection: its lines are read while its requests run, and whatever is wrong with one of them is no harm
//! to the others.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Call, Came, Closed, End, Lines, Prepared, Refused, Served, Stage,
    build::build,
    read::{self, Ask, Id, Refusal, Said, shown},
    reply,
    split::{Cut, Splitter},
    writing::{self, Line, QUEUE},
};
use crate::{
    front::entrance::Socket,
    sync::{Mutex, MutexGuard},
    wire::{Code, Fault, Side, headers::Peer},
};

impl<C: Call> Lines<C> {
    /// Serves one connection to its end.
    pub async fn serve(self: Arc<Self>, socket: Socket, peer: Peer) {
        let counted = Counted::new(&self);
        let (mut from, to) = tokio::io::split(socket);
        let (replies, queue) = mpsc::channel(QUEUE);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let session =
            Arc::new(Session { lines: Arc::clone(&self), number, peer, replies, running: Mutex::default() });
        let why = {
            let mut reading = std::pin::pin!(session.run(&mut from, counted.is_some()));
            let mut writing = std::pin::pin!(writing::write(to, queue, self.settings.slow));
            tokio::select! {
                biased;
                // Nobody is there to be answered: what is in flight ends with `reading`.
                written = &mut writing => written.err().unwrap_or(Closed::Gone),
                why = &mut reading => match writing.await {
                    Ok(()) => why,
                    Err(gone) => gone,
                },
            }
        };
        if !matches!(why, Closed::Ended | Closed::Gone | Closed::SlowReader) {
            linger(&mut from).await;
        }
        self.call.closed(why);
    }
}

/// Reads on for a moment: to close a connection on somebody who is still sending would take the last line from him.
async fn linger(from: &mut (impl AsyncRead + Unpin)) {
    let mut space = [0; 4096];
    let reading = async { while from.read(&mut space).await.is_ok_and(|bytes| bytes > 0) {} };
    timeout(LINGER, reading).await.ok();
}

/// A connection among the others.
struct Counted<C: Call>(Arc<Lines<C>>);

impl<C: Call> Counted<C> {
    /// Nothing when there are as many as there may be.
    fn new(lines: &Arc<Lines<C>>) -> Option<Self> {
        let more = |open: usize| (open < lines.settings.max_connections).then_some(open + 1);
        let counted = lines.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.is_ok().then(|| Counted(Arc::clone(lines)))
    }
}

impl<C: Call> Drop for Counted<C> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection and what is in flight on it.
struct Session<C: Call> {
    lines: Arc<Lines<C>>,
    number: u64,
    peer: Peer,
    replies: mpsc::Sender<Line>,
    /// The requests in flight, each with what cancels it, until that is used.
    running: Mutex<HashMap<Id, Option<oneshot::Sender<()>>>>,
}

impl<C: Call> Session<C> {
    /// Takes lines until there are no more, and waits for what they began; then it says why it ends.
    async fn run(self: Arc<Self>, from: &mut (impl AsyncRead + Unpin), admitted: bool) -> Closed {
        let mut requests = JoinSet::new();
        let mut why = match admitted {
            false => Closed::Limit,
            true => self.read(from, &mut requests).await,
        };
        if why == Closed::Gone {
            return why;
        }
        while requests.join_next().await.is_some() {}
        if why == Closed::Ended && self.lines.stage() != Stage::Open {
            why = Closed::Shutdown;
        }
        let sentence = match why {
            Closed::Idle => {
                let idle = humantime::format_duration(self.lines.settings.idle);
                format!("nothing was said for {idle} (--idle-timeout)")
            }
            Closed::Limit => {
                let limit = self.lines.settings.max_connections;
                format!("{limit} connections are open, the limit of --max-connections")
            }
            Closed::Http => "this is no HTTP server: it takes lines of JSON".into(),
            Closed::Shutdown => "the relay is stopping; lines without a reply were not taken".into(),
            Closed::Ended | Closed::Gone | Closed::SlowReader => return why,
        };
        self.say(reply::closing(why, &sentence)).await;
        why
    }

    async fn read(
        self: &Arc<Self>,
        from: &mut (impl AsyncRead + Unpin),
        requests: &mut JoinSet<()>,
    ) -> Closed {
        let mut splitter = Splitter::new(self.lines.settings.max_line);
        let mut stage = self.lines.stage.subscribe();
        let mut speech = Speech::Unheard;
        let mut quiet_since = Instant::now();
        loop {
            while self.lines.stage() == Stage::Open
                && let Some(cut) = splitter.next_line()
            {
                if speech.is_http(&cut) {
                    return Closed::Http;
                }
                self.take(cut, requests).await;
            }
            let idle = quiet_since + self.lines.settings.idle;
            let read = tokio::select! {
                biased;
                // The process is gone when it fails, which is an end as well.
                () = async { drop(stage.wait_for(|stage| *stage != Stage::Open).await) } => return Closed::Shutdown,
                read = from.read_buf(splitter.room()) => read,
                Some(_) = requests.join_next(), if !requests.is_empty() => {
                    quiet_since = Instant::now();
                    continue;
                }
                () = sleep_until(idle), if requests.is_empty() => return Closed::Idle,
            };
            match read {
                Ok(0) => {
                    if let Some(cut) = splitter.end() {
                        self.take(cut, requests).await;
                    }
                    return Closed::Ended;
                }
                Ok(_) => quiet_since = Instant::now(),
                Err(_) => return Closed::Gone,
            }
        }
    }

    async fn take(self: &Arc<Self>, cut: Cut, requests: &mut JoinSet<()>) {
        let refusal = match cut {
            Cut::TooLong => {
                let max = self.lines.settings.max_line;
                let why = format!("the line has more than {max} bytes, the limit of --max-line");
                Err(Refusal { id: None, code: Refused::LineTooLong, why })
            }
            Cut::Line(line) if line.trim_ascii().is_empty() => Ok(()),
            Cut::Line(line) => match read::read(&line) {
                Ok(Said::Ask(ask)) => self.ask(ask, requests).await,
                Ok(Said::Cancel(id)) => self.cancel(id),
                Err(refusal) => Err(refusal),
            },
        };
        if let Err(refusal) = refusal {
            self.lines.call.refused(refusal.code);
            self.say(reply::refused(&refusal)).await;
        }
    }

    async fn ask(self: &Arc<Self>, ask: Ask, requests: &mut JoinSet<()>) -> Result<(), Refusal> {
        let refuse = |code, why| Refusal { id: Some(ask.id.clone()), code, why };
        let found = self.lines.call.find(&ask.name);
        let Some((definition, way)) = found else {
            let why = format!("there is no request '{}'", shown(&ask.name));
            return Err(refuse(Refused::UnknownRequest, why));
        };
        let prepared = build(&definition, &ask).map_err(|(code, why)| refuse(code, why))?;
        let (room, cancelled) = self.admit(&ask.id).map_err(|(code, why)| refuse(code, why))?;
        let id = ask.id.as_str();
        let served = Served {
            connection: self.number,
            peer: self.peer,
            id: shown(id),
            definition,
            end: End::Abandoned,
            status: None,
            took: Duration::ZERO,
        };
        let told = Told { call: Arc::clone(&self.lines.call), served, started: Instant::now() };
        self.say(reply::dispatched(&ask.id)).await;
        let running = Running { id: ask.id, told, room, cancelled };
        requests.spawn(Arc::clone(self).answer(running, way, prepared));
        // Those that have ended need not be kept until there is nothing to read.
        while requests.try_join_next().is_some() {}
        Ok(())
    }

    /// Lets a request in, if there is room.
    fn admit(&self, id: &Id) -> Result<(OwnedSemaphorePermit, oneshot::Receiver<()>), (Refused, String)> {
        let settings = &self.lines.settings;
        let mut running = self.running();
        if running.contains_key(id) {
            return Err((
                Refused::DuplicateId,
                "a request with this id is in flight on this connection".into(),
            ));
        }
        let limit = settings.per_connection;
        if running.len() >= limit {
            let why = format!(
                "{limit} requests are in flight on this connection, the limit of --max-in-flight-per-connection"
            );
            return Err((Refused::Busy, why));
        }
        let Ok(room) = Arc::clone(&self.lines.room).try_acquire_owned() else {
            let limit = settings.max_in_flight;
            return Err((
                Refused::Busy,
                format!("{limit} requests are in flight, the limit of --max-in-flight"),
            ));
        };
        let (cancel, cancelled) = oneshot::channel();
        running.insert(id.clone(), Some(cancel));
        Ok((room, cancelled))
    }

    fn cancel(&self, id: Id) -> Result<(), Refusal> {
        match self.running().get_mut(&id) {
            // Its id is its own until its reply. It may have ended this very moment, and then has another one.
            Some(cancel) => {
                if let Some(cancel) = cancel.take() {
                    cancel.send(()).ok();
                }
                Ok(())
            }
            None => {
                let why = "no request with this id is in flight on this connection".into();
                Err(Refusal { id: Some(id), code: Refused::UnknownId, why })
            }
        }
    }

    async fn answer(self: Arc<Self>, running: Running<C>, way: C::Way, prepared: Prepared) {
        let Running { id, mut told, room, cancelled } = running;
        let (end, came) = self.come(cancelled, way, prepared).await;
        let (end, response, status, share) = match came {
            Some(came) => {
                let kind = came.content_type.as_ref();
                let (end, response) = reply::decide(&told.served.definition, came.status, kind, &came.body);
                (end, response, Some(came.status), Some(came.share))
            }
            None => {
                let response = reply::failed(&end);
                (end, response, None, None)
            }
        };
        // Before its reply: whoever has read that may use the id again, and the room.
        self.running().remove(&id);
        drop(room);
        let bytes = reply::ended(&id, &end, told.started.elapsed(), status, &response);
        told.ended(end, status);
        // What was collected is gone; its place is taken by the line.
        drop(response);
        let shares = share.into_iter().map(|mut share| {
            share.set(bytes.len());
            share
        });
        let shares = shares.collect();
        self.replies.send(Line { bytes, shares }).await.ok();
    }

    /// Waits for the response, or for what comes in its place.
    async fn come(
        &self,
        cancelled: oneshot::Receiver<()>,
        way: C::Way,
        prepared: Prepared,
    ) -> (End, Option<Came>) {
        let mut stage = self.lines.stage.subscribe();
        let limit = prepared.timeout;
        tokio::select! {
            biased;
            Ok(()) = cancelled => (End::Cancelled, None),
            () = async { drop(stage.wait_for(|stage| *stage == Stage::Cut).await) } => (End::Stopped, None),
            came = timeout(limit, self.lines.call.call(way, prepared)) => match came {
                Ok(Ok(came)) => (End::Ok, Some(came)),
                Ok(Err(fault)) => (End::Fault(fault), None),
                Err(_) => {
                    let limit = humantime::format_duration(limit);
                    let detail = format!("the response did not come within {limit}, the request's timeout");
                    (End::Fault(Fault::new(Code::TtlExpired, Side::Client, detail)), None)
                }
            },
        }
    }

    /// Says a line. It waits while the other side does not take what it was told before.
    async fn say(&self, line: Bytes) {
        // Without the writer the connection is over.
        self.replies.send(line.into()).await.ok();
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Id, Option<oneshot::Sender<()>>>> {
        self.running.lock()
    }
}

/// A request in flight.
struct Running<C: Call> {
    id: Id,
    told: Told<C>,
    room: OwnedSemaphorePermit,
    cancelled: oneshot::Receiver<()>,
}

/// A request that is told of when it ends, however it ends.
struct Told<C: Call> {
    call: Arc<C>,
    served: Served,
    started: Instant,
}

impl<C: Call> Told<C> {
    fn ended(&mut self, end: End, status: Option<StatusCode>) {
        self.served.end = end;
        self.served.status = status;
    }
}

impl<C: Call> Drop for Told<C> {
    fn drop(&mut self) {
        self.served.took = self.started.elapsed();
        self.call.served(&self.served);
    }
}

/// What is spoken. A page in somebody's browser may send this socket an HTTP request whose body has lines of JSON: it
/// must not be obeyed.
enum Speech {
    Unheard,
    /// The first line was the beginning of an HTTP request. One such line is a bad line like any other.
    Begun,
    Lines,
}

impl Speech {
    fn is_http(&mut self, cut: &Cut) -> bool {
        let Cut::Line(line) = cut else { return false };
        let is_request = || line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
        let is_header = || {
            let name = line.split(|b| *b == b':').next().unwrap_or_default();
            name.len() < line.len() && http::HeaderName::from_bytes(name).is_ok()
        };
        match self {
            Speech::Unheard if is_request() => *self = Speech::Begun,
            Speech::Begun if is_header() => return true,
            Speech::Unheard | Speech::Begun => *self = Speech::Lines,
            Speech::Lines => {}
        }
        false
    }
}

/// How long is read on after the last line.
const LINGER: Duration = Duration::from_secs(1);
