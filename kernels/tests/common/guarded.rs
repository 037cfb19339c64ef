//! Bytes that end where readable memory ends, as the last tensor of a mapped file may.

/// Under Miri, which knows the end of an allocation: just that.
#[cfg(miri)]
pub struct Guarded(Vec<u8>, usize);

#[cfg(miri)]
impl Guarded {
    pub fn new(bytes: &[u8], slack: usize) -> Guarded {
        Guarded([bytes, &vec![0; slack]].concat(), bytes.len())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

#[cfg(not(miri))]
pub use page::Guarded;

#[cfg(not(miri))]
mod page {
    use std::ptr;

    /// `len` bytes followed by `slack` readable ones and a page that must not be touched: a kernel that reads further is killed.
    pub struct Guarded {
        base: *mut u8,
        mapped: usize,
        start: usize,
        len: usize,
    }

    impl Guarded {
        pub fn new(bytes: &[u8], slack: usize) -> Guarded {
            // SAFETY: asking for a number.
            let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
            let readable = (bytes.len() + slack).next_multiple_of(page);
            let mapped = readable + page;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: a fresh private mapping touches nobody's memory.
            let base = unsafe { libc::mmap(ptr::null_mut(), mapped, protection, flags, -1, 0) };
            assert_ne!(base, libc::MAP_FAILED);
            let base = base.cast::<u8>();
            let start = readable - slack - bytes.len();
            // SAFETY: `readable` bytes from `base` on are ours, and the page after them lies in the same mapping.
            unsafe {
                base.add(start).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                assert_eq!(libc::mprotect(base.add(readable).cast(), page, libc::PROT_NONE), 0);
            }
            Guarded { base, mapped, start, len: bytes.len() }
        }

        pub fn bytes(&self) -> &[u8] {
            // SAFETY: written in `new`, readable until dropped.
            unsafe { std::slice::from_raw_parts(self.base.add(self.start), self.len) }
        }
    }

    impl Drop for Guarded {
        fn drop(&mut self) {
            // SAFETY: the mapping made in `new`, whose borrows have ended.
            unsafe { libc::munmap(self.base.cast(), self.mapped) };
        }
    }
}
