//! Q8_0: 32 bytes, `−128..=127`.

use crate::simd::neon::intrinsics::*;

use super::dot_32::Quant32;
use crate::simd::neon::registers::load;
use crate::weights::block::{BlockQ8_0, F16Le};

impl Quant32 for BlockQ8_0 {
    const OFFSET: i32 = 0;
    const SMALL: bool = false;

    #[inline(always)]
    fn quants(&self) -> [int8x16_t; 2] {
        let [first, last] = bytemuck::cast_ref(&self.qs);
        [load(first), load(last)]
    }

    #[inline(always)]
    fn d_m(&self) -> [F16Le; 2] {
        [self.d, F16Le([0; 2])]
    }
}
