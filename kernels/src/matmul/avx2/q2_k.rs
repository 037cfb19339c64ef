//! Q2_K: `w = d · scale · q − dmin · min`, `q` in `0..4`, scales and mins of 4 bits for each 16 weights.
//!
//! Each half of a block is 32 bytes; four shifts take them apart.

use std::arch::x86_64::*;

use super::dot_k::{Heads, KQuant};
use super::rows::*;
use crate::weights::format::Format;

pub(super) struct Q2K;

impl KQuant for Q2K {
    const FORMAT: Format = Format::Q2_K;
    const SUB_LEN: usize = 16;
    const BITS: u32 = 2;
    const HAS_MINS: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn heads(rows: &Rows) -> Heads {
        // SAFETY: a block begins with 16 bytes of scales and ends with d and dmin.
        let (both, tail) = unsafe { (rows.dwords(0), rows.dwords(68)) };
        let nibble = _mm256_set1_epi8(15);
        let zero = _mm256_setzero_si256();
        let mut heads =
            Heads { d: low_f16(tail[3]), dmin: high_f16(tail[3]), scales: [zero; 4], mins: [zero; 4] };
        for v in 0..4 {
            heads.scales[v] = _mm256_and_si256(both[v], nibble);
            heads.mins[v] = _mm256_and_si256(_mm256_srli_epi16::<4>(both[v]), nibble);
        }
        heads
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn quants(block: *const u8) -> [__m256i; 8] {
        // SAFETY: 64 bytes of values follow 16 of scales.
        unsafe { pairs_of_bits(block.add(16)) }
    }
}

/// Eight times 32 values of two bits: bits 0 and 1 of 32 bytes, bits 2 and 3, and on.
///
/// # Safety
/// 64 bytes are readable.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn pairs_of_bits(at: *const u8) -> [__m256i; 8] {
    let pair = _mm256_set1_epi8(3);
    let mut q = [pair; 8];
    for h in 0..2 {
        // SAFETY: promised by the caller.
        let four = unsafe { load(at.add(32 * h)) };
        q[4 * h] = _mm256_and_si256(four, pair);
        q[4 * h + 1] = _mm256_and_si256(_mm256_srli_epi16::<2>(four), pair);
        q[4 * h + 2] = _mm256_and_si256(_mm256_srli_epi16::<4>(four), pair);
        q[4 * h + 3] = _mm256_and_si256(_mm256_srli_epi16::<6>(four), pair);
    }
    q
}
