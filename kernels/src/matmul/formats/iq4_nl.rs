//! IQ4_NL: `w = d · KVALUES[q]`; nibbles as in Q4_0.

use super::Format32;
use super::iq4_xs::levels;
use crate::simd::row_lanes::DotI8;
use crate::weights::format::Format;

pub(crate) struct Iq4Nl;

impl Format32 for Iq4Nl {
    const FORMAT: Format = Format::IQ4_NL;
    const BITS: u32 = 8;

    #[inline(always)]
    unsafe fn values<S: DotI8>(s: S, blocks: [*const u8; 4]) -> [S::I; 2] {
        // SAFETY: 16 bytes of nibbles follow 2 of d.
        levels(s, unsafe { s.load_quarters(blocks, 2) })
    }
}
