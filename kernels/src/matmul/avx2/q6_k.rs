//! Q6_K: `w = d · scale · (q − 32)`, `q` in `0..64`, a signed scale for each 16 weights.
//!
//! Each half of a block has 64 bytes of low nibbles and 32 bytes of high pairs of bits, which are shifted into place by 16-bit lanes.

use std::arch::x86_64::*;

use super::dot_k::{Heads, KQuant};
use super::rows::*;
use crate::weights::format::Format;

pub(super) struct Q6K;

impl KQuant for Q6K {
    const FORMAT: Format = Format::Q6_K;
    const SUB_LEN: usize = 16;
    const BITS: u32 = 6;
    const OFFSET: u8 = 32;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn heads(rows: &Rows) -> Heads {
        // SAFETY: 192 bytes of values, 16 of scales and 2 of d make a block.
        let (scales, tail) = unsafe { (rows.dwords(192), rows.dwords(194)) };
        let zero = _mm256_setzero_si256();
        Heads { d: high_f16(tail[3]), dmin: _mm256_setzero_ps(), scales, mins: [zero; 4] }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn quants(block: *const u8) -> [__m256i; 8] {
        let (low, pair) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
        let mut q = [low; 8];
        for h in 0..2 {
            // SAFETY: 128 bytes of nibbles, then 64 of pairs of bits.
            let (a, b, qh) = unsafe {
                (load(block.add(64 * h)), load(block.add(64 * h + 32)), load(block.add(128 + 32 * h)))
            };
            let join = |nibbles, pairs| {
                _mm256_or_si256(_mm256_and_si256(nibbles, low), _mm256_and_si256(pairs, pair))
            };
            q[4 * h] = join(a, _mm256_slli_epi16::<4>(qh));
            q[4 * h + 1] = join(b, _mm256_slli_epi16::<2>(qh));
            q[4 * h + 2] = join(_mm256_srli_epi16::<4>(a), qh);
            q[4 * h + 3] = join(_mm256_srli_epi16::<4>(b), _mm256_srli_epi16::<2>(qh));
        }
        q
    }
}
