//! Q4_1: nibbles `0..=15` and a minimum.

use crate::simd::neon::intrinsics::*;

use super::dot_32::{Quant32, nibbles};
use crate::weights::block::{BlockQ4_1, F16Le};

impl Quant32 for BlockQ4_1 {
    const OFFSET: i32 = 0;
    const SMALL: bool = true;

    #[inline(always)]
    fn quants(&self) -> [int8x16_t; 2] {
        nibbles(&self.qs)
    }

    #[inline(always)]
    fn d_m(&self) -> [F16Le; 2] {
        [self.d, self.m]
    }
}
