//! Q4_0: nibbles, taken as `0..=15` and 8 too large.

use crate::simd::neon::intrinsics::*;

use super::dot_32::{Quant32, nibbles};
use crate::weights::block::{BlockQ4_0, F16Le};

impl Quant32 for BlockQ4_0 {
    const OFFSET: i32 = 8;
    const SMALL: bool = true;

    #[inline(always)]
    fn quants(&self) -> [int8x16_t; 2] {
        nibbles(&self.qs)
    }

    #[inline(always)]
    fn d_m(&self) -> [F16Le; 2] {
        [self.d, F16Le([0; 2])]
    }
}
