//! Connections that are kept for the next request.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use super::http1;

/// Idle connections to one origin, a bounded number.
pub struct Pool {
    idle: Mutex<Vec<Idle>>,
    size: usize,
    keep: Duration,
}

struct Idle {
    connection: http1::Connection,
    since: Instant,
}

impl Pool {
    /// A pool of at most `size` connections, each kept for `keep`.
    pub fn new(size: usize, keep: Duration) -> Self {
        Pool { idle: Mutex::new(Vec::new()), size, keep }
    }

    /// The connection that was used last: it is the least likely to have been closed.
    pub fn checkout(&self) -> Option<http1::Connection> {
        loop {
            let mut idle = self.idle.lock().expect("no panic while the pool is locked").pop()?;
            if idle.since.elapsed() < self.keep && idle.connection.is_usable() {
                return Some(idle.connection);
            }
        }
    }

    /// Keeps a connection when another request can be sent on it.
    pub fn checkin(&self, mut connection: http1::Connection) {
        if connection.is_usable() {
            let mut idle = self.idle.lock().expect("no panic while the pool is locked");
            if idle.len() < self.size {
                idle.push(Idle { connection, since: Instant::now() });
            }
        }
    }

    /// Closes connections that have been idle for too long.
    pub fn close_idle(&self) {
        let mut idle = self.idle.lock().expect("no panic while the pool is locked");
        idle.retain(|idle| idle.since.elapsed() < self.keep);
    }
}
