//! What ends a computation early.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Flags of which any ends a computation early, once another thread sets it.
#[derive(Clone, Copy, Debug)]
pub enum CancelFlags<'a> {
    /// One flag.
    One(&'a AtomicBool),
    /// As many as there are.
    Any(&'a [&'a AtomicBool]),
}

impl CancelFlags<'_> {
    /// Whether one of them is set.
    #[inline]
    pub fn is_set(self) -> bool {
        match self {
            CancelFlags::One(flag) => flag.load(Relaxed),
            CancelFlags::Any(flags) => flags.iter().any(|flag| flag.load(Relaxed)),
        }
    }
}

impl<'a> From<&'a AtomicBool> for CancelFlags<'a> {
    fn from(flag: &'a AtomicBool) -> Self {
        CancelFlags::One(flag)
    }
}

impl<'a> From<&'a [&'a AtomicBool]> for CancelFlags<'a> {
    fn from(flags: &'a [&'a AtomicBool]) -> Self {
        CancelFlags::Any(flags)
    }
}
