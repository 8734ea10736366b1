//! The locks of tables: they know that they are held.
//!
//! "No lock is held across I/O" is easily said and easily broken by a later change. So the tables that every call needs (the tree,
//! the drafts, handles, listings, blocks) are behind this [`Mutex`], which in debug builds counts for each thread how many of them it
//! holds; and the one place where the network is waited for (`ftp::stream::wait`) asserts that there are none. In release builds
//! it is parking_lot's and nothing else. (Locks that a Condvar waits on, as the queue's, are parking_lot's own: what runs under
//! them is a few lines each.) Everybody may use this.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// parking_lot's Mutex, counted.
#[derive(Default)]
pub struct Mutex<T>(parking_lot::Mutex<T>);

/// The lock, held until this is dropped.
pub struct Guard<'m, T>(parking_lot::MutexGuard<'m, T>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    pub fn lock(&self) -> Guard<'_, T> {
        Guard::new(self.0.lock())
    }

    /// None when it cannot be had within `patience`.
    pub fn try_lock_for(&self, patience: Duration) -> Option<Guard<'_, T>> {
        self.0.try_lock_for(patience).map(Guard::new)
    }
}

impl<'m, T> Guard<'m, T> {
    fn new(guard: parking_lot::MutexGuard<'m, T>) -> Self {
        #[cfg(debug_assertions)]
        HELD.set(HELD.get() + 1);
        Self(guard)
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        #[cfg(debug_assertions)]
        HELD.set(HELD.get().saturating_sub(1));
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Asserts, in debug builds, that this thread holds none of these locks.
#[track_caller]
pub fn assert_none_held() {
    #[cfg(debug_assertions)]
    assert_eq!(HELD.get(), 0, "a lock is held across a wait for the network");
}

#[cfg(debug_assertions)]
thread_local! {
    static HELD: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_under_a_lock_is_found_out() {
        let (one, two) = (Mutex::new(1), Mutex::new(2));
        assert_none_held();
        {
            let _one = one.lock();
            let _two = two.try_lock_for(Duration::ZERO).expect("it is free");
            if cfg!(debug_assertions) {
                assert!(std::panic::catch_unwind(assert_none_held).is_err());
            }
        }
        assert_none_held();
        *one.lock() += *two.lock();
        assert_eq!(*one.lock(), 3);
    }
}
