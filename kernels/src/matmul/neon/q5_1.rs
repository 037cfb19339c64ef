//! Q5_1: five bits, `0..=31`, and a minimum.

use crate::simd::neon::intrinsics::*;

use super::dot_32::{Quant32, nibbles};
use super::q5_0::with_fifth_bits;
use crate::weights::block::{BlockQ5_1, F16Le};

impl Quant32 for BlockQ5_1 {
    const OFFSET: i32 = 0;
    const SMALL: bool = true;

    #[inline(always)]
    fn quants(&self) -> [int8x16_t; 2] {
        with_fifth_bits(nibbles(&self.qs), self.qh)
    }

    #[inline(always)]
    fn d_m(&self) -> [F16Le; 2] {
        [self.d, self.m]
    }
}
