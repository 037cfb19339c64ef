//! A module's one memory, which grows and never shrinks.

/// The size of a page, by the specification.
const PAGE_BYTES: usize = 64 << 10;

pub fn resident_bytes() -> Option<usize> {
    Some(n_bytes())
}

pub fn anonymous_bytes() -> Option<usize> {
    resident_bytes()
}

/// Nothing: files are read, not mapped.
pub fn mapped_bytes() -> Option<usize> {
    Some(0)
}

pub fn peak_bytes() -> Option<usize> {
    resident_bytes()
}

/// What remains of the addresses. The host may have less, which it does not tell.
pub fn available_bytes() -> Option<usize> {
    Some(usize::MAX - n_bytes())
}

fn n_bytes() -> usize {
    #[cfg(target_arch = "wasm32")]
    let n_pages = core::arch::wasm32::memory_size::<0>();
    #[cfg(target_arch = "wasm64")]
    let n_pages = core::arch::wasm64::memory_size::<0>();
    n_pages.saturating_mul(PAGE_BYTES)
}
