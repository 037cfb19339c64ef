//! Q3_K: `w = d · (scale − 32) · (q − 4)`, `q` in `0..8`, scales of 6 bits for each 16 weights.
//!
//! The low two bits as in Q2_K; the third bit of weight `32b + l` is bit `b` of byte `l`, found by a test and added under its mask.

use std::arch::x86_64::*;

use super::dot_k::{Heads, KQuant};
use super::rows::*;
use crate::weights::format::Format;

pub(crate) struct Q3K;

impl KQuant for Q3K {
    const FORMAT: Format = Format::Q3_K;
    const SUB_LEN: usize = 16;
    const OFFSET: u8 = 4;
    const HAS_MINS: bool = false;
    const ORDER: [usize; 16] = [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15];

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn heads(rows: &Rows) -> Heads {
        // SAFETY: a block ends with 12 bytes of scales and d.
        let ([_, low0, low1, tops], tail) = unsafe { (rows.dwords(92), rows.dwords(94)) };
        let (nibble, top2) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
        let join = |low, top| {
            let six = _mm512_or_si512(_mm512_and_si512(low, nibble), _mm512_and_si512(top, top2));
            _mm512_sub_epi8(six, _mm512_set1_epi8(32))
        };
        let scales = [
            join(low0, _mm512_slli_epi32::<4>(tops)),
            join(low1, _mm512_slli_epi32::<2>(tops)),
            join(_mm512_srli_epi32::<4>(low0), tops),
            join(_mm512_srli_epi32::<4>(low1), _mm512_srli_epi32::<2>(tops)),
        ];
        let zero = _mm512_setzero_si512();
        Heads { d: high_f16(tail[3]), dmin: _mm512_setzero_ps(), scales, mins: [zero; 4] }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn quants(block: *const u8) -> [__m512i; 4] {
        let pair = _mm512_set1_epi8(3);
        // SAFETY: 32 bytes of third bits, then 64 of the other two.
        let (high, q) = unsafe {
            (
                _mm512_broadcast_i64x4(_mm256_loadu_si256(block.cast())),
                _mm512_loadu_si512(block.add(32).cast()),
            )
        };
        [
            with_third_bit::<0x01, 0x10>(_mm512_and_si512(q, pair), high),
            with_third_bit::<0x02, 0x20>(_mm512_and_si512(_mm512_srli_epi16::<2>(q), pair), high),
            with_third_bit::<0x04, 0x40>(_mm512_and_si512(_mm512_srli_epi16::<4>(q), pair), high),
            with_third_bit::<0x08, 0x80>(_mm512_and_si512(_mm512_srli_epi16::<6>(q), pair), high),
        ]
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn lines(rows: &Rows, lines: &mut [__m512i; 64]) {
        let (pair, third) = (_mm512_set1_epi8(3), _mm512_set1_epi8(4));
        // SAFETY: 32 bytes of third bits, then 64 of the other two.
        let (bits, columns) = unsafe { ([rows.dwords(0), rows.dwords(16)], rows.columns(32)) };
        for (h, q) in columns.as_chunks::<8>().0.iter().enumerate() {
            for s in 0..4 {
                for i in 0..8 {
                    let low = _mm512_srl_epi16(q[i], _mm_cvtsi32_si128(2 * s as i32));
                    let low = _mm512_and_si512(low, pair);
                    let by = 2 - (4 * h + s) as i32;
                    lines[32 * h + 8 * s + i] = join_bits(low, bits[i / 4][i % 4], by, third);
                }
            }
        }
    }
}

/// Adds 4 where `high` has the bit `LO` (bytes of the lower half) or `HI` (upper half).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn with_third_bit<const LO: u8, const HI: u8>(q: __m512i, high: __m512i) -> __m512i {
    let bit = _mm512_inserti64x4::<1>(_mm512_set1_epi8(LO as i8), _mm256_set1_epi8(HI as i8));
    _mm512_mask_add_epi8(q, _mm512_test_epi8_mask(high, bit), q, _mm512_set1_epi8(4))
}
