//! Q3_K: sixteen sub-blocks of 16, taken as `0..=7` and 4 too large; scales of 6 bits, less 32.

use crate::simd::neon::intrinsics::*;

use super::dot_k::KQuant;
use super::q2_k::crumbs;
use super::q4_k::words;
use crate::simd::neon::registers::*;
use crate::weights::block::{BlockQ3K, F16Le};

/// Where the high two bits of scales `4i..4i + 4` are in each byte.
const TOP_SHIFTS: [i8; 16] = [4, 4, 4, 4, 2, 2, 2, 2, 0, 0, 0, 0, -2, -2, -2, -2];

impl KQuant for BlockQ3K {
    const SUB_LEN: usize = 16;
    const OFFSET: i32 = 4;
    const SMALL: bool = true;

    #[inline(always)]
    fn quants(&self, c: usize) -> [int8x16_t; 4] {
        let crumbs = crumbs(&self.qs, c);
        four!(|i| {
            let tops = bits(load_nth(&self.hmask, i % 2), 2 - (2 * c + i / 2) as i8, 4);
            vorrq_s8(crumbs[i], tops)
        })
    }

    #[inline(always)]
    fn scales(&self) -> [int16x8_t; 2] {
        let [a, b, tops] = words(&self.scales);
        let nibbles = vcreate_u8(a as u64 | (b as u64) << 32);
        let nibbles = vcombine_u8(vand_u8(nibbles, vdup_n_u8(15)), vshr_n_u8::<4>(nibbles));
        let tops = vshlq_u8(vreinterpretq_u8_u32(vdupq_n_u32(tops)), load(&TOP_SHIFTS));
        let scales = vorrq_u8(nibbles, vandq_u8(tops, vdupq_n_u8(0x30)));
        let scales = vsubq_s8(vreinterpretq_s8_u8(scales), vdupq_n_s8(32));
        [vmovl_s8(vget_low_s8(scales)), vmovl_high_s8(scales)]
    }

    #[inline(always)]
    fn d_m(&self) -> [F16Le; 2] {
        [self.d, F16Le([0; 2])]
    }
}
