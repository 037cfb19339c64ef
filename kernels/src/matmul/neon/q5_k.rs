//! Q5_K: Q4_K with a fifth bit, `0..=31`.

use crate::simd::neon::intrinsics::*;

use super::dot_k::KQuant;
use super::q4_k::{mins, scales};
use crate::simd::neon::registers::*;
use crate::weights::block::{BlockQ5K, F16Le};

impl KQuant for BlockQ5K {
    const SUB_LEN: usize = 32;
    const OFFSET: i32 = 0;
    const SMALL: bool = true;

    #[inline(always)]
    fn quants(&self, c: usize) -> [int8x16_t; 4] {
        let (a, b) = (load_nth(&self.qs, 2 * c), load_nth(&self.qs, 2 * c + 1));
        let (top_a, top_b) = (load_nth(&self.qh, 0), load_nth(&self.qh, 1));
        let shift = 4 - 2 * c as i8;
        [
            vorrq_s8(low(a), bits(top_a, shift, 16)),
            vorrq_s8(low(b), bits(top_b, shift, 16)),
            vorrq_s8(high(a), bits(top_a, shift - 1, 16)),
            vorrq_s8(high(b), bits(top_b, shift - 1, 16)),
        ]
    }

    #[inline(always)]
    fn scales(&self) -> [int16x8_t; 2] {
        [scales(&self.scales), vdupq_n_s16(0)]
    }

    #[inline(always)]
    fn mins(&self) -> [int16x8_t; 2] {
        [mins(&self.scales), vdupq_n_s16(0)]
    }

    #[inline(always)]
    fn d_m(&self) -> [F16Le; 2] {
        [self.d, self.dmin]
    }
}
