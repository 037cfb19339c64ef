//! IQ4_XS: `w = d · (scale − 32) · KVALUES[q]`, scales of 6 bits for each 32 weights.
//!
//! `vpshufb` looks the values up, with 128 added; each 16 bytes hold the nibbles of 32 weights, the first half of them in the low ones.

use std::arch::x86_64::*;

use super::dot_k::{Heads, KQuant};
use super::rows::*;
use crate::weights::format::Format;
use crate::weights::unpack::KVALUES_IQ4;

pub(crate) struct Iq4Xs;

impl KQuant for Iq4Xs {
    const FORMAT: Format = Format::IQ4_XS;
    const SUB_LEN: usize = 32;
    const OFFSET: u8 = 128;
    const HAS_MINS: bool = false;
    const ORDER: [usize; 16] = [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15];
    // Four products reach 4 · 127 · 127.
    const FITS_16_BITS: bool = false;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn heads(rows: &Rows) -> Heads {
        // SAFETY: a block begins with d, 2 bytes of high and 4 of low bits of scales; 128 bytes follow.
        let [head, low, _, _] = unsafe { rows.dwords(0) };
        // `vpmultishiftqb` takes eight bits from any place in a qword, here of two rows.
        let low_bits = |at: i64| _mm512_set1_epi64(at + 0x2c28_2420_0c08_0400);
        let high_bits = |at: i64| _mm512_set1_epi64(at + 0x3230_2e2c_1210_0e0c);
        let (nibble, top2) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
        let join = |low_at, high_at| {
            let low = _mm512_and_si512(_mm512_multishift_epi64_epi8(low_bits(low_at), low), nibble);
            let high = _mm512_and_si512(_mm512_multishift_epi64_epi8(high_bits(high_at), head), top2);
            _mm512_sub_epi8(_mm512_or_si512(low, high), _mm512_set1_epi8(32))
        };
        let zero = _mm512_setzero_si512();
        let scales = [join(0, 0), join(0x1010_1010_1010_1010, 0x0808_0808_0808_0808), zero, zero];
        Heads { d: low_f16(head), dmin: _mm512_setzero_ps(), scales, mins: [zero; 4] }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn quants(block: *const u8) -> [__m512i; 4] {
        // SAFETY: 128 bytes of nibbles follow 8 of scales.
        let (a, b) =
            unsafe { (_mm512_loadu_si512(block.add(8).cast()), _mm512_loadu_si512(block.add(72).cast())) };
        let [a_lo, a_hi] = kvalues(a);
        let [b_lo, b_hi] = kvalues(b);
        [a_lo, a_hi, b_lo, b_hi]
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn lines(rows: &Rows, lines: &mut [__m512i; 64]) {
        for h in 0..2 {
            // SAFETY: 128 bytes of nibbles follow 8 of scales.
            let columns = unsafe { rows.columns(8 + 64 * h) };
            for (c, q) in columns.as_chunks::<4>().0.iter().enumerate() {
                let at = 32 * h + 8 * c;
                for i in 0..4 {
                    [lines[at + i], lines[at + 4 + i]] = kvalues(q[i]);
                }
            }
        }
    }
}

/// `KVALUES + 128` of the low nibbles and of the high ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn kvalues(nibbles: __m512i) -> [__m512i; 2] {
    let low4 = _mm512_set1_epi8(15);
    // SAFETY: 16 bytes.
    let table = unsafe { _mm_loadu_si128(KVALUES_IQ4.as_ptr().cast()) };
    let table = _mm512_broadcast_i32x4(_mm_xor_si128(table, _mm_set1_epi8(-128)));
    [
        _mm512_shuffle_epi8(table, _mm512_and_si512(nibbles, low4)),
        _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16::<4>(nibbles), low4)),
    ]
}
