//! Takes locks, also those that somebody held who panicked. Below every layer: knows nothing of the rest.
//!
//! A panic ends one task, and the process goes on: whoever comes next must not panic as well. What was left is whole, or as good as:
//! behind every lock here are plain values, changed by one assignment after another.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What `mutex` guards.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `guarded` guards, to be read.
pub fn read<T>(guarded: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    guarded.read().unwrap_or_else(PoisonError::into_inner)
}

/// The same, to be changed.
pub fn write<T>(guarded: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    guarded.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_is_taken_although_its_last_holder_has_panicked() {
        let (mutex, guarded) = (Mutex::new(1), RwLock::new(1));
        let panicked = std::thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let _held = (lock(&mutex), write(&guarded));
                panic!("as it is meant to");
            });
            holder.join()
        });
        assert!(panicked.is_err() && mutex.is_poisoned() && guarded.is_poisoned());
        *write(&guarded) += *lock(&mutex);
        assert_eq!(*read(&guarded), 2);
    }
}
