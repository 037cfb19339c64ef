//! Q4_0: `w = d · (q − 8)`, `q` in `0..16`; the low nibbles of 16 bytes come first, then the high ones.

use std::arch::x86_64::*;

use super::dot_32::Quant32;
use super::rows::load_lanes;
use crate::weights::format::Format;

pub(crate) struct Q4_0;

impl Quant32 for Q4_0 {
    const FORMAT: Format = Format::Q4_0;
    const OFFSET: u8 = 8;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn quants(blocks: [*const u8; 4]) -> [__m512i; 2] {
        // SAFETY: 16 bytes of nibbles follow 2 of d.
        nibbles(unsafe { load_lanes(blocks, 2) })
    }
}

/// The low nibbles, and the high ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn nibbles(q: __m512i) -> [__m512i; 2] {
    let low = _mm512_set1_epi8(15);
    [_mm512_and_si512(q, low), _mm512_and_si512(_mm512_srli_epi16::<4>(q), low)]
}
