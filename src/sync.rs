//! Locks of what several tasks share. A panic under one leaves what it guards half changed, and no task may act on that:
//! the process ends when such a lock is taken again (`docs/decisions/16`). Who takes a lock has nothing to decide.
//!
//! Locks are held for moments, never while a task waits.

pub use std::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

use crate::panics;

/// A mutex whose holder cannot have panicked.
#[derive(Debug, Default)]
pub struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// Guards `value`.
    pub const fn new(value: T) -> Self {
        Mutex(std::sync::Mutex::new(value))
    }

    /// Takes the lock. Ends the process when a holder of it has panicked.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(|_| panics::end("a lock was held when it happened"))
    }

    /// What it guards, when there is no other holder. Ends the process when one has panicked.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(|_| panics::end("a lock was held when it happened"))
    }
}

/// A lock for many readers or one writer, which cannot have panicked.
#[derive(Debug, Default)]
pub struct RwLock<T>(std::sync::RwLock<T>);

impl<T> RwLock<T> {
    /// Guards `value`.
    pub const fn new(value: T) -> Self {
        RwLock(std::sync::RwLock::new(value))
    }

    /// Takes the lock to read. Ends the process when a writer has panicked.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(|_| panics::end("a lock was held when it happened"))
    }

    /// Takes the lock to write. Ends the process when a writer has panicked.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(|_| panics::end("a lock was held when it happened"))
    }
}
