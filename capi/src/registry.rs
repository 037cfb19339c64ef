//! Handles: numbers that look like pointers and are never followed.
//!
//! A handle that was freed, or is of another type, is told from a live one without reading memory that may be gone. Numbers are not used
//! again, so that a handle kept too long cannot mean a newer object.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use crate::failure::Failure;
use crate::status::bise_status::*;

/// Bits of a handle that say which type it is of.
const KIND_BITS: u32 = 4;

/// The top of every handle. On 64-bit machines no memory of a process has such an address: following one is a fault at once.
#[cfg(target_pointer_width = "64")]
const TAG: usize = 0xb15e << 48;
#[cfg(not(target_pointer_width = "64"))]
const TAG: usize = 0;

/// Counts handles of all types.
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// The live objects of one type, which several threads may use: an object whose handle is freed lives on until calls with it are done.
pub(crate) struct Registry<T> {
    kind: usize,
    name: &'static str,
    live: RwLock<BTreeMap<usize, Disguised<T>>>,
}

impl<T> Registry<T> {
    /// `kind` is a number that no other type has, below 16.
    pub const fn new(kind: usize, name: &'static str) -> Self {
        assert!(kind < 1 << KIND_BITS);
        Registry { kind, name, live: RwLock::new(BTreeMap::new()) }
    }

    /// A handle for `object`.
    pub fn insert(&self, object: T) -> *mut T {
        let object = Disguised::new(Arc::new(object));
        // With 32 bits the count comes around some day, to numbers that may be in use.
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        let handle = loop {
            let count = NEXT.fetch_add(1, Relaxed);
            let handle = TAG | (count << KIND_BITS & !TAG) | self.kind;
            if count << KIND_BITS != 0 && !live.contains_key(&handle) {
                break handle;
            }
        };
        live.insert(handle, object);
        std::ptr::without_provenance_mut(handle)
    }

    /// The object of a handle.
    pub fn get(&self, handle: *const T) -> Result<Arc<T>, Failure> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        live.get(&handle.addr()).map(Disguised::share).ok_or_else(|| self.stale(handle.addr()))
    }

    /// The object of a handle, or `None` for NULL.
    pub fn get_if_any(&self, handle: *const T) -> Result<Option<Arc<T>>, Failure> {
        if handle.is_null() { Ok(None) } else { self.get(handle).map(Some) }
    }

    /// Forgets a handle; NULL is none. The object goes once no call uses it any more.
    pub fn free(&self, handle: *mut T) -> Result<(), Failure> {
        if handle.is_null() {
            return Ok(());
        }
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        let removed = live.remove(&handle.addr());
        // What the object does at its end is done without the lock.
        drop(live);
        removed.map(drop).ok_or_else(|| self.stale(handle.addr()))
    }

    /// Why a handle that is not live is none.
    fn stale(&self, handle: usize) -> Failure {
        let name = self.name;
        if handle == 0 {
            return Failure::new(BISE_ERROR_NULL, format_args!("found NULL, expected a {name}"));
        }
        let count = (handle & !TAG) >> KIND_BITS;
        let was_given = handle & TAG == TAG && (1..NEXT.load(Relaxed)).contains(&count);
        let found = match handle & ((1 << KIND_BITS) - 1) == self.kind {
            true if was_given => "one that was freed",
            false if was_given => "a handle of another type",
            _ => "no handle of this library",
        };
        Failure::new(BISE_ERROR_HANDLE, format_args!("found {found} ({handle:#x}), expected a {name}"))
    }
}

/// An `Arc` whose address is not in memory as such. To a program that looks for leaks, an object whose handle was never freed would
/// otherwise still be in use, by the registry.
struct Disguised<T>(usize, PhantomData<Arc<T>>);

// SAFETY: it is an `Arc<T>` in another form, and `Registry` hands out what it holds to any thread: both need what an `Arc` needs.
unsafe impl<T: Send + Sync> Send for Disguised<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Send + Sync> Sync for Disguised<T> {}

impl<T> Disguised<T> {
    fn new(object: Arc<T>) -> Self {
        Disguised(!Arc::into_raw(object).expose_provenance(), PhantomData)
    }

    fn pointer(&self) -> *const T {
        std::ptr::with_exposed_provenance(!self.0)
    }

    fn share(&self) -> Arc<T> {
        // SAFETY: from `Arc::into_raw`, whose count is held until `drop`; the new `Arc` takes over the count that is added here.
        unsafe {
            Arc::increment_strong_count(self.pointer());
            Arc::from_raw(self.pointer())
        }
    }
}

impl<T> Drop for Disguised<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Arc::into_raw`, whose count nobody else gives back.
        drop(unsafe { Arc::from_raw(self.pointer()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static NUMBERS: Registry<u32> = Registry::new(14, "number");
    static OTHERS: Registry<u32> = Registry::new(15, "other");

    fn why<T: std::fmt::Debug>(result: Result<T, Failure>) -> (i32, String) {
        let failure = result.unwrap_err();
        (failure.status as i32, failure.message)
    }

    #[test]
    fn freed_and_foreign_handles_are_told_apart() {
        let number = NUMBERS.insert(5);
        assert_eq!(*NUMBERS.get(number).unwrap(), 5);
        let (status, message) = why(OTHERS.get(number));
        assert_eq!(status, BISE_ERROR_HANDLE as i32);
        assert!(message.contains("another type"), "{message}");
        NUMBERS.free(number).unwrap();
        for result in [NUMBERS.free(number), NUMBERS.get(number).map(drop)] {
            let (status, message) = why(result);
            assert_eq!(status, BISE_ERROR_HANDLE as i32);
            assert!(message.contains("was freed") && message.ends_with("expected a number"), "{message}");
        }
        let local = 5u32;
        assert!(why(NUMBERS.get(&local)).1.contains("no handle of this library"));
        assert_eq!(why(NUMBERS.get(std::ptr::null())).0, BISE_ERROR_NULL as i32);
        NUMBERS.free(std::ptr::null_mut()).unwrap();
    }

    #[test]
    fn numbers_are_not_used_again() {
        let old = NUMBERS.insert(1);
        NUMBERS.free(old).unwrap();
        let new: Vec<_> = (0..100).map(|n| NUMBERS.insert(n)).collect();
        assert!(!new.contains(&old) && NUMBERS.get(old).is_err());
        new.into_iter().for_each(|handle| NUMBERS.free(handle).unwrap());
    }

    #[test]
    fn an_object_lives_until_calls_with_it_are_done() {
        static ENDED: AtomicUsize = AtomicUsize::new(0);
        struct Ends;
        impl Drop for Ends {
            fn drop(&mut self) {
                ENDED.fetch_add(1, Relaxed);
            }
        }
        static ENDING: Registry<Ends> = Registry::new(13, "ending");
        let handle = ENDING.insert(Ends);
        let in_use = ENDING.get(handle).unwrap();
        ENDING.free(handle).unwrap();
        assert_eq!(ENDED.load(Relaxed), 0);
        drop(in_use);
        assert_eq!(ENDED.load(Relaxed), 1);
    }
}
