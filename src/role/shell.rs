//! Drives a decision machine: inputs in, commands out, timers in between.

use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::{
    proto::Machine,
    sync::{Mutex, MutexGuard},
};

/// A machine and its timer.
pub struct Driver<M> {
    inner: Mutex<Inner<M>>,
    sooner: Notify,
}

struct Inner<M> {
    machine: M,
    armed: Option<Instant>,
}

impl<M: Machine> Driver<M> {
    /// Drives `machine`.
    pub fn new(machine: M) -> Self {
        Driver { inner: Mutex::new(Inner { machine, armed: None }), sooner: Notify::new() }
    }

    /// Looks at the machine, or asks it for something that is not an input.
    pub fn with<R>(&self, look: impl FnOnce(&mut M) -> R) -> R {
        look(&mut self.lock().machine)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<M>> {
        self.inner.lock()
    }
}

/// Whoever does what a machine decides.
pub trait Shell: Send + Sync + 'static {
    /// The machine.
    type Machine: Machine;

    /// The machine's driver.
    fn driver(&self) -> &Driver<Self::Machine>;

    /// Does one thing, without waiting and without asking the machine anything; what comes of it at once
    /// goes back in.
    fn perform(
        &self,
        command: <Self::Machine as Machine>::Command,
    ) -> Option<<Self::Machine as Machine>::Input>;

    /// Feeds one input and does what follows.
    fn feed(&self, input: <Self::Machine as Machine>::Input) {
        self.step(|machine, now| machine.handle(input, now));
    }

    /// Does what is due, as long as it is polled.
    fn run_timers(&self) -> impl Future<Output = ()> + Send
    where
        Self::Machine: Send,
    {
        async {
            loop {
                let next = {
                    let mut inner = self.driver().lock();
                    inner.armed = inner.machine.poll_timeout();
                    inner.armed
                };
                let sooner = self.driver().sooner.notified();
                match next {
                    None => sooner.await,
                    Some(at) => {
                        // Rounded up, so that many timers a few microseconds apart are one wake-up.
                        let at = tokio::time::Instant::from_std(at + COARSE);
                        tokio::select! {
                            () = sooner => {}
                            () = tokio::time::sleep_until(at) => self.step(|machine, now| machine.handle_timeout(now)),
                        }
                    }
                }
            }
        }
    }

    /// One turn: change the machine, do all that it wants done.
    fn step(&self, change: impl FnOnce(&mut Self::Machine, Instant)) {
        let driver = self.driver();
        let mut guard = driver.lock();
        let inner = &mut *guard;
        change(&mut inner.machine, Instant::now());
        while let Some(command) = inner.machine.poll_command() {
            if let Some(input) = self.perform(command) {
                inner.machine.handle(input, Instant::now());
            }
        }
        let next = inner.machine.poll_timeout();
        let sooner = match (next, inner.armed) {
            (Some(next), Some(armed)) => next + COARSE < armed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        drop(guard);
        if sooner {
            driver.sooner.notify_one();
        }
    }
}

const COARSE: Duration = Duration::from_millis(1);
