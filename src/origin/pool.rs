//! Connections that are kept for the next request: HTTP/1 when they are idle, HTTP/2 as long as they are open.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{
    connect::{Connection, Connector, Offer},
    http1,
    http2::{self, Lines},
};
use crate::{config::Origin as Settings, sync::Mutex, wire::Fault};

/// The connections to one origin, a bounded number.
pub struct Pool {
    idle: Mutex<Vec<Idle>>,
    size: usize,
    keep: Duration,
    /// How long a connection is used: names lead elsewhere in time, and an operator who has moved them waits for the old ones to be left.
    max_age: Duration,
    lines: Mutex<Lines>,
    /// Whether the origin speaks HTTP/2, as far as is known.
    multiplexes: AtomicBool,
    /// Held while a connection for many is made: the others wait for it.
    dialling: tokio::sync::Mutex<()>,
}

struct Idle {
    connection: http1::Connection,
    since: Instant,
}

impl Pool {
    /// A pool as `settings` have it; `multiplexes` is whether the origin may speak HTTP/2.
    pub fn new(settings: &Settings, multiplexes: bool) -> Self {
        Pool {
            idle: Mutex::new(Vec::new()),
            size: settings.pool_size,
            keep: settings.pool_idle,
            max_age: settings.pool_max_age,
            lines: Mutex::new(Lines::new(settings.pool_max_age)),
            multiplexes: AtomicBool::new(multiplexes),
            dialling: tokio::sync::Mutex::new(()),
        }
    }

    /// The connection that was used last: it is the least likely to have been closed.
    pub fn checkout(&self) -> Option<http1::Connection> {
        loop {
            let mut idle = self.idle.lock().pop()?;
            if self.is_kept(&idle) && idle.connection.is_usable() {
                return Some(idle.connection);
            }
        }
    }

    /// Keeps a connection when another request can be sent on it.
    pub fn checkin(&self, mut connection: http1::Connection) {
        if connection.age() < self.max_age && connection.is_usable() {
            let mut idle = self.idle.lock();
            if idle.len() < self.size {
                idle.push(Idle { connection, since: Instant::now() });
            }
        }
    }

    /// A seat on a connection for many, or a new connection for one when the origin has just chosen so;
    /// nothing when it is known to speak HTTP/1.
    ///
    /// # Errors
    /// When the origin can't be reached.
    pub async fn shared(&self, connector: &Connector) -> Result<Option<Connection>, Fault> {
        if !self.multiplexes.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if let Some(seat) = self.seat() {
            return Ok(Some(Connection::Http2(seat)));
        }
        // Whoever waits finds what the one before has got.
        let _alone = connector.in_time(self.dialling.lock()).await?;
        if !self.multiplexes.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if let Some(seat) = self.seat() {
            return Ok(Some(Connection::Http2(seat)));
        }
        let connection = connector.connect(Offer::Any).await?;
        match &connection {
            Connection::Http2(line) => {
                self.lines.lock().add(line);
            }
            Connection::Http1(_) => self.multiplexes.store(false, Ordering::Relaxed),
        }
        Ok(Some(connection))
    }

    /// Closes connections that have been idle for too long.
    pub fn close_idle(&self) {
        let mut idle = self.idle.lock();
        idle.retain(|idle| self.is_kept(idle));
        self.lines.lock().close_idle(self.keep);
    }

    fn is_kept(&self, idle: &Idle) -> bool {
        idle.since.elapsed() < self.keep && idle.connection.age() < self.max_age
    }

    fn seat(&self) -> Option<http2::Connection> {
        self.lines.lock().seat()
    }
}
