//! IQ4_NL: one of 16 levels each.

use crate::simd::neon::intrinsics::*;

use super::dot_32::{Quant32, nibbles};
use crate::simd::neon::registers::look_up;
use crate::weights::block::KVALUES_IQ4;
use crate::weights::block::{BlockIQ4NL, F16Le};

impl Quant32 for BlockIQ4NL {
    const OFFSET: i32 = 0;
    const SMALL: bool = false;

    #[inline(always)]
    fn quants(&self) -> [int8x16_t; 2] {
        let [low, high] = nibbles(&self.qs);
        [look_up(&KVALUES_IQ4, low), look_up(&KVALUES_IQ4, high)]
    }

    #[inline(always)]
    fn d_m(&self) -> [F16Le; 2] {
        [self.d, F16Le([0; 2])]
    }
}
