//! Q8_0: `w = d · q`, `q` in `−128..128`.

use super::Format32;
use crate::simd::row_lanes::DotI8;
use crate::weights::format::Format;

pub(crate) struct Q8_0;

impl Format32 for Q8_0 {
    const FORMAT: Format = Format::Q8_0;
    const BITS: u32 = 8;

    #[inline(always)]
    unsafe fn values<S: DotI8>(s: S, blocks: [*const u8; 4]) -> [S::I; 2] {
        // SAFETY: 32 bytes of values follow 2 of d.
        let [low, high] = unsafe { [s.load_quarters(blocks, 2), s.load_quarters(blocks, 18)] };
        // Flipping the top bit adds 128.
        let top = s.splat_u8(0x80);
        if S::UNSIGNED { [s.xor(low, top), s.xor(high, top)] } else { [low, high] }
    }
}
