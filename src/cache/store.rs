//! All that one cache has: what is stored, who is fetching what, and who waits for it.
//!
//! A request that is not answered from the store either gets a [`Ticket`] to fetch the response, or waits for
//! somebody who has one. Whoever has a ticket must end it: with a response that is stored, one that begins to be,
//! or none. A purge marks the tickets it concerns, so that what was asked for before it is not stored after it.

use std::{
    collections::{HashMap, hash_map::RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::header;
use quick_cache::{Lifecycle, Weighter, unsync};

use super::{
    entry::{Head, Question, Stored},
    fill::{Fill, Room},
    fresh::Use,
    key::Key,
    status::Forward,
};
use crate::wire::Headers;

mod purge;

pub use purge::Selector;

/// One cache. `W` is how somebody who waits is told.
pub struct Cache<W> {
    entries: unsync::Cache<Key, Resource, Weigh, RandomState, CountEvictions>,
    flights: HashMap<Key, Vec<Flight<W>>>,
    last: u64,
    limits: Limits,
    room: Arc<Room>,
    /// Responses that are stored.
    stored: Arc<AtomicU64>,
    evicted: Arc<AtomicU64>,
}

/// What a cache is held to, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All of it.
    pub total: u64,
    /// One response.
    pub object: u64,
}

/// The right, and the duty, to fetch a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    key: Key,
    number: u64,
}

/// What becomes of a question.
pub enum Found {
    /// It is answered; what it is answered with may be stale.
    Hit {
        /// With this.
        stored: Stored,
        /// Whether it is stale.
        stale: bool,
        /// To be fetched anew by whoever asked, beside the answer.
        refresh: Option<Ticket>,
    },
    /// It is answered by what is arriving.
    Follow(Arc<Fill>),
    /// Somebody else is fetching it; the waiter will be told.
    Wait(Forward),
    /// It is to be fetched.
    Fetch {
        /// By this right.
        ticket: Ticket,
        /// Why.
        why: Forward,
        /// What is stored and not fresh.
        stored: Option<Stored>,
    },
    /// Nothing is stored, and nothing may be fetched.
    Nothing,
}

/// What those who waited are told.
#[derive(Clone)]
pub enum Resolution {
    /// This came.
    Stored(Stored),
    /// This is coming.
    Follow(Arc<Fill>),
    /// Nobody is fetching it any more: ask again.
    Again,
    /// It can't be shared: let each fetch its own, at once.
    Alone,
    /// It could not be had.
    Failed,
}

/// Those who waited, and what they are told.
pub struct Released<W> {
    /// They.
    pub waiters: Vec<W>,
    /// What.
    pub with: Resolution,
}

enum Resource {
    /// At least one response.
    Variants(Vec<Variant>),
    /// Responses that can't be stored came while others waited for them: until then nobody waits again.
    Passes(Instant),
}

struct Variant {
    stored: Stored,
    _count: Count,
}

/// Counts as long as it lives.
struct Count(Arc<AtomicU64>);

struct Flight<W> {
    number: u64,
    /// The headers it was asked for with.
    asked: Headers,
    /// Whether others may wait for it.
    is_shared: bool,
    /// Whether a purge concerned it.
    is_purged: bool,
    /// The tags that were purged meanwhile.
    tags: Vec<String>,
    state: State<W>,
}

enum State<W> {
    /// No head yet.
    Asked(Vec<W>),
    Arriving(Arc<Fill>),
}

impl<W> Cache<W> {
    /// An empty cache. A quarter of it is for what is arriving.
    pub fn new(limits: Limits) -> Self {
        let arriving = limits.total / 4;
        let limits = Limits { object: limits.object.min(arriving), ..limits };
        let capacity = limits.total - arriving;
        let (stored, evicted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let items = usize::try_from(capacity / USUAL).unwrap_or(usize::MAX).clamp(16, MOST_GHOSTS);
        let counter = CountEvictions(Arc::clone(&evicted));
        Cache {
            entries: unsync::Cache::with(items, capacity, Weigh, RandomState::new(), counter),
            flights: HashMap::new(),
            last: 0,
            limits,
            room: Room::new(arriving),
            stored,
            evicted,
        }
    }

    /// Bytes that one response may have.
    pub fn object_limit(&self) -> u64 {
        self.limits.object
    }

    /// Bytes that may be taken.
    pub fn limit(&self) -> u64 {
        self.limits.total
    }

    /// Those who wait for what another fetches.
    pub fn waiting(&self) -> u64 {
        let waiting = |flight: &Flight<W>| match &flight.state {
            State::Asked(waiters) => waiters.len() as u64,
            State::Arriving(_) => 0,
        };
        self.flights.values().flatten().map(waiting).sum()
    }

    /// Responses stored.
    pub fn len(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes taken, by what is stored and what is arriving.
    pub fn bytes(&self) -> u64 {
        self.entries.weight() + self.room.used()
    }

    /// Responses that had to make room.
    pub fn evictions(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// What becomes of `question`; `alone` when it is not to wait for anybody.
    pub fn look(
        &mut self,
        question: &Question,
        alone: bool,
        now: Instant,
        waiter: impl FnOnce() -> W,
    ) -> Found {
        let resource = self.entries.get(&question.key);
        let passes = matches!(resource, Some(Resource::Passes(until)) if now < *until);
        let (stored, others) = match resource {
            Some(Resource::Variants(variants)) => (selected(variants, question), true),
            Some(Resource::Passes(_)) | None => (None, false),
        };
        let why = match &stored {
            None if others => Forward::VaryMiss,
            None => Forward::UriMiss,
            Some(stored) => match stored.head.fresh.usable(&question.wants, now) {
                Use::Fresh => return hit(stored, false, None),
                Use::Stale => return hit(stored, true, None),
                Use::Refresh => {
                    let refresh = self.refresh(question);
                    return hit(stored, true, refresh);
                }
                Use::Ask => Forward::Stale,
                Use::AskForCaller => Forward::Request,
            },
        };
        if question.wants.only_if_cached {
            return Found::Nothing;
        }
        let shares = !alone && !passes && why != Forward::Request && shares(question, stored.as_ref());
        if shares && let Some(found) = self.join(question, why, now, waiter) {
            return found;
        }
        let ticket = self.open(question, shares);
        Found::Fetch { ticket, why, stored }
    }

    /// What is stored for `question` and may stand in for an error.
    pub fn survivor(&mut self, question: &Question, now: Instant) -> Option<Stored> {
        let Some(Resource::Variants(variants)) = self.entries.get(&question.key) else { return None };
        selected(variants, question).filter(|stored| stored.head.fresh.survives(&question.wants, now))
    }

    /// A ticket to fetch what is stored anew, unless somebody has one.
    fn refresh(&mut self, question: &Question) -> Option<Ticket> {
        let known = self.known(question);
        let busy = self.flights.get(&question.key).is_some_and(|flights| {
            flights.iter().any(|flight| flight.is_shared && !flight.is_purged && known(&flight.asked))
        });
        (!busy).then(|| self.open(question, true))
    }

    /// Whether a request with such headers is likely to get the same: as far as is known what it depends on.
    fn known<'q>(&self, question: &'q Question) -> impl Fn(&Headers) -> bool + use<'q, W> {
        let mut heads: Vec<Arc<Head>> = Vec::new();
        if let Some(Resource::Variants(variants)) = self.entries.peek(&question.key) {
            heads.extend(variants.iter().map(|variant| Arc::clone(&variant.stored.head)));
        }
        for flight in self.flights.get(&question.key).into_iter().flatten() {
            if let State::Arriving(fill) = &flight.state {
                heads.push(Arc::clone(&fill.head));
            }
        }
        move |asked| heads.iter().all(|head| head.vary.same(asked, &question.headers))
    }

    fn join(
        &mut self,
        question: &Question,
        why: Forward,
        now: Instant,
        waiter: impl FnOnce() -> W,
    ) -> Option<Found> {
        self.flights.get(&question.key)?;
        let known = self.known(question);
        for flight in self.flights.get_mut(&question.key)?.iter_mut() {
            if !flight.is_shared || flight.is_purged {
                continue;
            }
            match &mut flight.state {
                State::Arriving(fill) => {
                    let head = &fill.head;
                    let fresh = matches!(head.fresh.usable(&question.wants, now), Use::Fresh);
                    if head.vary.matches(&question.headers) && fresh {
                        return Some(Found::Follow(Arc::clone(fill)));
                    }
                }
                State::Asked(waiters) if known(&flight.asked) => {
                    waiters.push(waiter());
                    return Some(Found::Wait(why));
                }
                State::Asked(_) => {}
            }
        }
        None
    }

    fn open(&mut self, question: &Question, is_shared: bool) -> Ticket {
        self.last += 1;
        let flight = Flight {
            number: self.last,
            asked: question.headers.clone(),
            is_shared,
            is_purged: false,
            tags: Vec::new(),
            state: State::Asked(Vec::new()),
        };
        self.flights.entry(question.key.clone()).or_default().push(flight);
        Ticket { key: question.key.clone(), number: self.last }
    }

    fn close(&mut self, ticket: &Ticket) -> Option<Flight<W>> {
        let flights = self.flights.get_mut(&ticket.key)?;
        let at = flights.iter().position(|flight| flight.number == ticket.number)?;
        let flight = flights.swap_remove(at);
        if flights.is_empty() {
            self.flights.remove(&ticket.key);
        }
        Some(flight)
    }

    /// Ends a ticket with nothing that is stored.
    pub fn give_up(&mut self, ticket: &Ticket, with: Resolution, now: Instant) -> Released<W> {
        let waiters = self.close(ticket).map(Flight::waiters).unwrap_or_default();
        if matches!(with, Resolution::Alone) && !waiters.is_empty() {
            self.pass(&ticket.key, now);
        }
        Released { waiters, with }
    }

    /// For a while nobody waits for what `key` names, as long as nothing is stored there.
    fn pass(&mut self, key: &Key, now: Instant) {
        if !matches!(self.entries.peek(key), Some(Resource::Variants(_))) {
            self.entries.insert(key.clone(), Resource::Passes(now + PASSES));
        }
    }

    /// Ends a ticket with a whole response, which is stored unless it was purged meanwhile. Says whether it was.
    pub fn store(&mut self, ticket: &Ticket, question: &Question, stored: &Stored) -> (bool, Released<W>) {
        let Some(flight) = self.close(ticket) else {
            return (false, Released { waiters: Vec::new(), with: Resolution::Again });
        };
        let may = !flight.is_purged_for(&stored.head) && stored.size() as u64 <= self.object_size();
        if may {
            self.insert(question, stored.clone());
        }
        (may, Released { waiters: flight.waiters(), with: Resolution::Stored(stored.clone()) })
    }

    /// What one response may take, with all that belongs to it.
    fn object_size(&self) -> u64 {
        self.limits.object + self.limits.object / 4 + HEADS
    }

    fn insert(&mut self, question: &Question, stored: Stored) {
        self.stored.fetch_add(1, Ordering::Relaxed);
        let variant = Variant { stored, _count: Count(Arc::clone(&self.stored)) };
        let mut variants = match self.entries.remove(&question.key) {
            Some((_, Resource::Variants(variants))) => variants,
            Some((_, Resource::Passes(_))) | None => Vec::new(),
        };
        variants.retain(|other| !other.stored.matches(question));
        variants.push(variant);
        // One URL must not take all there is; nor may its variants be many, they are looked through.
        let most = (self.limits.total / 4).max(self.object_size());
        while variants.len() > MOST_VARIANTS || variants.len() > 1 && size_of_all(&variants) > most {
            variants.remove(0);
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        self.entries.insert(question.key.clone(), Resource::Variants(variants));
    }

    /// The head of a response came, whose body of `length` bytes, if that is known, will follow. It is stored when
    /// it ends; without readers it goes on when its length is known or when it is wanted `anyway`.
    pub fn begin(
        &mut self,
        ticket: &Ticket,
        head: Arc<Head>,
        length: Option<u64>,
        anyway: bool,
    ) -> (Arc<Fill>, Released<W>) {
        let persists = anyway || length.is_some();
        let fill = Fill::new(head, self.limits.object, persists, Arc::clone(&self.room));
        let flights = self.flights.get_mut(&ticket.key).into_iter().flatten();
        let mut waiters = Vec::new();
        for flight in flights.filter(|flight| flight.number == ticket.number) {
            flight.is_purged = flight.is_purged_for(&fill.head);
            let arriving = State::Arriving(Arc::clone(&fill));
            if let State::Asked(waiting) = std::mem::replace(&mut flight.state, arriving) {
                waiters = waiting;
            }
        }
        (Arc::clone(&fill), Released { waiters, with: Resolution::Follow(fill) })
    }

    /// What was arriving is too large to be stored.
    pub fn overflowed(&mut self, ticket: &Ticket, now: Instant) {
        self.close(ticket);
        self.pass(&ticket.key, now);
    }

    /// Forgets what is stored for `question`: the origin has another by now.
    pub fn forget(&mut self, question: &Question) {
        if !matches!(self.entries.peek(&question.key), Some(Resource::Variants(_))) {
            return;
        }
        if let Some((key, Resource::Variants(mut variants))) = self.entries.remove(&question.key) {
            variants.retain(|variant| !variant.stored.matches(question));
            if !variants.is_empty() {
                self.entries.insert(key, Resource::Variants(variants));
            }
        }
    }
}

fn hit(stored: &Stored, stale: bool, refresh: Option<Ticket>) -> Found {
    Found::Hit { stored: stored.clone(), stale, refresh }
}

/// The newest response that answers.
fn selected(variants: &[Variant], question: &Question) -> Option<Stored> {
    let matching = variants.iter().filter(|variant| variant.stored.matches(question));
    matching.max_by_key(|variant| variant.stored.head.fresh.came()).map(|variant| variant.stored.clone())
}

/// Whether others can be answered by what this question gets, and it by what they get: not when it asks for a part
/// or on a condition, unless that is left to us.
fn shares(question: &Question, stored: Option<&Stored>) -> bool {
    let asks = |name| question.headers.contains_key(name);
    let wants = &question.wants;
    let whole = stored.is_some_and(|stored| stored.head.has_validator())
        || ![header::RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE].into_iter().any(asks);
    whole && !question.head && !wants.no_store && !wants.no_cache && wants.max_age != Some(Duration::ZERO)
}

fn size_of_all(variants: &[Variant]) -> u64 {
    variants.iter().map(|variant| variant.stored.size() as u64).sum()
}

impl Resource {
    fn len(&self) -> u64 {
        match self {
            Resource::Variants(variants) => variants.len() as u64,
            Resource::Passes(_) => 0,
        }
    }
}

impl<W> Flight<W> {
    fn waiters(self) -> Vec<W> {
        match self.state {
            State::Asked(waiters) => waiters,
            State::Arriving(_) => Vec::new(),
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an entry takes, its key and its place included.
struct Weigh;

impl Weighter<Key, Resource> for Weigh {
    fn weight(&self, key: &Key, resource: &Resource) -> u64 {
        let body = match resource {
            Resource::Variants(variants) => size_of_all(variants),
            Resource::Passes(_) => 0,
        };
        body + key.as_str().len() as u64 + PER_ENTRY
    }
}

struct CountEvictions(Arc<AtomicU64>);

impl Lifecycle<Key, Resource> for CountEvictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: Key, resource: Resource) {
        self.0.fetch_add(resource.len(), Ordering::Relaxed);
    }
}

/// How long nobody waits for what could not be stored.
const PASSES: Duration = Duration::from_secs(120);
/// Variants of one URL at most.
const MOST_VARIANTS: usize = 64;
/// What an entry takes besides what is in it.
const PER_ENTRY: u64 = 256;
/// What a head may take besides its body.
const HEADS: u64 = 128 * 1024;
/// A usual entry, for how many that were evicted are remembered; and of those at most.
const USUAL: u64 = 16 * 1024;
const MOST_GHOSTS: usize = 1 << 20;

#[cfg(test)]
mod tests;
