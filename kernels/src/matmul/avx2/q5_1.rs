//! Q5_1: `w = d · q + m`, `q` in `0..32`; values as in Q5_0.

use std::arch::x86_64::*;

use super::dot_32::Quant32;
use super::q5_0::five_bits;
use crate::weights::format::Format;

pub(super) struct Q5_1;

impl Quant32 for Q5_1 {
    const FORMAT: Format = Format::Q5_1;
    const BITS: u32 = 5;
    const HAS_MIN: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn quants(blocks: [*const u8; 2]) -> [__m256i; 2] {
        // SAFETY: 4 bytes of fifth bits and 16 of nibbles follow 4 of d and m.
        unsafe { five_bits(blocks, 4) }
    }
}
