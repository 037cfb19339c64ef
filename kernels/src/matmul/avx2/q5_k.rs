//! Q5_K: `w = d · scale · q − dmin · min`, `q` in `0..32`, scales and mins as in Q4_K.
//!
//! Nibbles as in Q4_K; the fifth bit of weight `32s + l` is bit `s` of byte `l`, found by a comparison with that bit.

use std::arch::x86_64::*;

use super::dot_k::{Heads, KQuant};
use super::q4_k::{heads, nibbles};
use super::rows::*;
use crate::weights::format::Format;

pub(super) struct Q5K;

impl KQuant for Q5K {
    const FORMAT: Format = Format::Q5_K;
    const SUB_LEN: usize = 32;
    const BITS: u32 = 5;
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
        // SAFETY: 16 bytes of scales are followed by 32 of fifth bits and 128 of nibbles.
        let (mut q, qh) = unsafe { (nibbles(block.add(48)), load(block.add(16))) };
        for s in 0..8 {
            let bit = _mm256_set1_epi8(1u8.wrapping_shl(s) as i8);
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(qh, bit), bit);
            let q = &mut q[s as usize];
            *q = _mm256_or_si256(*q, _mm256_and_si256(set, _mm256_set1_epi8(16)));
        }
        q
    }
}
