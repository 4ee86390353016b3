//! Memory for bodies: what a process may hold of them at once, and what each of them takes of that.
//!
//! A [`Budget`] refuses what it has no room for; a [`Reserve`] lets it wait. What either gives is owned together with
//! the bytes it was taken for, by [`owned`], and returns when the last of these bytes is dropped.

use std::sync::{
    Arc,
    atomic::{AtomicIsize, Ordering},
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::wire::{Code, Fault, Side};

/// Bytes of bodies that one process may hold.
#[derive(Clone)]
pub struct Budget {
    pool: Arc<Pool>,
}

struct Pool {
    /// Bytes that are left; less than none after [`Share::set`].
    left: AtomicIsize,
    limit: usize,
}

/// A share of a [`Budget`]. Dropping it gives it back.
pub struct Share {
    pool: Arc<Pool>,
    bytes: usize,
}

/// Memory that a body takes while it is collected.
pub trait Hold: Send + 'static {
    /// Takes or gives back, so that this is `bytes`.
    ///
    /// # Errors
    /// A fault when there is no room for more.
    fn resize(&mut self, bytes: usize) -> Result<(), Fault>;
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Budget { pool: Arc::new(Pool { left: AtomicIsize::new(signed(limit)), limit }) }
    }

    /// A share of nothing yet.
    pub fn share(&self) -> Share {
        Share { pool: Arc::clone(&self.pool), bytes: 0 }
    }

    /// Takes `bytes`.
    ///
    /// # Errors
    /// A fault when there are not that many left.
    pub fn take(&self, bytes: usize) -> Result<Share, Fault> {
        let mut share = self.share();
        share.resize(bytes)?;
        Ok(share)
    }

    /// Bytes that are taken now.
    pub fn taken(&self) -> usize {
        let left = self.pool.left.load(Ordering::Relaxed);
        usize::try_from(signed(self.pool.limit) - left).unwrap_or_default()
    }
}

impl Share {
    /// Is of `bytes` from now on, whether there is room or not: for what is in memory already.
    pub fn set(&mut self, bytes: usize) {
        self.pool.left.fetch_add(signed(self.bytes) - signed(bytes), Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Hold for Share {
    fn resize(&mut self, bytes: usize) -> Result<(), Fault> {
        if bytes <= self.bytes {
            if bytes < self.bytes {
                self.set(bytes);
            }
            return Ok(());
        }
        let more = signed(bytes - self.bytes);
        let fits = |left: isize| (left >= more).then(|| left - more);
        match self.pool.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => {
                self.bytes = bytes;
                Ok(())
            }
            Err(_) => {
                let limit = self.pool.limit;
                let detail = format!(
                    "there is no room for the body now: --max-buffered lets bodies take {limit} bytes of memory"
                );
                Err(Fault::new(Code::ClientFull, Side::Client, detail))
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Bytes of bodies that one process may hold, for bodies that wait for room.
pub struct Reserve {
    /// It counts KiB.
    room: Arc<Semaphore>,
}

/// Room of a [`Reserve`] for as many bytes as were asked for. Dropping it gives it back.
pub struct Reserved {
    _room: Option<OwnedSemaphorePermit>,
}

impl Reserve {
    /// A reserve of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Reserve { room: Arc::new(Semaphore::new(kib(limit) as usize)) }
    }

    /// Waits until there is room for `bytes`, which may be no more than the limit.
    pub async fn take(&self, bytes: usize) -> Reserved {
        // It is never closed.
        Reserved { _room: Arc::clone(&self.room).acquire_many_owned(kib(bytes)).await.ok() }
    }
}

impl Hold for Reserved {
    fn resize(&mut self, _: usize) -> Result<(), Fault> {
        // There is room for the largest body that is collected with it.
        Ok(())
    }
}

/// `bytes` that own what was taken for them: it is given back when the last clone of them is dropped.
pub fn owned(bytes: Bytes, hold: impl Hold) -> Bytes {
    if bytes.is_empty() {
        return bytes;
    }
    Bytes::from_owner(Owned { bytes, _hold: hold })
}

struct Owned<H> {
    bytes: Bytes,
    _hold: H,
}

impl<H> AsRef<[u8]> for Owned<H> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

/// No allocation is larger than the largest of these.
fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_budget_never_gives_more_than_it_has_and_gets_all_of_it_back() {
        let budget = Budget::new(100);
        let mut one = budget.take(60).unwrap();
        assert!(budget.take(41).is_err(), "40 are left");
        let two = budget.take(40).unwrap();
        let full = one.resize(61).unwrap_err();
        assert_eq!((full.code, full.detail.contains("--max-buffered")), (Code::ClientFull, true));
        assert_eq!(budget.taken(), 100, "what was refused took nothing");
        one.resize(10).unwrap();
        drop(two);
        assert_eq!(budget.taken(), 10);
        one.set(500);
        assert!(budget.take(1).is_err(), "what is in memory counts, though there was no room for it");
        drop(one);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn a_limit_beyond_all_memory_is_one_that_is_never_reached() {
        let budget = Budget::new(usize::MAX);
        let share = budget.take(1 << 40).unwrap();
        assert_eq!(budget.taken(), 1 << 40);
        drop(share);
        assert_eq!(budget.taken(), 0);
    }

    #[tokio::test]
    async fn what_was_taken_for_bytes_is_given_back_with_the_last_of_them() {
        let budget = Budget::new(10);
        let bytes = owned(Bytes::from_static(b"0123456789"), budget.take(10).unwrap());
        let part = bytes.slice(3..4);
        drop(bytes);
        assert_eq!((budget.taken(), &part[..]), (10, &b"3"[..]));
        drop(part);
        assert_eq!(budget.taken(), 0);
        assert!(owned(Bytes::new(), budget.take(10).unwrap()).is_empty() && budget.taken() == 0);

        let reserve = Reserve::new(2048);
        let bytes = owned(Bytes::from_static(b"x"), reserve.take(2048).await);
        let mut next = Box::pin(reserve.take(1));
        assert!((&mut next).now_or_never().is_none());
        drop(bytes);
        assert!(next.now_or_never().is_some());
    }
}
