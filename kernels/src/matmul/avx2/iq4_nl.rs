//! IQ4_NL: `w = d · KVALUES[q]`; nibbles as in Q4_0, looked up as in IQ4_XS.

use std::arch::x86_64::*;

use super::dot_32::Quant32;
use super::iq4_xs::kvalues;
use super::rows::load_lanes;
use crate::weights::format::Format;

pub(super) struct Iq4Nl;

impl Quant32 for Iq4Nl {
    const FORMAT: Format = Format::IQ4_NL;
    const BITS: u32 = 8;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn quants(blocks: [*const u8; 2]) -> [__m256i; 2] {
        // SAFETY: 16 bytes of nibbles follow 2 of d.
        let nibbles = unsafe { load_lanes(blocks, 2) };
        [kvalues(nibbles), kvalues(_mm256_srli_epi16::<4>(nibbles))]
    }
}
