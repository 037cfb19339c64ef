//! Q5_0: five bits, taken as `0..=31` and 16 too large.

use crate::simd::neon::intrinsics::*;

use super::dot_32::{Quant32, nibbles};
use crate::simd::neon::registers::load_u8;
use crate::weights::block::{BlockQ5_0, F16Le};

/// Bit `i` of a byte, for each of 16.
const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];

impl Quant32 for BlockQ5_0 {
    const OFFSET: i32 = 16;
    const SMALL: bool = true;

    #[inline(always)]
    fn quants(&self) -> [int8x16_t; 2] {
        with_fifth_bits(nibbles(&self.qs), self.qh)
    }

    #[inline(always)]
    fn d_m(&self) -> [F16Le; 2] {
        [self.d, F16Le([0; 2])]
    }
}

/// Sets bit 4 of the values whose bit in `qh` is set.
#[inline(always)]
pub(super) fn with_fifth_bits([low, high]: [int8x16_t; 2], [a, b, c, d]: [u8; 4]) -> [int8x16_t; 2] {
    let (a, b) = (vcombine_u8(vdup_n_u8(a), vdup_n_u8(b)), vcombine_u8(vdup_n_u8(c), vdup_n_u8(d)));
    [vorrq_s8(low, fifth_bits(a)), vorrq_s8(high, fifth_bits(b))]
}

/// 16 where bit `i % 8` of byte `i` is set.
#[inline(always)]
fn fifth_bits(bytes: uint8x16_t) -> int8x16_t {
    vreinterpretq_s8_u8(vandq_u8(vtstq_u8(bytes, load_u8(&BITS)), vdupq_n_u8(16)))
}
