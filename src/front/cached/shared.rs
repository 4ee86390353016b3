//! The cache of one client agent behind its lock, what is counted of it, and the tickets that must end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use http::header;
use tokio::sync::oneshot;

use crate::{
    cache::{
        entry::{Head, Question, Stored},
        fill::Fill,
        key::Key,
        store::{Cache, Found, Limits, Released, Resolution, Selector, Ticket},
    },
    sync::{Mutex, MutexGuard},
    wire::Headers,
};

/// The cache of one client agent.
pub struct Shared {
    cache: Mutex<Cache<Waiter>>,
    counts: Counts,
}

pub(super) type Waiter = oneshot::Sender<Resolution>;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    /// Answered with what was stored and fresh.
    Fresh,
    /// Answered with what another fetched at the same time.
    Collapsed,
    /// Answered with what was stored and stale.
    Stale,
    /// Answered with what was stored, which the origin said is still the same.
    Revalidated,
    /// Passed on.
    Missed,
    /// None of a cache's.
    Bypassed,
}

/// Each request is counted once.
#[derive(Default)]
struct Counts {
    fresh: AtomicU64,
    collapsed: AtomicU64,
    stale: AtomicU64,
    revalidated: AtomicU64,
    missed: AtomicU64,
    bypassed: AtomicU64,
}

/// What a cache has, and what became of requests at it; each is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Responses stored.
    pub entries: u64,
    /// Bytes they take, with what is arriving.
    pub bytes: u64,
    /// Bytes that may be taken.
    pub limit: u64,
    /// Requests that wait for what another fetches.
    pub waiting: u64,
    /// Answered with what was stored and fresh.
    pub fresh: u64,
    /// Answered with what another fetched at the same time.
    pub collapsed: u64,
    /// Answered with what was stored and stale.
    pub stale: u64,
    /// Answered with what was stored, which the origin said is still the same.
    pub revalidated: u64,
    /// Passed on.
    pub missed: u64,
    /// None of a cache's.
    pub bypassed: u64,
    /// Responses that had to make room.
    pub evictions: u64,
}

impl Shared {
    /// An empty cache.
    pub fn new(limits: Limits) -> Arc<Shared> {
        Arc::new(Shared { cache: Mutex::new(Cache::new(limits)), counts: Counts::default() })
    }

    /// Forgets what `selector` names; says how many responses that were.
    pub fn purge(&self, selector: &Selector) -> u64 {
        self.cache().purge(selector)
    }

    /// What it has and has done.
    pub fn counted(&self) -> Counted {
        let cache = self.cache();
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        Counted {
            entries: cache.len(),
            bytes: cache.bytes(),
            limit: cache.limit(),
            waiting: cache.waiting(),
            fresh: of(&counts.fresh),
            collapsed: of(&counts.collapsed),
            stale: of(&counts.stale),
            revalidated: of(&counts.revalidated),
            missed: of(&counts.missed),
            bypassed: of(&counts.bypassed),
            evictions: cache.evictions(),
        }
    }

    /// Counts a request.
    pub(super) fn count(&self, became: Became) {
        let counts = &self.counts;
        let counter = match became {
            Became::Fresh => &counts.fresh,
            Became::Collapsed => &counts.collapsed,
            Became::Stale => &counts.stale,
            Became::Revalidated => &counts.revalidated,
            Became::Missed => &counts.missed,
            Became::Bypassed => &counts.bypassed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn cache(&self) -> MutexGuard<'_, Cache<Waiter>> {
        self.cache.lock()
    }

    /// Looks `question` up.
    pub(super) fn look(
        self: &Arc<Self>,
        question: &Question,
        alone: bool,
    ) -> (Found, Option<oneshot::Receiver<Resolution>>) {
        let mut receiver = None;
        let found = self.cache().look(question, alone, Instant::now(), || {
            let (sender, resolved) = oneshot::channel();
            receiver = Some(resolved);
            sender
        });
        (found, receiver)
    }

    /// Forgets what an unsafe request may have changed (RFC 9111 §4.4).
    pub(super) fn invalidate(&self, changed: &Key, headers: &Headers) {
        let beside = [header::LOCATION, header::CONTENT_LOCATION].into_iter().filter_map(|name| {
            let reference = headers.get(name)?.to_str().ok()?;
            changed.beside(reference)
        });
        let named: Vec<_> = beside.chain([changed.clone()]).collect();
        let mut cache = self.cache();
        for key in named {
            cache.purge(&Selector::Url(key));
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// A ticket that ends, whatever becomes of whoever has it.
pub(super) struct Right {
    pub(super) shared: Arc<Shared>,
    ticket: Option<Ticket>,
}

impl Right {
    pub(super) fn new(shared: &Arc<Shared>, ticket: Ticket) -> Right {
        Right { shared: Arc::clone(shared), ticket: Some(ticket) }
    }

    pub(super) fn give_up(mut self, with: Resolution) {
        self.end(with);
    }

    fn end(&mut self, with: Resolution) {
        if let Some(ticket) = self.ticket.take() {
            release(self.shared.cache().give_up(&ticket, with, Instant::now()));
        }
    }

    /// Stores `stored`; says whether it was.
    pub(super) fn store(mut self, question: &Question, stored: &Stored) -> bool {
        let Some(ticket) = self.ticket.take() else { return false };
        let (is_stored, released) = self.shared.cache().store(&ticket, question, stored);
        release(released);
        is_stored
    }

    pub(super) fn begin(
        &self,
        head: Arc<Head>,
        length: Option<u64>,
        anyway: bool,
    ) -> Option<(Arc<Fill>, Released<Waiter>)> {
        let ticket = self.ticket.as_ref()?;
        Some(self.shared.cache().begin(ticket, head, length, anyway))
    }

    pub(super) fn overflowed(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.cache().overflowed(&ticket, Instant::now());
        }
    }
}

impl Drop for Right {
    fn drop(&mut self) {
        self.end(Resolution::Again);
    }
}

pub(super) fn release(released: Released<Waiter>) {
    for waiter in released.waiters {
        // Whoever waited may be gone.
        waiter.send(released.with.clone()).ok();
    }
}
