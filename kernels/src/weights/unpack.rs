//! The canonical form of a block, which all integer kernels agree on: values in 8 bits, integer scales, and the f32 scales above them.
//!
//! One function a format. Code that need not be the fastest (the reference products, dequantizing) is written once over [`BlockK`] or
//! [`Block32`].

use crate::weights::block::*;
#[cfg(feature = "train")]
use crate::weights::format::Format;

/// 256 weights: `w[i] = d · scales[i / 16] · qs[i] − dmin · mins[i / 16]`.
#[repr(C, align(64))]
#[derive(Clone, Debug, PartialEq)]
pub struct UnpackedK {
    /// Values.
    pub qs: [i8; 256],
    /// Scale of each 16 values.
    pub scales: [i16; 16],
    /// Min of each 16 values, in `0..=63`; zero where the format has none.
    pub mins: [i16; 16],
    /// Scale of the scales.
    pub d: f32,
    /// Scale of the mins; zero where the format has none.
    pub dmin: f32,
}

impl UnpackedK {
    /// All zeros.
    pub const ZERO: UnpackedK = UnpackedK { qs: [0; 256], scales: [0; 16], mins: [0; 16], d: 0.0, dmin: 0.0 };
}

/// 32 weights: `w[i] = d · qs[i] + m`.
#[repr(C, align(32))]
#[derive(Clone, Debug, PartialEq)]
pub struct Unpacked32 {
    /// Values; −128 is possible for Q8_0 only.
    pub qs: [i8; 32],
    /// Scale.
    pub d: f32,
    /// What is added; zero where the format has no minimum.
    pub m: f32,
}

impl Unpacked32 {
    /// All zeros.
    pub const ZERO: Unpacked32 = Unpacked32 { qs: [0; 32], d: 0.0, m: 0.0 };
}

/// A block of 256 weights.
pub trait BlockK: Block {
    /// Whether the format has mins.
    const HAS_MINS: bool;
    /// Writes every field of `u`.
    fn unpack(&self, u: &mut UnpackedK);
}

/// A block of 32 weights.
pub trait Block32: Block {
    /// Whether the format has a minimum.
    const HAS_MIN: bool;
    /// Writes every field of `u`.
    fn unpack(&self, u: &mut Unpacked32);
}

/// Takes a block of 256 weights apart.
///
/// # Panics
/// Where the format has other blocks, or `block` is none of it.
#[cfg(feature = "train")]
pub(crate) fn unpack_256(format: Format, block: &[u8], u: &mut UnpackedK) {
    fn unpack<B: BlockK>(block: &[u8], u: &mut UnpackedK) {
        bytemuck::from_bytes::<B>(block).unpack(u);
    }
    match format {
        Format::Q2_K => unpack::<BlockQ2K>(block, u),
        Format::Q3_K => unpack::<BlockQ3K>(block, u),
        Format::Q4_K => unpack::<BlockQ4K>(block, u),
        Format::Q5_K => unpack::<BlockQ5K>(block, u),
        Format::Q6_K => unpack::<BlockQ6K>(block, u),
        Format::IQ4_XS => unpack::<BlockIQ4XS>(block, u),
        _ => panic!("{format} has no blocks of 256 weights"),
    }
}

/// Takes a block of 32 weights apart; false where the format has no minimum to add.
///
/// # Panics
/// Where the format has other blocks, or `block` is none of it.
#[cfg(feature = "train")]
pub(crate) fn unpack_32(format: Format, block: &[u8], u: &mut Unpacked32) -> bool {
    fn unpack<B: Block32>(block: &[u8], u: &mut Unpacked32) -> bool {
        bytemuck::from_bytes::<B>(block).unpack(u);
        B::HAS_MIN
    }
    match format {
        Format::Q8_0 => unpack::<BlockQ8_0>(block, u),
        Format::Q4_0 => unpack::<BlockQ4_0>(block, u),
        Format::Q4_1 => unpack::<BlockQ4_1>(block, u),
        Format::Q5_0 => unpack::<BlockQ5_0>(block, u),
        Format::Q5_1 => unpack::<BlockQ5_1>(block, u),
        Format::IQ4_NL => unpack::<BlockIQ4NL>(block, u),
        _ => panic!("{format} has no blocks of 32 weights"),
    }
}

/// The 32 nibbles of 16 bytes: the low ones, then the high ones.
#[inline(always)]
fn nibbles(qs: &[u8; 16], out: &mut [i8; 32]) {
    for l in 0..16 {
        out[l] = (qs[l] & 15) as i8;
        out[l + 16] = (qs[l] >> 4) as i8;
    }
}

/// Adds 16 to the values whose bit in `qh` is set.
#[inline(always)]
fn fifth_bits(qh: [u8; 4], qs: &mut [i8; 32]) {
    let qh = u32::from_le_bytes(qh);
    for (l, q) in qs.iter_mut().enumerate() {
        *q |= ((qh >> l & 1) << 4) as i8;
    }
}

#[inline(always)]
fn offset<const N: usize>(qs: &mut [i8; N], by: i8) {
    for q in qs {
        *q -= by;
    }
}

impl Block32 for BlockQ8_0 {
    const HAS_MIN: bool = false;
    #[inline(always)]
    fn unpack(&self, u: &mut Unpacked32) {
        *u = Unpacked32 { qs: self.qs, d: self.d.to_f32(), m: 0.0 };
    }
}

impl Block32 for BlockQ4_0 {
    const HAS_MIN: bool = false;
    #[inline(always)]
    fn unpack(&self, u: &mut Unpacked32) {
        nibbles(&self.qs, &mut u.qs);
        offset(&mut u.qs, 8);
        (u.d, u.m) = (self.d.to_f32(), 0.0);
    }
}

impl Block32 for BlockQ4_1 {
    const HAS_MIN: bool = true;
    #[inline(always)]
    fn unpack(&self, u: &mut Unpacked32) {
        nibbles(&self.qs, &mut u.qs);
        (u.d, u.m) = (self.d.to_f32(), self.m.to_f32());
    }
}

impl Block32 for BlockQ5_0 {
    const HAS_MIN: bool = false;
    #[inline(always)]
    fn unpack(&self, u: &mut Unpacked32) {
        nibbles(&self.qs, &mut u.qs);
        fifth_bits(self.qh, &mut u.qs);
        offset(&mut u.qs, 16);
        (u.d, u.m) = (self.d.to_f32(), 0.0);
    }
}

impl Block32 for BlockQ5_1 {
    const HAS_MIN: bool = true;
    #[inline(always)]
    fn unpack(&self, u: &mut Unpacked32) {
        nibbles(&self.qs, &mut u.qs);
        fifth_bits(self.qh, &mut u.qs);
        (u.d, u.m) = (self.d.to_f32(), self.m.to_f32());
    }
}

impl Block32 for BlockIQ4NL {
    const HAS_MIN: bool = false;
    #[inline(always)]
    fn unpack(&self, u: &mut Unpacked32) {
        nibbles(&self.qs, &mut u.qs);
        u.qs = u.qs.map(|q| KVALUES_IQ4[q as usize & 15]);
        (u.d, u.m) = (self.d.to_f32(), 0.0);
    }
}

/// The two-bit numbers of Q2_K, Q3_K's low and Q6_K's high bits: see [`BlockQ2K::qs`].
#[inline(always)]
fn crumbs(qs: &[u8; 64], out: &mut [i8; 256]) {
    for h in 0..2 {
        for s in 0..4 {
            for l in 0..32 {
                out[128 * h + 32 * s + l] = (qs[32 * h + l] >> (2 * s) & 3) as i8;
            }
        }
    }
}

/// The nibbles of Q4_K and Q5_K: see [`BlockQ4K::qs`].
#[inline(always)]
fn nibbles_k(qs: &[u8; 128], out: &mut [i8; 256]) {
    for c in 0..4 {
        for l in 0..32 {
            out[64 * c + l] = (qs[32 * c + l] & 15) as i8;
            out[64 * c + 32 + l] = (qs[32 * c + l] >> 4) as i8;
        }
    }
}

/// The eight scales and eight mins of Q4_K and Q5_K: see [`BlockQ4K::scales`].
#[inline(always)]
pub fn scales_mins_k(s: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for j in 0..4 {
        scales[j] = s[j] & 63;
        mins[j] = s[4 + j] & 63;
        scales[4 + j] = s[8 + j] & 15 | s[j] >> 6 << 4;
        mins[4 + j] = s[8 + j] >> 4 | s[4 + j] >> 6 << 4;
    }
    (scales, mins)
}

/// [`scales_mins_k`], each written twice: once for each 16 values.
#[inline(always)]
fn spread_scales_mins(s: &[u8; 12], u: &mut UnpackedK) {
    let (scales, mins) = scales_mins_k(s);
    for j in 0..16 {
        u.scales[j] = scales[j / 2] as i16;
        u.mins[j] = mins[j / 2] as i16;
    }
}

impl BlockK for BlockQ2K {
    const HAS_MINS: bool = true;
    #[inline(always)]
    fn unpack(&self, u: &mut UnpackedK) {
        crumbs(&self.qs, &mut u.qs);
        for j in 0..16 {
            u.scales[j] = (self.scales[j] & 15) as i16;
            u.mins[j] = (self.scales[j] >> 4) as i16;
        }
        (u.d, u.dmin) = (self.d.to_f32(), self.dmin.to_f32());
    }
}

impl BlockK for BlockQ3K {
    const HAS_MINS: bool = false;
    #[inline(always)]
    fn unpack(&self, u: &mut UnpackedK) {
        crumbs(&self.qs, &mut u.qs);
        for b in 0..8 {
            for l in 0..32 {
                u.qs[32 * b + l] -= ((!self.hmask[l] >> b & 1) << 2) as i8;
            }
        }
        for j in 0..16 {
            let low = self.scales[j % 8] >> (4 * (j / 8)) & 15;
            let high = self.scales[8 + j % 4] >> (2 * (j / 4)) & 3;
            u.scales[j] = (low | high << 4) as i16 - 32;
        }
        u.mins = [0; 16];
        (u.d, u.dmin) = (self.d.to_f32(), 0.0);
    }
}

impl BlockK for BlockQ4K {
    const HAS_MINS: bool = true;
    #[inline(always)]
    fn unpack(&self, u: &mut UnpackedK) {
        nibbles_k(&self.qs, &mut u.qs);
        spread_scales_mins(&self.scales, u);
        (u.d, u.dmin) = (self.d.to_f32(), self.dmin.to_f32());
    }
}

impl BlockK for BlockQ5K {
    const HAS_MINS: bool = true;
    #[inline(always)]
    fn unpack(&self, u: &mut UnpackedK) {
        nibbles_k(&self.qs, &mut u.qs);
        for b in 0..8 {
            for l in 0..32 {
                u.qs[32 * b + l] |= ((self.qh[l] >> b & 1) << 4) as i8;
            }
        }
        spread_scales_mins(&self.scales, u);
        (u.d, u.dmin) = (self.d.to_f32(), self.dmin.to_f32());
    }
}

impl BlockK for BlockQ6K {
    const HAS_MINS: bool = false;
    #[inline(always)]
    fn unpack(&self, u: &mut UnpackedK) {
        crumbs(&self.qh, &mut u.qs);
        for h in 0..2 {
            for l in 0..64 {
                let (low, high) = (128 * h + l, 128 * h + 64 + l);
                let byte = self.ql[64 * h + l];
                u.qs[low] = (u.qs[low] << 4 | (byte & 15) as i8) - 32;
                u.qs[high] = (u.qs[high] << 4 | (byte >> 4) as i8) - 32;
            }
        }
        u.scales = self.scales.map(i16::from);
        u.mins = [0; 16];
        (u.d, u.dmin) = (self.d.to_f32(), 0.0);
    }
}

impl BlockK for BlockIQ4XS {
    const HAS_MINS: bool = false;
    #[inline(always)]
    fn unpack(&self, u: &mut UnpackedK) {
        for c in 0..8 {
            for l in 0..16 {
                let byte = self.qs[16 * c + l];
                u.qs[32 * c + l] = KVALUES_IQ4[byte as usize & 15];
                u.qs[32 * c + 16 + l] = KVALUES_IQ4[byte as usize >> 4];
            }
        }
        let high = u16::from_le_bytes(self.scales_h);
        for j in 0..16 {
            let c = j / 2;
            let low = self.scales_l[c / 2] >> (4 * (c % 2)) & 15;
            u.scales[j] = (low as u16 | (high >> (2 * c) & 3) << 4) as i16 - 32;
        }
        u.mins = [0; 16];
        (u.d, u.dmin) = (self.d.to_f32(), 0.0);
    }
}
