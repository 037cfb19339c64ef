//! IQ4_XS: eight sub-blocks of 32, one of 16 levels each; scales of 6 bits, less 32.

use crate::simd::neon::intrinsics::*;

use super::dot_k::KQuant;
use crate::simd::neon::registers::*;
use crate::weights::block::KVALUES_IQ4;
use crate::weights::block::{BlockIQ4XS, F16Le};

/// Where the high two bits of each scale are, so that they come to stand at bit 4.
const TOP_SHIFTS: [i16; 8] = [4, 2, 0, -2, -4, -6, -8, -10];

impl KQuant for BlockIQ4XS {
    const SUB_LEN: usize = 32;
    const OFFSET: i32 = 0;
    const SMALL: bool = false;

    #[inline(always)]
    fn quants(&self, c: usize) -> [int8x16_t; 4] {
        let (a, b) = (load_nth(&self.qs, 2 * c), load_nth(&self.qs, 2 * c + 1));
        let q = [low(a), high(a), low(b), high(b)];
        four!(|i| look_up(&KVALUES_IQ4, q[i]))
    }

    #[inline(always)]
    fn scales(&self) -> [int16x8_t; 2] {
        let nibbles = vcreate_u8(u32::from_le_bytes(self.scales_l) as u64);
        let nibbles = vzip1_u8(vand_u8(nibbles, vdup_n_u8(15)), vshr_n_u8::<4>(nibbles));
        let tops = vshlq_u16(vdupq_n_u16(u16::from_le_bytes(self.scales_h)), load_i16(&TOP_SHIFTS));
        let scales = vorrq_u16(vmovl_u8(nibbles), vandq_u16(tops, vdupq_n_u16(0x30)));
        [vsubq_s16(vreinterpretq_s16_u16(scales), vdupq_n_s16(32)), vdupq_n_s16(0)]
    }

    #[inline(always)]
    fn d_m(&self) -> [F16Le; 2] {
        [self.d, F16Le([0; 2])]
    }
}
