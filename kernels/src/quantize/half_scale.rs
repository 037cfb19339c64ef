//! Scales as halves.

use super::vector::Vector;
use crate::simd::lanes::Lanes;
use crate::weights::block::F16Le;
use crate::weights::format::Format;

/// The nearest halves, and what they are.
#[inline(always)]
pub(super) fn to_half<S: Lanes>(s: S, x: Vector<S>) -> ([F16Le; 16], Vector<S>) {
    let mut values = x.to_array();
    let mut halves = [F16Le([0; 2]); 16];
    for (half, value) in halves.iter_mut().zip(&mut values) {
        *half = F16Le::from_f32(*value);
        *value = half.to_f32();
    }
    (halves, Vector::load(s, &values))
}

/// The first block with a scale or minimum (of F16 and BF16: a weight) that is not finite.
pub(super) fn first_too_large(format: Format, bytes: &[u8]) -> Option<usize> {
    // Where the halves of a block lie.
    let places: &[usize] = match format {
        Format::F32 => return None,
        Format::F16 | Format::BF16 => &[0],
        Format::Q8_0 | Format::Q4_0 | Format::Q5_0 | Format::IQ4_NL | Format::IQ4_XS => &[0],
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::Q6_K => &[208],
    };
    let exponent = if format == Format::BF16 { 0x7f80 } else { 0x7c00 };
    bytes.chunks_exact(format.block_bytes()).position(|block| {
        places.iter().any(|at| u16::from_le_bytes([block[*at], block[at + 1]]) & exponent == exponent)
    })
}
