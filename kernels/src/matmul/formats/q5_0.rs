//! Q5_0: `w = d · (q − 16)`, `q` in `0..32`; nibbles as in Q4_0, and 32 fifth bits.

use super::{Format32, nibbles};
use crate::simd::row_lanes::DotI8;
use crate::weights::format::Format;

pub(crate) struct Q5_0;

impl Format32 for Q5_0 {
    const FORMAT: Format = Format::Q5_0;
    const BITS: u32 = 5;
    const OFFSET: u8 = 16;

    #[inline(always)]
    unsafe fn values<S: DotI8>(s: S, blocks: [*const u8; 4]) -> [S::I; 2] {
        // SAFETY: 4 bytes of fifth bits and 16 of nibbles follow 2 of d.
        unsafe { five_bits(s, blocks, 2) }
    }
}

/// Values of five bits, `at` bytes into each block; bit `i` of the first four bytes is the fifth of value `i`.
///
/// # Safety
/// 20 bytes are readable there.
#[inline(always)]
pub(super) unsafe fn five_bits<S: DotI8>(s: S, blocks: [*const u8; 4], at: usize) -> [S::I; 2] {
    // SAFETY: the caller vouches for the bytes.
    unsafe {
        let [low, high] = nibbles(s, s.load_quarters(blocks, at + 4));
        let mut fifth = [0; 4];
        for j in 0..S::QUARTERS {
            fifth[j] = blocks[j].add(at).cast::<u32>().read_unaligned();
        }
        s.add_bits(low, high, fifth, 16)
    }
}
