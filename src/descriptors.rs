//! File descriptors that connections of callers and to origins may use. Some are kept back for the process itself: for its
//! connection to NATS when that has to be made again, for the admin listener, and for files and name lookups. So a process with as
//! many connections as it may have is still there for its operator, and an upstream agent that can open none says so, instead of
//! calling a healthy origin broken.

use std::{
    fs::File,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit};
use tokio::{sync::Notify, time::timeout};

use crate::telemetry::Throttle;

/// The right to have one connection open. It ends with its handle, which is to live as long as the connection.
#[derive(Debug)]
pub struct Descriptor(&'static Kind);

#[derive(Debug)]
struct Kind {
    open: AtomicUsize,
    freed: Notify,
}

impl Kind {
    const fn new() -> Self {
        Kind { open: AtomicUsize::new(0), freed: Notify::const_new() }
    }

    fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

static CALLERS: Kind = Kind::new();
static ORIGINS: Kind = Kind::new();
/// Whether this process calls origins as well as taking callers: they may not take all there is then.
static IS_SHARED: AtomicBool = AtomicBool::new(false);

/// Leaves half of what there is to connections to origins. It is for a process that has both.
pub fn share_with_origins() {
    IS_SHARED.store(true, Ordering::Relaxed);
}

/// Waits until one more caller may connect.
pub async fn for_caller() -> Descriptor {
    static FULL: Throttle = Throttle::per_second();
    loop {
        let room = limit().saturating_sub(kept_back());
        let room = if IS_SHARED.load(Ordering::Relaxed) { room / 2 } else { room };
        if CALLERS.count() < room.max(1) {
            return Descriptor::take(&CALLERS);
        }
        if let Some(held_back) = FULL.pass(Instant::now()) {
            let limit = limit();
            tracing::warn!(
                limit,
                connections = CALLERS.count(),
                held_back,
                "the limit of open files is reached: new connections wait until others end; raise it (ulimit -n, LimitNOFILE)"
            );
        }
        // The limit may change without a word.
        timeout(LOOK_AGAIN, CALLERS.freed.notified()).await.ok();
    }
}

/// Waits a moment until one more connection to an origin may be opened; `None` when there is still none.
pub async fn for_origin() -> Option<Descriptor> {
    if has_room_for_origin() {
        return Some(Descriptor::take(&ORIGINS));
    }
    let freed = async {
        while !has_room_for_origin() {
            ORIGINS.freed.notified().await;
        }
        Descriptor::take(&ORIGINS)
    };
    timeout(WAIT, freed).await.ok()
}

/// Whether this process can't open anything at the moment: it has all the connections that it may have, or the system has nothing
/// left.
pub fn are_exhausted() -> bool {
    !has_room_for_origin() || File::open("/dev/null").is_err_and(|error| is_exhaustion(&error))
}

/// Whether an error says that this process, or its machine, has no descriptor left (EMFILE, ENFILE).
pub fn is_exhaustion(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// Connections that the admin listener has at once, at most.
pub fn for_admin() -> usize {
    (kept_back() / 4).max(1)
}

fn has_room_for_origin() -> bool {
    ORIGINS.count() + CALLERS.count() < limit().saturating_sub(kept_back()).max(1)
}

/// The process's limit of open files.
fn limit() -> usize {
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

fn kept_back() -> usize {
    KEPT_BACK.min(limit() / 2)
}

impl Descriptor {
    fn take(kind: &'static Kind) -> Self {
        kind.open.fetch_add(1, Ordering::Relaxed);
        Descriptor(kind)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        CALLERS.freed.notify_one();
        ORIGINS.freed.notify_one();
    }
}

/// Descriptors that connections may not use. A dozen are in use from the start.
const KEPT_BACK: usize = 64;
/// How long a request waits for another connection to end, at most.
const WAIT: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_secs(1);
