//! Q2_K: sixteen sub-blocks of 16, `0..=3`, scales and mins of 4 bits.

use crate::simd::neon::intrinsics::*;

use super::dot_k::KQuant;
use crate::simd::neon::registers::*;
use crate::weights::block::{BlockQ2K, F16Le};

impl KQuant for BlockQ2K {
    const SUB_LEN: usize = 16;
    const OFFSET: i32 = 0;
    const SMALL: bool = true;

    #[inline(always)]
    fn quants(&self, c: usize) -> [int8x16_t; 4] {
        crumbs(&self.qs, c)
    }

    #[inline(always)]
    fn scales(&self) -> [int16x8_t; 2] {
        let scales = low(load_u8(&self.scales));
        [vmovl_s8(vget_low_s8(scales)), vmovl_high_s8(scales)]
    }

    #[inline(always)]
    fn mins(&self) -> [int16x8_t; 2] {
        let mins = high(load_u8(&self.scales));
        [vmovl_s8(vget_low_s8(mins)), vmovl_high_s8(mins)]
    }

    #[inline(always)]
    fn d_m(&self) -> [F16Le; 2] {
        [self.d, self.dmin]
    }
}

/// Numbers `64c..64c + 64` of two bits: see [`BlockQ2K::qs`].
#[inline(always)]
pub(super) fn crumbs(qs: &[u8; 64], c: usize) -> [int8x16_t; 4] {
    four!(|i| bits(load_nth(qs, 2 * (c / 2) + i % 2), -2 * (2 * (c % 2) + i / 2) as i8, 3))
}
