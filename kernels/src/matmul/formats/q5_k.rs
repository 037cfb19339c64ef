//! Q5_K: `w = d · scale · q − dmin · min`, `q` in `0..32`, scales and mins as in Q4_K.
//!
//! Nibbles as in Q4_K; the fifth bit of weight `32b + l` is bit `b` of byte `l`.

use super::q4_k::{nibbles_of_block, six_bit_scales};
use super::{BlockScales, FormatK, nibbles};
use crate::matmul::rows::Rows;
use crate::simd::row_lanes::{DotI8, RowLanes};
use crate::weights::format::Format;

pub(crate) struct Q5K;

impl FormatK for Q5K {
    const FORMAT: Format = Format::Q5_K;
    const SUB_LEN: usize = 32;
    const BITS: u32 = 5;
    const HAS_MINS: bool = true;
    const PLANES: usize = 2;
    const PLANE_BYTES: usize = 32;

    #[inline(always)]
    unsafe fn block_scales<S: RowLanes>(s: S, rows: &Rows) -> BlockScales<S> {
        // SAFETY: a block begins with d, dmin and 12 bytes of scales.
        six_bit_scales(s, unsafe { rows.dwords4(s, 0) })
    }

    #[inline(always)]
    unsafe fn values<S: DotI8>(s: S, block: *const u8) -> [S::I; 8] {
        // SAFETY: 16 bytes of scales are followed by 32 of fifth bits and 128 of nibbles.
        let (mut q, fifth) = unsafe { (nibbles_of_block(s, block.add(48)), s.load_32(block.add(16))) };
        for r in 0..128 / S::BYTES {
            for p in 0..2 {
                // A packed register is one or two times 32 bytes.
                let bit = 1 << (r * S::BYTES / 32 * 2 + p);
                q[2 * r + p] = s.add_where(q[2 * r + p], fifth, [bit, bit << 2], 16);
            }
        }
        q
    }

    #[inline(always)]
    unsafe fn columns<S: DotI8>(s: S, rows: &Rows, out: &mut [S::I; 64]) {
        // SAFETY: 16 bytes of scales are followed by 32 of fifth bits and 128 of nibbles.
        let bits = unsafe { rows.dwords8(s, 16) };
        let fifth = s.splat_u8(16);
        for h in 0..2 {
            // SAFETY: the same.
            let packed = unsafe { rows.dwords16(s, 48 + 64 * h) };
            for (c, packed) in packed.as_chunks::<8>().0.iter().enumerate() {
                let sub = 4 * h + 2 * c;
                for i in 0..8 {
                    let [low, high] = nibbles(s, packed[i]);
                    out[8 * sub + i] = s.join_bits(low, bits[i], 4 - sub as i32, fifth);
                    out[8 * sub + 8 + i] = s.join_bits(high, bits[i], 3 - sub as i32, fifth);
                }
            }
        }
    }
}
