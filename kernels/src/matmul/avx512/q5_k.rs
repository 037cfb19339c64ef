//! Q5_K: `w = d · scale · q − dmin · min`, `q` in `0..32`, scales and mins as in Q4_K.
//!
//! Nibbles as in Q4_K; the fifth bits of weight `32s + l` are bit `s` of byte `l`, found by a test with that bit and added under its mask.

use std::arch::x86_64::*;

use super::dot_k::{Heads, KQuant};
use super::q4_k::heads;
use super::rows::*;
use crate::weights::format::Format;

pub(crate) struct Q5K;

impl KQuant for Q5K {
    const FORMAT: Format = Format::Q5_K;
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
        // SAFETY: 16 bytes of scales are followed by 32 of fifth bits and 128 of nibbles.
        let (qh, a, b) = unsafe {
            (
                _mm512_broadcast_i64x4(_mm256_loadu_si256(block.add(16).cast())),
                _mm512_loadu_si512(block.add(48).cast()),
                _mm512_loadu_si512(block.add(112).cast()),
            )
        };
        [
            with_fifth_bit::<0x01, 0x04>(_mm512_and_si512(a, nibble), qh),
            with_fifth_bit::<0x02, 0x08>(_mm512_and_si512(_mm512_srli_epi16::<4>(a), nibble), qh),
            with_fifth_bit::<0x10, 0x40>(_mm512_and_si512(b, nibble), qh),
            with_fifth_bit::<0x20, 0x80>(_mm512_and_si512(_mm512_srli_epi16::<4>(b), nibble), qh),
        ]
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn lines(rows: &Rows, lines: &mut [__m512i; 64]) {
        let (nibble, fifth) = (_mm512_set1_epi8(15), _mm512_set1_epi8(16));
        // SAFETY: 16 bytes of scales are followed by 32 of fifth bits and 128 of nibbles.
        let bits = unsafe { [rows.dwords(16), rows.dwords(32)] };
        for h in 0..2 {
            // SAFETY: the same.
            let columns = unsafe { rows.columns(48 + 64 * h) };
            for (c, q) in columns.as_chunks::<8>().0.iter().enumerate() {
                let sub = 4 * h + 2 * c;
                for i in 0..8 {
                    let bits = bits[i / 4][i % 4];
                    let low = _mm512_and_si512(q[i], nibble);
                    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(q[i]), nibble);
                    lines[8 * sub + i] = join_bits(low, bits, 4 - sub as i32, fifth);
                    lines[8 * sub + 8 + i] = join_bits(high, bits, 3 - sub as i32, fifth);
                }
            }
        }
    }
}

/// Adds 16 where `qh` has the bit `LO` (bytes of the lower half) or `HI` (upper half).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn with_fifth_bit<const LO: u8, const HI: u8>(q: __m512i, qh: __m512i) -> __m512i {
    let bit = _mm512_inserti64x4::<1>(_mm512_set1_epi8(LO as i8), _mm256_set1_epi8(HI as i8));
    _mm512_mask_add_epi8(q, _mm512_test_epi8_mask(qh, bit), q, _mm512_set1_epi8(16))
}
