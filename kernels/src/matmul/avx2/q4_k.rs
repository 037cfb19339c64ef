//! Q4_K: `w = d · scale · q − dmin · min`, `q` in `0..16`, scales and mins of 6 bits for each 32 weights.
//!
//! 128 bytes of nibbles are four registers; masks and shifts make eight, in order.

use std::arch::x86_64::*;

use super::dot_k::{Heads, KQuant};
use super::rows::*;
use crate::weights::format::Format;

pub(super) struct Q4K;

impl KQuant for Q4K {
    const FORMAT: Format = Format::Q4_K;
    const SUB_LEN: usize = 32;
    const BITS: u32 = 4;
    const HAS_MINS: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn heads(rows: &Rows) -> Heads {
        // SAFETY: a block begins with d, dmin and 12 bytes of scales.
        let [d, low_scales, low_mins, high] = unsafe { rows.dwords(0) };
        heads(d, low_scales, low_mins, high)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn quants(block: *const u8) -> [__m256i; 8] {
        // SAFETY: 128 bytes of nibbles follow 16 of scales.
        unsafe { nibbles(block.add(16)) }
    }
}

/// The scales of Q4_K and Q5_K from the first four dwords of their blocks: four scales' low bits, four mins' low bits, and a third of
/// nibbles for the others, whose two high bits lie on top of the first ones'.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn heads(d: __m256i, low_scales: __m256i, low_mins: __m256i, high: __m256i) -> Heads {
    let (low6, low4, top2) = (_mm256_set1_epi8(0x3f), _mm256_set1_epi8(0x0f), _mm256_set1_epi8(0x30));
    let join = |nibbles, tops| {
        let tops = _mm256_and_si256(_mm256_srli_epi32::<2>(tops), top2);
        _mm256_or_si256(_mm256_and_si256(nibbles, low4), tops)
    };
    let zero = _mm256_setzero_si256();
    Heads {
        d: low_f16(d),
        dmin: high_f16(d),
        scales: [_mm256_and_si256(low_scales, low6), join(high, low_scales), zero, zero],
        mins: [_mm256_and_si256(low_mins, low6), join(_mm256_srli_epi32::<4>(high), low_mins), zero, zero],
    }
}

/// Eight times 32 nibbles: the low ones of 32 bytes, the high ones, and on.
///
/// # Safety
/// 128 bytes are readable.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn nibbles(at: *const u8) -> [__m256i; 8] {
    let low = _mm256_set1_epi8(15);
    let mut q = [low; 8];
    for c in 0..4 {
        // SAFETY: promised by the caller.
        let both = unsafe { load(at.add(32 * c)) };
        q[2 * c] = _mm256_and_si256(both, low);
        q[2 * c + 1] = _mm256_and_si256(_mm256_srli_epi16::<4>(both), low);
    }
    q
}
