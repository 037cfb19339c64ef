//! How much room a thread needs.

use crate::matmul::plan::STRIP_ROWS;

/// Bytes of scratch that each thread needs for products with rows of `k` weights.
pub fn scratch_bytes(k: usize) -> usize {
    // Values in 8 bits; block scales and mins in f32 (32-element blocks: 2 × 4 bytes each); sub-block scales and mins in i16. Then a
    // group of activations with their scales and sums.
    let bytes = STRIP_ROWS * (k + 2 * 4 * k.div_ceil(32) + 2 * 2 * k.div_ceil(16)) + 48 * k.min(4096) + 4096;
    #[cfg(target_arch = "x86_64")]
    let bytes = bytes.max(crate::matmul::amx::scratch_bytes(k));
    bytes
}
