//! Q8_0: `w = d · q`, `q` in `−128..128`; flipping the top bit adds 128, and the sum is corrected by that of the activations.

use std::arch::x86_64::*;

use super::dot_32::Quant32;
use super::rows::load_lanes;
use crate::weights::format::Format;

pub(crate) struct Q8_0;

impl Quant32 for Q8_0 {
    const FORMAT: Format = Format::Q8_0;
    const OFFSET: u8 = 128;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn quants(blocks: [*const u8; 4]) -> [__m512i; 2] {
        let top_bit = _mm512_set1_epi8(-128);
        // SAFETY: 32 bytes of values follow 2 of d.
        let (lo, hi) = unsafe { (load_lanes(blocks, 2), load_lanes(blocks, 18)) };
        [_mm512_xor_si512(lo, top_bit), _mm512_xor_si512(hi, top_bit)]
    }
}
