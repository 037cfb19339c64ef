//! IQ4_XS: `w = d · (scale − 32) · KVALUES[q]`, scales of 6 bits for each 32 weights.
//!
//! Each 16 bytes hold the nibbles of 32 weights, the first half of them in the low ones.

use super::{BlockScales, FormatK, nibbles};
use crate::matmul::rows::Rows;
use crate::simd::row_lanes::{DotI8, RowLanes};
use crate::weights::block::KVALUES_IQ4;
use crate::weights::format::Format;

pub(crate) struct Iq4Xs;

impl FormatK for Iq4Xs {
    const FORMAT: Format = Format::IQ4_XS;
    const SUB_LEN: usize = 32;
    const BITS: u32 = 8;
    const PLANES: usize = 2;
    const PLANE_BYTES: usize = 16;

    #[inline(always)]
    unsafe fn block_scales<S: RowLanes>(s: S, rows: &Rows) -> BlockScales<S> {
        // SAFETY: a block begins with d, 2 bytes of high and 4 of low bits of scales; 128 bytes follow.
        let [head, low, ..] = unsafe { rows.dwords4(s, 0) };
        // The high bits are those from bit 16 of the first dword on.
        let first = join(s, s.and(low, s.splat_i32(0xffff)), s.shr32(head, 12));
        let second = join(s, s.shr32(low, 16), s.shr32(head, 20));
        BlockScales {
            d: s.low_f16(head),
            dmin: s.splat_f32(0.0),
            scales: [first, second, s.zero(), s.zero()],
            mins: [s.zero(); 4],
        }
    }

    #[inline(always)]
    unsafe fn values<S: DotI8>(s: S, block: *const u8) -> [S::I; 8] {
        let mut q = [s.zero(); 8];
        for r in 0..128 / S::BYTES {
            // SAFETY: 128 bytes of nibbles follow 8 of scales.
            [q[2 * r], q[2 * r + 1]] = levels(s, unsafe { s.load(block.add(8 + S::BYTES * r)) });
        }
        q
    }

    #[inline(always)]
    unsafe fn columns<S: DotI8>(s: S, rows: &Rows, out: &mut [S::I; 64]) {
        for h in 0..2 {
            // SAFETY: 128 bytes of nibbles follow 8 of scales.
            let packed = unsafe { rows.dwords16(s, 8 + 64 * h) };
            for (c, packed) in packed.as_chunks::<4>().0.iter().enumerate() {
                let at = 32 * h + 8 * c;
                for i in 0..4 {
                    [out[at + i], out[at + 4 + i]] = levels(s, packed[i]);
                }
            }
        }
    }
}

/// Four scales a dword from four nibbles in the low bits of `low`, and from four pairs of bits from bit 4 of `high` on. Both are spread to
/// bytes in two steps.
#[inline(always)]
fn join<S: RowLanes>(s: S, low: S::I, high: S::I) -> S::I {
    let low = s.or_and(low, s.shl32(low, 8), s.splat_i32(0x00ff_00ff));
    let low = s.or_and(low, s.shl32(low, 4), s.splat_u8(0x0f));
    let high = s.or_and(high, s.shl32(high, 12), s.splat_i32(0x00f0_00f0));
    let high = s.or_and(high, s.shl32(high, 6), s.splat_u8(0x30));
    s.sub_i8(s.or(low, high), s.splat_u8(32))
}

/// The levels that the low nibbles of bytes stand for, and the high ones.
#[inline(always)]
pub(super) fn levels<S: DotI8>(s: S, packed: S::I) -> [S::I; 2] {
    const PLUS_128: [i8; 16] = {
        let mut levels = KVALUES_IQ4;
        let mut i = 0;
        while i < 16 {
            levels[i] ^= -128;
            i += 1;
        }
        levels
    };
    let table = if S::UNSIGNED { &PLUS_128 } else { &KVALUES_IQ4 };
    let [low, high] = nibbles(s, packed);
    [s.look_up(table, low), s.look_up(table, high)]
}
