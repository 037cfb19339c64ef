//! Q2_K: `w = d · scale · q − dmin · min`, `q` in `0..4`, scales and mins of 4 bits for each 16 weights.

use super::{BlockScales, FormatK, nibbles, pair_of_bits};
use crate::matmul::rows::Rows;
use crate::simd::row_lanes::{DotI8, RowLanes};
use crate::weights::format::Format;

pub(crate) struct Q2K;

impl FormatK for Q2K {
    const FORMAT: Format = Format::Q2_K;
    const SUB_LEN: usize = 16;
    const BITS: u32 = 2;
    const HAS_MINS: bool = true;
    const PLANES: usize = 4;
    const PLANE_BYTES: usize = 32;

    #[inline(always)]
    unsafe fn block_scales<S: RowLanes>(s: S, rows: &Rows) -> BlockScales<S> {
        // SAFETY: of a block's 84 bytes, 16 of scales are first and d and dmin last.
        let (both, tail) = unsafe { (rows.dwords4(s, 0), rows.dwords4(s, 68)) };
        let (mut scales, mut mins) = ([s.zero(); 4], [s.zero(); 4]);
        for v in 0..4 {
            [scales[v], mins[v]] = nibbles(s, both[v]);
        }
        BlockScales { d: s.low_f16(tail[3]), dmin: s.high_f16(tail[3]), scales, mins }
    }

    #[inline(always)]
    unsafe fn values<S: DotI8>(s: S, block: *const u8) -> [S::I; 8] {
        let mut q = [s.zero(); 8];
        for r in 0..64 / S::BYTES {
            // SAFETY: 64 bytes of values follow 16 of scales.
            let four = unsafe { s.load(block.add(16 + S::BYTES * r)) };
            for p in 0..4 {
                q[4 * r + p] = pair_of_bits(s, four, p);
            }
        }
        q
    }

    #[inline(always)]
    unsafe fn columns<S: DotI8>(s: S, rows: &Rows, out: &mut [S::I; 64]) {
        // SAFETY: 64 bytes of values follow 16 of scales.
        let packed = unsafe { rows.dwords16(s, 16) };
        for (h, four) in packed.as_chunks::<8>().0.iter().enumerate() {
            for p in 0..4 {
                for i in 0..8 {
                    out[32 * h + 8 * p + i] = pair_of_bits(s, four[i], p);
                }
            }
        }
    }
}
