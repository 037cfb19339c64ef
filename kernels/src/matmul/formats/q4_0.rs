//! Q4_0: `w = d · (q − 8)`, `q` in `0..16`; the low nibbles of 16 bytes come first, then the high ones.

use super::{Format32, nibbles};
use crate::simd::row_lanes::DotI8;
use crate::weights::format::Format;

pub(crate) struct Q4_0;

impl Format32 for Q4_0 {
    const FORMAT: Format = Format::Q4_0;
    const BITS: u32 = 4;
    const OFFSET: u8 = 8;

    #[inline(always)]
    unsafe fn values<S: DotI8>(s: S, blocks: [*const u8; 4]) -> [S::I; 2] {
        // SAFETY: 16 bytes of nibbles follow 2 of d.
        nibbles(s, unsafe { s.load_quarters(blocks, 2) })
    }
}
