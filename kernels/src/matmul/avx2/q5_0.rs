//! Q5_0: `w = d · (q − 16)`, `q` in `0..32`; nibbles as in Q4_0, and 32 fifth bits.

use std::arch::x86_64::*;

use super::dot_32::Quant32;
use super::q4_0::nibbles;
use super::rows::load_lanes;
use crate::weights::format::Format;

pub(super) struct Q5_0;

impl Quant32 for Q5_0 {
    const FORMAT: Format = Format::Q5_0;
    const BITS: u32 = 5;
    const OFFSET: u8 = 16;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn quants(blocks: [*const u8; 2]) -> [__m256i; 2] {
        // SAFETY: 4 bytes of fifth bits and 16 of nibbles follow 2 of d.
        unsafe { five_bits(blocks, 2) }
    }
}

/// Values of five bits, `at` bytes into each block; bit `i` of the first four bytes is the fifth of value `i`.
///
/// # Safety
/// 20 bytes are readable there.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn five_bits(blocks: [*const u8; 2], at: usize) -> [__m256i; 2] {
    // SAFETY: promised by the caller.
    let ([lo, hi], qh) = unsafe {
        let qh = [blocks[0].add(at), blocks[1].add(at)];
        let [qh0, qh1] = [qh[0].cast::<i32>().read_unaligned(), qh[1].cast::<i32>().read_unaligned()];
        (nibbles(load_lanes(blocks, at + 4)), _mm256_set_m128i(_mm_set1_epi32(qh1), _mm_set1_epi32(qh0)))
    };
    // Each byte of a lane takes the byte that has its bit, then asks for that bit.
    let first = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
    let second = _mm256_add_epi8(first, _mm256_set1_epi8(2));
    let bits = _mm256_set1_epi64x(0x8040_2010_0804_0201u64 as i64);
    let with_bit = |q, at| {
        let set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(qh, at), bits), bits);
        _mm256_or_si256(q, _mm256_and_si256(set, _mm256_set1_epi8(16)))
    };
    [with_bit(lo, first), with_bit(hi, second)]
}
