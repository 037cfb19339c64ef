//! IQ4_XS: `w = d · (scale − 32) · KVALUES[q]`, scales of 6 bits for each 32 weights.
//!
//! `vpshufb` looks the values up; each 16 bytes hold the nibbles of 32 weights, the first half of them in the low ones.

use std::arch::x86_64::*;

use super::dot_k::{Heads, KQuant};
use super::rows::*;
use crate::weights::format::Format;
use crate::weights::unpack::KVALUES_IQ4;

pub(super) struct Iq4Xs;

impl KQuant for Iq4Xs {
    const FORMAT: Format = Format::IQ4_XS;
    const SUB_LEN: usize = 32;
    const BITS: u32 = 8;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn heads(rows: &Rows) -> Heads {
        // SAFETY: a block begins with d, 2 bytes of high and 4 of low bits of scales; 128 bytes follow.
        let [head, low, _, _] = unsafe { rows.dwords(0) };
        // A byte for each of scales `first` to `first + 3`: nibbles of `low`, pairs of bits from bit 16 of `head`.
        let join = |first: i32| {
            let mut scales = _mm256_setzero_si256();
            for j in 0..4 {
                let nibble = _mm256_srl_epi32(low, _mm_cvtsi32_si128(4 * (first + j)));
                let top = _mm256_srl_epi32(head, _mm_cvtsi32_si128(12 + 2 * (first + j)));
                let six = _mm256_or_si256(
                    _mm256_and_si256(nibble, _mm256_set1_epi32(15)),
                    _mm256_and_si256(top, _mm256_set1_epi32(0x30)),
                );
                scales = _mm256_or_si256(scales, _mm256_sll_epi32(six, _mm_cvtsi32_si128(8 * j)));
            }
            _mm256_sub_epi8(scales, _mm256_set1_epi8(32))
        };
        let zero = _mm256_setzero_si256();
        Heads {
            d: low_f16(head),
            dmin: _mm256_setzero_ps(),
            scales: [join(0), join(4), zero, zero],
            mins: [zero; 4],
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn quants(block: *const u8) -> [__m256i; 8] {
        let mut q = [_mm256_setzero_si256(); 8];
        for s in 0..8 {
            // SAFETY: 128 bytes of nibbles follow 8 of scales.
            let nibbles = unsafe { _mm_loadu_si128(block.add(8 + 16 * s).cast()) };
            q[s] = kvalues(_mm256_set_m128i(_mm_srli_epi16::<4>(nibbles), nibbles));
        }
        q
    }
}

/// The levels that the low nibbles of bytes stand for.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn kvalues(nibbles: __m256i) -> __m256i {
    // SAFETY: 16 bytes.
    let table = unsafe { _mm_loadu_si128(KVALUES_IQ4.as_ptr().cast()) };
    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), _mm256_and_si256(nibbles, _mm256_set1_epi8(15)))
}
