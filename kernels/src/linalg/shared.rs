//! A matrix that several threads write to at once.

use std::marker::PhantomData;

/// A borrowed slice whose disjoint parts are written by different threads.
pub(super) struct Shared<'a> {
    data: *mut f32,
    len: usize,
    _borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: parts are handed out by `part` alone, whose caller sees to it that they are disjoint.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub fn new(data: &'a mut [f32]) -> Shared<'a> {
        Shared { data: data.as_mut_ptr(), len: data.len(), _borrowed: PhantomData }
    }

    /// `len` elements from `first`.
    ///
    /// # Safety
    /// No two parts that are alive at a time overlap.
    ///
    /// # Panics
    /// Where there are not so many.
    #[allow(clippy::mut_from_ref, reason = "the caller keeps parts disjoint")]
    pub unsafe fn part(&self, first: usize, len: usize) -> &mut [f32] {
        assert!(first <= self.len && len <= self.len - first, "{len} from {first} of {}", self.len);
        // SAFETY: in bounds, borrowed for as long as `self` lives, and not overlapping another part.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(first), len) }
    }
}
