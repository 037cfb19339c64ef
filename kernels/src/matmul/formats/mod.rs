//! The quantized formats: how the scales and values of a block are unpacked into registers, written once for all instruction sets of
//! [`RowLanes`].

mod iq4_nl;
mod iq4_xs;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;

pub(crate) use iq4_nl::Iq4Nl;
pub(crate) use iq4_xs::Iq4Xs;
pub(crate) use q2_k::Q2K;
pub(crate) use q3_k::Q3K;
pub(crate) use q4_0::Q4_0;
pub(crate) use q4_1::Q4_1;
pub(crate) use q4_k::Q4K;
pub(crate) use q5_0::Q5_0;
pub(crate) use q5_1::Q5_1;
pub(crate) use q5_k::Q5K;
pub(crate) use q6_k::Q6K;
pub(crate) use q8_0::Q8_0;

use crate::matmul::rows::Rows;
use crate::simd::row_lanes::{DotI8, RowLanes};
use crate::weights::format::Format;

/// The scales of one block of each lane's row.
pub(crate) struct BlockScales<S: RowLanes> {
    /// Scale of the scales.
    pub(crate) d: S::F,
    /// Scale of the mins.
    pub(crate) dmin: S::F,
    /// Byte `j` of each dword in register `v`: the signed scale of sub-block `4v + j`.
    pub(crate) scales: [S::I; 4],
    /// Byte `j` of each dword in register `v`: the unsigned min of sub-block `4v + j`.
    pub(crate) mins: [S::I; 4],
}

/// A format in blocks of 256 weights.
pub(crate) trait FormatK: 'static {
    /// The format.
    const FORMAT: Format;
    /// Weights that share a scale: 16 or 32.
    const SUB_LEN: usize;
    /// Bits of an unsigned value. 8 are signed ones, which [`DotI8::UNSIGNED`] wants with 128 added.
    const BITS: u32;
    /// What is added to a value of fewer bits so that it is unsigned.
    const OFFSET: u8 = 0;
    /// Whether there are mins.
    const HAS_MINS: bool = false;
    /// A register of packed bytes is taken apart into `PLANES` registers of values. Plane `p` of the `u`-th `PLANE_BYTES` of them are
    /// the weights from `(PLANES·u + p)·PLANE_BYTES` on.
    const PLANES: usize;
    /// See [`FormatK::PLANES`].
    const PLANE_BYTES: usize;

    /// The scales of the lanes' next blocks.
    ///
    /// # Safety
    /// Each lane of `rows` has a whole block of the format left.
    unsafe fn block_scales<S: RowLanes>(s: S, rows: &Rows) -> BlockScales<S>;

    /// The values of one block: plane `p` of packed register `r` is number `PLANES·r + p`; as many as hold 256 bytes.
    ///
    /// # Safety
    /// A whole block of the format is readable at `block`.
    unsafe fn values<S: DotI8>(s: S, block: *const u8) -> [S::I; 8];

    /// The values of the lanes' next blocks: weights `4i..4i + 4` of each are register `i` of `out`.
    ///
    /// # Safety
    /// Each lane of `rows` has a whole block of the format left.
    unsafe fn columns<S: DotI8>(s: S, rows: &Rows, out: &mut [S::I; 64]);
}

/// Which 16 weights of a block of `F` are quarter `i % n` of register `i / n` of [`FormatK::values`], where a register has `n` quarters.
pub(crate) const fn order<F: FormatK>(quarters: usize) -> [usize; 16] {
    let mut order = [0; 16];
    let mut i = 0;
    while i < 16 {
        let (register, quarter) = (i / quarters, i % quarters);
        let byte = 16 * (register / F::PLANES * quarters + quarter);
        let unit = F::PLANES * (byte / F::PLANE_BYTES) + register % F::PLANES;
        order[i] = (unit * F::PLANE_BYTES + byte % F::PLANE_BYTES) / 16;
        i += 1;
    }
    order
}

/// What is added to the values of `F` in registers.
#[inline(always)]
pub(crate) const fn offset_k<S: DotI8, F: FormatK>() -> u8 {
    offset::<S>(F::BITS, F::OFFSET)
}

/// A format in blocks of 32 weights. A block begins with its scale `d`, and its minimum `m` if it has one.
pub(crate) trait Format32: 'static {
    /// The format.
    const FORMAT: Format;
    /// As [`FormatK::BITS`].
    const BITS: u32;
    /// As [`FormatK::OFFSET`].
    const OFFSET: u8 = 0;
    /// Whether there is a minimum.
    const HAS_MIN: bool = false;

    /// The values of a block a quarter: 0 to 15 of each, then 16 to 31 of each.
    ///
    /// # Safety
    /// Whole blocks of the format are readable at the addresses.
    unsafe fn values<S: DotI8>(s: S, blocks: [*const u8; 4]) -> [S::I; 2];
}

/// What is added to the values of `F` in registers.
#[inline(always)]
pub(crate) const fn offset_32<S: DotI8, F: Format32>() -> u8 {
    offset::<S>(F::BITS, F::OFFSET)
}

#[inline(always)]
const fn offset<S: DotI8>(bits: u32, offset: u8) -> u8 {
    match bits {
        8 if S::UNSIGNED => 128,
        8 => 0,
        _ => offset,
    }
}

/// The low nibbles, and the high ones.
#[inline(always)]
fn nibbles<S: RowLanes>(s: S, v: S::I) -> [S::I; 2] {
    let low = s.splat_u8(15);
    [s.and(v, low), s.and(s.shr16(v, 4), low)]
}

/// Pairs of bits `2i` and `2i + 1` of each byte.
#[inline(always)]
fn pair_of_bits<S: RowLanes>(s: S, v: S::I, i: usize) -> S::I {
    s.and(s.shr16(v, 2 * i as i32), s.splat_u8(3))
}
