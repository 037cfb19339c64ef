//! IQ4_NL: `w = d · KVALUES[q]`; nibbles as in Q4_0, looked up as in IQ4_XS.

use std::arch::x86_64::*;

use super::dot_32::Quant32;
use super::iq4_xs::kvalues;
use super::rows::load_lanes;
use crate::weights::format::Format;

pub(crate) struct Iq4Nl;

impl Quant32 for Iq4Nl {
    const FORMAT: Format = Format::IQ4_NL;
    const OFFSET: u8 = 128;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn quants(blocks: [*const u8; 4]) -> [__m512i; 2] {
        // SAFETY: 16 bytes of nibbles follow 2 of d.
        kvalues(unsafe { load_lanes(blocks, 2) })
    }
}
