//! Q3_K: `w = d · (scale − 32) · (q − 4)`, `q` in `0..8`, scales of 6 bits for each 16 weights.
//!
//! The low two bits as in Q2_K; the third bit of weight `32b + l` is bit `b` of byte `l`.

use super::{BlockScales, FormatK, pair_of_bits};
use crate::matmul::rows::Rows;
use crate::simd::row_lanes::{DotI8, RowLanes};
use crate::weights::format::Format;

pub(crate) struct Q3K;

impl FormatK for Q3K {
    const FORMAT: Format = Format::Q3_K;
    const SUB_LEN: usize = 16;
    const BITS: u32 = 3;
    const OFFSET: u8 = 4;
    const PLANES: usize = 4;
    const PLANE_BYTES: usize = 32;

    #[inline(always)]
    unsafe fn block_scales<S: RowLanes>(s: S, rows: &Rows) -> BlockScales<S> {
        // SAFETY: 12 bytes of scales and d end a block of 110.
        let ([_, low0, low1, tops], tail) = unsafe { (rows.dwords4(s, 92), rows.dwords4(s, 94)) };
        let scales = [
            join(s, low0, tops, 4),
            join(s, low1, tops, 2),
            join(s, s.shr32(low0, 4), tops, 0),
            join(s, s.shr32(low1, 4), tops, -2),
        ];
        BlockScales { d: s.high_f16(tail[3]), dmin: s.splat_f32(0.0), scales, mins: [s.zero(); 4] }
    }

    #[inline(always)]
    unsafe fn values<S: DotI8>(s: S, block: *const u8) -> [S::I; 8] {
        // SAFETY: 32 bytes of third bits, then 64 of the other two.
        let third = unsafe { s.load_32(block) };
        let mut q = [s.zero(); 8];
        for r in 0..64 / S::BYTES {
            // SAFETY: the same.
            let four = unsafe { s.load(block.add(32 + S::BYTES * r)) };
            for p in 0..4 {
                let bit = 1 << (4 * r + p);
                q[4 * r + p] = s.add_where(pair_of_bits(s, four, p), third, [bit, bit << 4], 4);
            }
        }
        q
    }

    #[inline(always)]
    unsafe fn columns<S: DotI8>(s: S, rows: &Rows, out: &mut [S::I; 64]) {
        // SAFETY: 32 bytes of third bits, then 64 of the other two.
        let (third, packed) = unsafe { (rows.dwords8(s, 0), rows.dwords16(s, 32)) };
        for (h, four) in packed.as_chunks::<8>().0.iter().enumerate() {
            for p in 0..4 {
                for i in 0..8 {
                    let by = 2 - (4 * h + p) as i32;
                    out[32 * h + 8 * p + i] =
                        s.join_bits(pair_of_bits(s, four[i], p), third[i], by, s.splat_u8(4));
                }
            }
        }
    }
}

/// Scales from low nibbles and from the pairs of bits that a shift by `by` brings to bit 4.
#[inline(always)]
fn join<S: RowLanes>(s: S, low: S::I, tops: S::I, by: i32) -> S::I {
    let six = s.join_bits(s.and(low, s.splat_u8(15)), tops, by, s.splat_u8(0x30));
    s.sub_i8(six, s.splat_u8(32))
}
