//! A ceiling on memory that the pools and passes of an engine share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Memory that may be taken, counted as it is reserved. Clones are the same budget.
///
/// ```
/// use bise_models::MemoryBudget;
///
/// let budget = MemoryBudget::new(1000);
/// let first = budget.reserve(600)?;
/// assert!(budget.reserve(600).is_err());
/// drop(first);
/// assert!(budget.reserve(600).is_ok());
/// # Ok::<(), bise_models::OverCeiling>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryBudget(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    limit: usize,
    used: AtomicUsize,
}

/// More memory was asked for than the ceiling leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes do not fit under the ceiling on memory: {used} of {limit} bytes are taken")]
pub struct OverCeiling {
    /// What was asked for.
    pub bytes: usize,
    /// What others have.
    pub used: usize,
    /// The ceiling.
    pub limit: usize,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: MemoryBudget,
    bytes: usize,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> MemoryBudget {
        MemoryBudget(Arc::new(Counts { limit, used: AtomicUsize::new(0) }))
    }

    /// A budget that counts and refuses nothing.
    pub fn unlimited() -> MemoryBudget {
        MemoryBudget::new(usize::MAX)
    }

    /// The ceiling, if there is one.
    pub fn limit(&self) -> Option<usize> {
        (self.0.limit != usize::MAX).then_some(self.0.limit)
    }

    /// Bytes reserved now.
    pub fn used(&self) -> usize {
        self.0.used.load(Relaxed)
    }

    /// Takes `bytes`, until the reservation is dropped. Nothing is allocated.
    ///
    /// # Errors
    /// Where the ceiling does not leave as much; nothing is taken then.
    pub fn reserve(&self, bytes: usize) -> Result<Reservation, OverCeiling> {
        let Counts { limit, used } = &*self.0;
        let more = |used: usize| used.checked_add(bytes).filter(|sum| sum <= limit);
        match used.try_update(Relaxed, Relaxed, more) {
            Ok(_) => Ok(Reservation { budget: self.clone(), bytes }),
            Err(used) => Err(OverCeiling { bytes, used, limit: *limit }),
        }
    }
}

impl Default for MemoryBudget {
    /// Without a ceiling.
    fn default() -> MemoryBudget {
        MemoryBudget::unlimited()
    }
}

impl Reservation {
    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_never_take_more_than_there_is() {
        const LIMIT: usize = 1000;
        let budget = MemoryBudget::new(LIMIT);
        let (held, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for bytes in [70, 110, 130, 170] {
                let (budget, held, refused) = (&budget, &held, &refused);
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    for _ in 0..20_000 {
                        match budget.reserve(bytes) {
                            Ok(reservation) => {
                                let now = held.fetch_add(bytes, Relaxed) + bytes;
                                assert!(now <= LIMIT, "{now}");
                                kept.push(reservation);
                            }
                            Err(error) => {
                                refused.fetch_add(1, Relaxed);
                                assert!(error.used + error.bytes > LIMIT, "{error}");
                                held.fetch_sub(kept.len() * bytes, Relaxed);
                                kept.clear();
                            }
                        }
                    }
                    held.fetch_sub(kept.len() * bytes, Relaxed);
                });
            }
        });
        assert_eq!((held.into_inner(), budget.used()), (0, 0));
        assert!(refused.into_inner() > 0);
    }

    #[test]
    fn sums_do_not_wrap() {
        let budget = MemoryBudget::new(10);
        let five = budget.reserve(5).unwrap();
        assert_eq!(
            budget.reserve(usize::MAX).unwrap_err(),
            OverCeiling { bytes: usize::MAX, used: 5, limit: 10 }
        );
        assert_eq!((five.bytes(), budget.limit()), (5, Some(10)));
        let unlimited = MemoryBudget::default();
        let _half = unlimited.reserve(usize::MAX / 2).unwrap();
        assert_eq!((unlimited.used(), unlimited.limit()), (usize::MAX / 2, None));
    }
}
