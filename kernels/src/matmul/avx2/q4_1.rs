//! Q4_1: `w = d · q + m`, `q` in `0..16`; nibbles as in Q4_0.

use std::arch::x86_64::*;

use super::dot_32::Quant32;
use super::q4_0::nibbles;
use super::rows::load_lanes;
use crate::weights::format::Format;

pub(super) struct Q4_1;

impl Quant32 for Q4_1 {
    const FORMAT: Format = Format::Q4_1;
    const BITS: u32 = 4;
    const HAS_MIN: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn quants(blocks: [*const u8; 2]) -> [__m256i; 2] {
        // SAFETY: 16 bytes of nibbles follow 4 of d and m.
        nibbles(unsafe { load_lanes(blocks, 4) })
    }
}
