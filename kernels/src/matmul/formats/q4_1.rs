//! Q4_1: `w = d · q + m`, `q` in `0..16`; the low nibbles of 16 bytes come first, then the high ones.

use super::{Format32, nibbles};
use crate::simd::row_lanes::DotI8;
use crate::weights::format::Format;

pub(crate) struct Q4_1;

impl Format32 for Q4_1 {
    const FORMAT: Format = Format::Q4_1;
    const BITS: u32 = 4;
    const HAS_MIN: bool = true;

    #[inline(always)]
    unsafe fn values<S: DotI8>(s: S, blocks: [*const u8; 4]) -> [S::I; 2] {
        // SAFETY: 16 bytes of nibbles follow 4 of d and m.
        nibbles(s, unsafe { s.load_quarters(blocks, 4) })
    }
}
