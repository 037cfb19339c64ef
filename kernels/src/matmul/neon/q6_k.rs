//! Q6_K: sixteen sub-blocks of 16, taken as `0..=63` and 32 too large; scales of 8 bits.

use crate::simd::neon::intrinsics::*;

use super::dot_k::KQuant;
use crate::simd::neon::registers::*;
use crate::weights::block::{BlockQ6K, F16Le};

impl KQuant for BlockQ6K {
    const SUB_LEN: usize = 16;
    const OFFSET: i32 = 32;
    const SMALL: bool = true;

    #[inline(always)]
    fn quants(&self, c: usize) -> [int8x16_t; 4] {
        let (h, odd) = (c / 2, c % 2);
        four!(|i| {
            let nibbles = load_nth(&self.ql, 4 * h + i);
            let tops = load_nth(&self.qh, 2 * h + i % 2);
            let shift = 4 - 2 * (2 * odd + i / 2) as i8;
            vorrq_s8(if odd == 0 { low(nibbles) } else { high(nibbles) }, bits(tops, shift, 0x30))
        })
    }

    #[inline(always)]
    fn scales(&self) -> [int16x8_t; 2] {
        let scales = load(&self.scales);
        [vmovl_s8(vget_low_s8(scales)), vmovl_high_s8(scales)]
    }

    #[inline(always)]
    fn d_m(&self) -> [F16Le; 2] {
        [self.d, F16Le([0; 2])]
    }
}
