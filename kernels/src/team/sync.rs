//! The primitives a team is built from: those of `std`, or under `--cfg loom` those of the model checker.

#[cfg(loom)]
pub use loom::{
    cell::Cell,
    hint::spin_loop,
    sync::{Arc, Mutex, MutexGuard, atomic},
    thread::{JoinHandle, Thread, current, park, yield_now},
};
#[cfg(not(loom))]
pub use std::{
    cell::Cell,
    hint::spin_loop,
    sync::{Arc, Mutex, MutexGuard, atomic},
    thread::{JoinHandle, Thread, current, park, yield_now},
};

/// Starts a thread called `name`.
pub fn spawn(name: String, f: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    #[cfg(loom)]
    use loom::thread::Builder;
    #[cfg(not(loom))]
    use std::thread::Builder;
    Builder::new().name(name).spawn(f)
}

/// Locks `mutex` whether or not a thread panicked while it held it: nothing a team keeps behind a lock can be left half done.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
