//! Q4_K: eight sub-blocks of 32, nibbles `0..=15`, scales and mins of 6 bits.

use crate::simd::neon::intrinsics::*;

use super::dot_k::KQuant;
use crate::simd::neon::registers::*;
use crate::weights::block::{BlockQ4K, F16Le};

impl KQuant for BlockQ4K {
    const SUB_LEN: usize = 32;
    const OFFSET: i32 = 0;
    const SMALL: bool = true;

    #[inline(always)]
    fn quants(&self, c: usize) -> [int8x16_t; 4] {
        let (a, b) = (load_nth(&self.qs, 2 * c), load_nth(&self.qs, 2 * c + 1));
        [low(a), low(b), high(a), high(b)]
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

/// The twelve bytes of [`BlockQ4K::scales`], four at a time.
#[inline(always)]
pub(super) fn words(scales: &[u8; 12]) -> [u32; 3] {
    let [a, b, c] = bytemuck::cast_ref::<_, [[u8; 4]; 3]>(scales);
    [u32::from_le_bytes(*a), u32::from_le_bytes(*b), u32::from_le_bytes(*c)]
}

/// Four numbers of 6 bits in `first`, then four whose low bits are in `last`'s bytes and whose high ones are on top of `first`.
#[inline(always)]
fn widen(first: u32, last: u32) -> int16x8_t {
    let last = last & 0x0f0f_0f0f | first >> 2 & 0x3030_3030;
    let bytes = (first & 0x3f3f_3f3f) as u64 | (last as u64) << 32;
    vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(bytes)))
}

/// The scales of [`BlockQ4K`] and `BlockQ5K`.
#[inline(always)]
pub(super) fn scales(packed: &[u8; 12]) -> int16x8_t {
    let [scales, _, tops] = words(packed);
    widen(scales, tops)
}

/// Their mins.
#[inline(always)]
pub(super) fn mins(packed: &[u8; 12]) -> int16x8_t {
    let [_, mins, tops] = words(packed);
    widen(mins, tops >> 4)
}
