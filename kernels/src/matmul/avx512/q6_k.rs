//! Q6_K: `w = d · scale · (q − 32)`, `q` in `0..64`, a signed scale for each 16 weights.
//!
//! Each half of a block has 64 bytes of low nibbles and 32 bytes of high pairs of bits, which are shifted into place by 16-bit lanes.

use std::arch::x86_64::*;

use super::dot_k::{Heads, KQuant};
use super::rows::*;
use crate::weights::format::Format;

pub(crate) struct Q6K;

impl KQuant for Q6K {
    const FORMAT: Format = Format::Q6_K;
    const SUB_LEN: usize = 16;
    const OFFSET: u8 = 32;
    const HAS_MINS: bool = false;
    const ORDER: [usize; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn heads(rows: &Rows) -> Heads {
        // SAFETY: 192 bytes of values, 16 of scales and 2 of d make a block.
        let (scales, tail) = unsafe { (rows.dwords(192), rows.dwords(194)) };
        let zero = _mm512_setzero_si512();
        Heads { d: high_f16(tail[3]), dmin: _mm512_setzero_ps(), scales, mins: [zero; 4] }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn quants(block: *const u8) -> [__m512i; 4] {
        // SAFETY: 128 bytes of nibbles, then 64 of pairs of bits.
        let ((ql0, ql1), (qh0, qh1)) = unsafe {
            (
                (_mm512_loadu_si512(block.cast()), _mm512_loadu_si512(block.add(64).cast())),
                (
                    _mm512_broadcast_i64x4(_mm256_loadu_si256(block.add(128).cast())),
                    _mm512_broadcast_i64x4(_mm256_loadu_si256(block.add(160).cast())),
                ),
            )
        };
        let [a, b] = join(ql0, qh0);
        let [c, d] = join(ql1, qh1);
        [a, b, c, d]
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn lines(rows: &Rows, lines: &mut [__m512i; 64]) {
        let (nibble, pair) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
        // SAFETY: 128 bytes of nibbles, then 64 of pairs of bits.
        let pairs = unsafe { rows.columns(128) };
        for h in 0..2 {
            // SAFETY: the same.
            let columns = unsafe { rows.columns(64 * h) };
            for (s, q) in columns.as_chunks::<8>().0.iter().enumerate() {
                let at = 32 * h + 8 * s;
                for i in 0..8 {
                    let low = _mm512_and_si512(q[i], nibble);
                    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(q[i]), nibble);
                    lines[at + i] = join_bits(low, pairs[8 * h + i], 4 - 2 * s as i32, pair);
                    lines[at + 16 + i] = join_bits(high, pairs[8 * h + i], -2 * s as i32, pair);
                }
            }
        }
    }
}

/// 128 values: nibbles and the pairs of bits above them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn join(ql: __m512i, qh: __m512i) -> [__m512i; 2] {
    let (nibble, pair) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    // Bits 0, 2, 4 and 6 of `qh` begin the pairs of the four quarters; bit 4 is where they belong.
    let low = _mm512_sllv_epi16(qh, _mm512_inserti64x4::<1>(_mm512_set1_epi16(4), _mm256_set1_epi16(2)));
    let high = _mm512_srlv_epi16(qh, _mm512_inserti64x4::<1>(_mm512_setzero_si512(), _mm256_set1_epi16(2)));
    [
        _mm512_or_si512(_mm512_and_si512(ql, nibble), _mm512_and_si512(low, pair)),
        _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16::<4>(ql), nibble), _mm512_and_si512(high, pair)),
    ]
}
