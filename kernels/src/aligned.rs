//! Memory that starts at a cache line.

use std::collections::TryReserveError;

/// 64 bytes at an address that they divide.
#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
pub struct CacheLine([u8; 64]);

impl CacheLine {
    pub(crate) const ZERO: CacheLine = CacheLine([0; 64]);
}

/// At least `bytes` zeros.
pub(crate) fn try_zeros(bytes: usize) -> Result<Vec<CacheLine>, TryReserveError> {
    try_filled(CacheLine::ZERO, bytes.div_ceil(size_of::<CacheLine>()))
}

/// `n` times `value`.
pub(crate) fn try_filled<T: Clone>(value: T, n: usize) -> Result<Vec<T>, TryReserveError> {
    let mut values = Vec::new();
    values.try_reserve_exact(n)?;
    values.resize(n, value);
    Ok(values)
}
