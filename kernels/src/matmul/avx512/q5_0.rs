//! Q5_0: `w = d · (q − 16)`, `q` in `0..32`; nibbles as in Q4_0, and 32 fifth bits.

use std::arch::x86_64::*;

use super::dot_32::Quant32;
use super::q4_0::nibbles;
use super::rows::load_lanes;
use crate::weights::format::Format;

pub(crate) struct Q5_0;

impl Quant32 for Q5_0 {
    const FORMAT: Format = Format::Q5_0;
    const OFFSET: u8 = 16;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    unsafe fn quants(blocks: [*const u8; 4]) -> [__m512i; 2] {
        // SAFETY: 4 bytes of fifth bits and 16 of nibbles follow 2 of d.
        unsafe { five_bits(blocks, 2) }
    }
}

/// Values of five bits, `at` bytes into each block; bit `i` of the first four bytes is the fifth of value `i`.
///
/// # Safety
/// 20 bytes are readable there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) unsafe fn five_bits(blocks: [*const u8; 4], at: usize) -> [__m512i; 2] {
    // SAFETY: promised by the caller.
    let [lo, hi] = nibbles(unsafe { load_lanes(blocks, at + 4) });
    // The first sixteen bits of each block are one mask of 64, the second sixteen another.
    let (mut lo_mask, mut hi_mask) = (0, 0);
    for j in 0..4 {
        // SAFETY: promised by the caller.
        let bits = unsafe { blocks[j].add(at).cast::<u32>().read_unaligned() as u64 };
        lo_mask |= (bits & 0xffff) << (16 * j);
        hi_mask |= (bits >> 16) << (16 * j);
    }
    let sixteen = _mm512_set1_epi8(16);
    [_mm512_mask_add_epi8(lo, lo_mask, lo, sixteen), _mm512_mask_add_epi8(hi, hi_mask, hi, sixteen)]
}
