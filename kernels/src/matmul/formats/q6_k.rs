//! Q6_K: `w = d · scale · (q − 32)`, `q` in `0..64`, a signed scale for each 16 weights.
//!
//! Each half of a block has 64 bytes of low nibbles and 32 bytes of high pairs of bits.

use super::{BlockScales, FormatK, nibbles};
use crate::matmul::rows::Rows;
use crate::simd::row_lanes::{DotI8, RowLanes};
use crate::weights::format::Format;

pub(crate) struct Q6K;

impl FormatK for Q6K {
    const FORMAT: Format = Format::Q6_K;
    const SUB_LEN: usize = 16;
    const BITS: u32 = 6;
    const OFFSET: u8 = 32;
    const PLANES: usize = 2;
    const PLANE_BYTES: usize = 64;

    #[inline(always)]
    unsafe fn block_scales<S: RowLanes>(s: S, rows: &Rows) -> BlockScales<S> {
        // SAFETY: 192 bytes of values, 16 of scales and 2 of d make a block.
        let (scales, tail) = unsafe { (rows.dwords4(s, 192), rows.dwords4(s, 194)) };
        BlockScales { d: s.high_f16(tail[3]), dmin: s.splat_f32(0.0), scales, mins: [s.zero(); 4] }
    }

    #[inline(always)]
    unsafe fn values<S: DotI8>(s: S, block: *const u8) -> [S::I; 8] {
        let pair = s.splat_u8(0x30);
        let mut q = [s.zero(); 8];
        for r in 0..128 / S::BYTES {
            // SAFETY: 128 bytes of nibbles, then 64 of pairs of bits.
            let (packed, pairs) = unsafe {
                (s.load(block.add(S::BYTES * r)), s.load_32(block.add(128 + r * S::BYTES / 64 * 32)))
            };
            // The pairs of 32 weights begin at bit 0, 2, 4 or 6; bit 4 is where they belong.
            let first = (r * S::BYTES / 32 % 2) as i32;
            let [low, high] = nibbles(s, packed);
            q[2 * r] = s.or(low, s.and(s.shift16_by_half(pairs, [4 - 2 * first, 2]), pair));
            q[2 * r + 1] = s.or(high, s.and(s.shift16_by_half(pairs, [-2 * first, -2]), pair));
        }
        q
    }

    #[inline(always)]
    unsafe fn columns<S: DotI8>(s: S, rows: &Rows, out: &mut [S::I; 64]) {
        let pair = s.splat_u8(0x30);
        // SAFETY: 128 bytes of nibbles, then 64 of pairs of bits.
        let pairs = unsafe { rows.dwords16(s, 128) };
        for h in 0..2 {
            // SAFETY: the same.
            let packed = unsafe { rows.dwords16(s, 64 * h) };
            for (c, packed) in packed.as_chunks::<8>().0.iter().enumerate() {
                let (at, by) = (32 * h + 8 * c, 4 - 2 * c as i32);
                for i in 0..8 {
                    let [low, high] = nibbles(s, packed[i]);
                    out[at + i] = s.join_bits(low, pairs[8 * h + i], by, pair);
                    out[at + 16 + i] = s.join_bits(high, pairs[8 * h + i], by - 4, pair);
                }
            }
        }
    }
}
