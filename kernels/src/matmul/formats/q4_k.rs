//! Q4_K: `w = d · scale · q − dmin · min`, `q` in `0..16`, scales and mins of 6 bits for each 32 weights.

use super::{BlockScales, FormatK, nibbles};
use crate::matmul::rows::Rows;
use crate::simd::row_lanes::{DotI8, RowLanes};
use crate::weights::format::Format;

pub(crate) struct Q4K;

impl FormatK for Q4K {
    const FORMAT: Format = Format::Q4_K;
    const SUB_LEN: usize = 32;
    const BITS: u32 = 4;
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
        // SAFETY: 128 bytes of nibbles follow 16 of scales.
        unsafe { nibbles_of_block(s, block.add(16)) }
    }

    #[inline(always)]
    unsafe fn columns<S: DotI8>(s: S, rows: &Rows, out: &mut [S::I; 64]) {
        for h in 0..2 {
            // SAFETY: 128 bytes of nibbles follow 16 of scales.
            let packed = unsafe { rows.dwords16(s, 16 + 64 * h) };
            for (c, packed) in packed.as_chunks::<8>().0.iter().enumerate() {
                let at = 32 * h + 16 * c;
                for i in 0..8 {
                    [out[at + i], out[at + 8 + i]] = nibbles(s, packed[i]);
                }
            }
        }
    }
}

/// The scales of Q4_K and Q5_K from the first four dwords of their blocks: d and dmin, four scales' low bits, four mins' low bits, and
/// nibbles for the others, whose two high bits lie on top of the first ones'.
#[inline(always)]
pub(super) fn six_bit_scales<S: RowLanes>(
    s: S,
    [d, low_scales, low_mins, high]: [S::I; 4],
) -> BlockScales<S> {
    let (low6, low4, top2) = (s.splat_u8(0x3f), s.splat_u8(0x0f), s.splat_u8(0x30));
    let scales = s.join_bits(s.and(high, low4), low_scales, -2, top2);
    let mins = s.join_bits(s.and(s.shr32(high, 4), low4), low_mins, -2, top2);
    BlockScales {
        d: s.low_f16(d),
        dmin: s.high_f16(d),
        scales: [s.and(low_scales, low6), scales, s.zero(), s.zero()],
        mins: [s.and(low_mins, low6), mins, s.zero(), s.zero()],
    }
}

/// 256 nibbles.
///
/// # Safety
/// 128 bytes are readable.
#[inline(always)]
pub(super) unsafe fn nibbles_of_block<S: RowLanes>(s: S, at: *const u8) -> [S::I; 8] {
    let mut q = [s.zero(); 8];
    for r in 0..128 / S::BYTES {
        // SAFETY: the caller vouches for them.
        [q[2 * r], q[2 * r + 1]] = nibbles(s, unsafe { s.load(at.add(S::BYTES * r)) });
    }
    q
}
