//! Q8_0: `w = d · q`, `q` in `−128..128`.

use std::arch::x86_64::*;

use super::dot_32::Quant32;
use super::rows::load_lanes;
use crate::weights::format::Format;

pub(super) struct Q8_0;

impl Quant32 for Q8_0 {
    const FORMAT: Format = Format::Q8_0;
    const BITS: u32 = 8;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn quants(blocks: [*const u8; 2]) -> [__m256i; 2] {
        // SAFETY: 32 bytes of values follow 2 of d.
        unsafe { [load_lanes(blocks, 2), load_lanes(blocks, 18)] }
    }
}
