//! Q2_K: `w = d · scale · q − dmin · min`, `q` in `0..4`, scales and mins of 4 bits for each 16 weights.
//!
//! All 64 bytes of values are one register, its halves the halves of the block; four shifts take it apart.

use std::arch::x86_64::*;

use super::dot_k::{Heads, KQuant};
use super::rows::*;
use crate::weights::format::Format;

pub(crate) struct Q2K;

impl KQuant for Q2K {
    const FORMAT: Format = Format::Q2_K;
    const SUB_LEN: usize = 16;
    const OFFSET: u8 = 0;
    const HAS_MINS: bool = true;
    const ORDER: [usize; 16] = [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15];

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn heads(rows: &Rows) -> Heads {
        // SAFETY: a block begins with 16 bytes of scales and ends with d and dmin.
        let (both, tail) = unsafe { (rows.dwords(0), rows.dwords(68)) };
        let nibble = _mm512_set1_epi8(15);
        let zero = _mm512_setzero_si512();
        let mut heads =
            Heads { d: low_f16(tail[3]), dmin: high_f16(tail[3]), scales: [zero; 4], mins: [zero; 4] };
        for v in 0..4 {
            heads.scales[v] = _mm512_and_si512(both[v], nibble);
            heads.mins[v] = _mm512_and_si512(_mm512_srli_epi16::<4>(both[v]), nibble);
        }
        heads
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn quants(block: *const u8) -> [__m512i; 4] {
        let pair = _mm512_set1_epi8(3);
        // SAFETY: 64 bytes of values follow 16 of scales.
        let q = unsafe { _mm512_loadu_si512(block.add(16).cast()) };
        [
            _mm512_and_si512(q, pair),
            _mm512_and_si512(_mm512_srli_epi16::<2>(q), pair),
            _mm512_and_si512(_mm512_srli_epi16::<4>(q), pair),
            _mm512_and_si512(_mm512_srli_epi16::<6>(q), pair),
        ]
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn lines(rows: &Rows, lines: &mut [__m512i; 64]) {
        let pair = _mm512_set1_epi8(3);
        // SAFETY: 64 bytes of values follow 16 of scales.
        let columns = unsafe { rows.columns(16) };
        for (h, q) in columns.as_chunks::<8>().0.iter().enumerate() {
            for s in 0..4 {
                for i in 0..8 {
                    let q = _mm512_srl_epi16(q[i], _mm_cvtsi32_si128(2 * s as i32));
                    lines[32 * h + 8 * s + i] = _mm512_and_si512(q, pair);
                }
            }
        }
    }
}
