//! Q4_K: `w = d · scale · q − dmin · min`, `q` in `0..16`, scales and mins of 6 bits for each 32 weights.
//!
//! 128 bytes of nibbles are two registers; masks and shifts make four, 24 instructions a row and block with everything else.

use std::arch::x86_64::*;

use super::dot_k::{Heads, KQuant};
use super::rows::*;
use crate::weights::format::Format;

pub(crate) struct Q4K;

impl KQuant for Q4K {
    const FORMAT: Format = Format::Q4_K;
    const SUB_LEN: usize = 32;
    const OFFSET: u8 = 0;
    const HAS_MINS: bool = true;
    const ORDER: [usize; 16] = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15];

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn heads(rows: &Rows) -> Heads {
        // SAFETY: a block begins with d, dmin and 12 bytes of scales.
        let [d, low_scales, low_mins, high] = unsafe { rows.dwords(0) };
        heads(d, low_scales, low_mins, high)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn quants(block: *const u8) -> [__m512i; 4] {
        let nibble = _mm512_set1_epi8(15);
        // SAFETY: 128 bytes of nibbles follow 16 of scales.
        let (a, b) =
            unsafe { (_mm512_loadu_si512(block.add(16).cast()), _mm512_loadu_si512(block.add(80).cast())) };
        [
            _mm512_and_si512(a, nibble),
            _mm512_and_si512(_mm512_srli_epi16::<4>(a), nibble),
            _mm512_and_si512(b, nibble),
            _mm512_and_si512(_mm512_srli_epi16::<4>(b), nibble),
        ]
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn lines(rows: &Rows, lines: &mut [__m512i; 64]) {
        let nibble = _mm512_set1_epi8(15);
        for h in 0..2 {
            // SAFETY: 128 bytes of nibbles follow 16 of scales.
            let columns = unsafe { rows.columns(16 + 64 * h) };
            for (c, q) in columns.as_chunks::<8>().0.iter().enumerate() {
                let at = 32 * h + 16 * c;
                for i in 0..8 {
                    lines[at + i] = _mm512_and_si512(q[i], nibble);
                    lines[at + 8 + i] = _mm512_and_si512(_mm512_srli_epi16::<4>(q[i]), nibble);
                }
            }
        }
    }
}

/// The scales of Q4_K and Q5_K from the first four dwords of their blocks: four scales' low bits, four mins' low bits, and a third of
/// nibbles for the others, whose two high bits lie on top of the first ones'.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn heads(d: __m512i, low_scales: __m512i, low_mins: __m512i, high: __m512i) -> Heads {
    let (low6, low4, top2) = (_mm512_set1_epi8(0x3f), _mm512_set1_epi8(0x0f), _mm512_set1_epi8(0x30));
    let join = |nibbles, tops| {
        let tops = _mm512_and_si512(_mm512_srli_epi32::<2>(tops), top2);
        _mm512_or_si512(_mm512_and_si512(nibbles, low4), tops)
    };
    let zero = _mm512_setzero_si512();
    Heads {
        d: low_f16(d),
        dmin: high_f16(d),
        scales: [_mm512_and_si512(low_scales, low6), join(high, low_scales), zero, zero],
        mins: [_mm512_and_si512(low_mins, low6), join(_mm512_srli_epi32::<4>(high), low_mins), zero, zero],
    }
}
