//! Q4_0: `w = d · (q − 8)`, `q` in `0..16`; the low nibbles of 16 bytes come first, then the high ones.

use std::arch::x86_64::*;

use super::dot_32::Quant32;
use super::rows::load_lanes;
use crate::weights::format::Format;

pub(super) struct Q4_0;

impl Quant32 for Q4_0 {
    const FORMAT: Format = Format::Q4_0;
    const BITS: u32 = 4;
    const OFFSET: u8 = 8;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn quants(blocks: [*const u8; 2]) -> [__m256i; 2] {
        // SAFETY: 16 bytes of nibbles follow 2 of d.
        nibbles(unsafe { load_lanes(blocks, 2) })
    }
}

/// The low nibbles, and the high ones.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn nibbles(q: __m256i) -> [__m256i; 2] {
    let low = _mm256_set1_epi8(15);
    [_mm256_and_si256(q, low), _mm256_and_si256(_mm256_srli_epi16::<4>(q), low)]
}
