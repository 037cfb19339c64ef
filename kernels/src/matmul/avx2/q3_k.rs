//! Q3_K: `w = d · (scale − 32) · (q − 4)`, `q` in `0..8`, scales of 6 bits for each 16 weights.
//!
//! The low two bits as in Q2_K; the third bit of weight `32b + l` is bit `b` of byte `l`, found by a comparison with that bit.

use std::arch::x86_64::*;

use super::dot_k::{Heads, KQuant};
use super::q2_k::pairs_of_bits;
use super::rows::*;
use crate::weights::format::Format;

pub(super) struct Q3K;

impl KQuant for Q3K {
    const FORMAT: Format = Format::Q3_K;
    const SUB_LEN: usize = 16;
    const BITS: u32 = 3;
    const OFFSET: u8 = 4;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn heads(rows: &Rows) -> Heads {
        // SAFETY: a block ends with 12 bytes of scales and d.
        let ([_, low0, low1, tops], tail) = unsafe { (rows.dwords(92), rows.dwords(94)) };
        let (nibble, top2) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
        let join = |low, top| {
            let six = _mm256_or_si256(_mm256_and_si256(low, nibble), _mm256_and_si256(top, top2));
            _mm256_sub_epi8(six, _mm256_set1_epi8(32))
        };
        let scales = [
            join(low0, _mm256_slli_epi32::<4>(tops)),
            join(low1, _mm256_slli_epi32::<2>(tops)),
            join(_mm256_srli_epi32::<4>(low0), tops),
            join(_mm256_srli_epi32::<4>(low1), _mm256_srli_epi32::<2>(tops)),
        ];
        let zero = _mm256_setzero_si256();
        Heads { d: high_f16(tail[3]), dmin: _mm256_setzero_ps(), scales, mins: [zero; 4] }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn quants(block: *const u8) -> [__m256i; 8] {
        // SAFETY: 32 bytes of third bits, then 64 of the other two.
        let (mut q, high) = unsafe { (pairs_of_bits(block.add(32)), load(block)) };
        for s in 0..8 {
            let bit = _mm256_set1_epi8(1u8.wrapping_shl(s) as i8);
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(high, bit), bit);
            let q = &mut q[s as usize];
            *q = _mm256_or_si256(*q, _mm256_and_si256(set, _mm256_set1_epi8(4)));
        }
        q
    }
}
