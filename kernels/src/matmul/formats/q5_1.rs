//! Q5_1: `w = d · q + m`, `q` in `0..32`; values as in Q5_0.

use super::Format32;
use super::q5_0::five_bits;
use crate::simd::row_lanes::DotI8;
use crate::weights::format::Format;

pub(crate) struct Q5_1;

impl Format32 for Q5_1 {
    const FORMAT: Format = Format::Q5_1;
    const BITS: u32 = 5;
    const HAS_MIN: bool = true;

    #[inline(always)]
    unsafe fn values<S: DotI8>(s: S, blocks: [*const u8; 4]) -> [S::I; 2] {
        // SAFETY: 4 bytes of fifth bits and 16 of nibbles follow 4 of d and m.
        unsafe { five_bits(s, blocks, 4) }
    }
}
