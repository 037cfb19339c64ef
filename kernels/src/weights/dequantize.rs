//! Weights from their blocks to f32: the rows of a token embedding, and what tests compare products with.

use crate::weights::block::*;
use crate::weights::format::Format;
use crate::weights::unpack::{Block32, BlockK, Unpacked32, UnpackedK};

/// Writes the weights of a row as f32, bit for bit what gguf-py's `gguf.quants.dequantize` gives (a NaN remains a NaN).
///
/// Each product and each difference is rounded: `(d · scale) · q − (dmin · min)`, `d · q + m`.
///
/// # Panics
/// Where `out` is not a whole number of blocks, or `bytes` are not those of as many weights.
pub fn dequantize_row(format: Format, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(Some(bytes.len()), format.row_bytes(out.len()), "bytes of {} {format} weights", out.len());
    match format {
        Format::F32 => floats(bytes, out, f32::from_le_bytes),
        Format::F16 => floats(bytes, out, |h| F16Le(h).to_f32()),
        Format::BF16 => floats(bytes, out, |h| f32::from_bits((u16::from_le_bytes(h) as u32) << 16)),
        Format::Q8_0 => row_32::<BlockQ8_0>(bytes, out),
        Format::Q4_0 => row_32::<BlockQ4_0>(bytes, out),
        Format::Q4_1 => row_32::<BlockQ4_1>(bytes, out),
        Format::Q5_0 => row_32::<BlockQ5_0>(bytes, out),
        Format::Q5_1 => row_32::<BlockQ5_1>(bytes, out),
        Format::Q2_K => row_k::<BlockQ2K>(bytes, out),
        Format::Q3_K => row_k::<BlockQ3K>(bytes, out),
        Format::Q4_K => row_k::<BlockQ4K>(bytes, out),
        Format::Q5_K => row_k::<BlockQ5K>(bytes, out),
        Format::Q6_K => row_k::<BlockQ6K>(bytes, out),
        Format::IQ4_NL => row_32::<BlockIQ4NL>(bytes, out),
        Format::IQ4_XS => row_k::<BlockIQ4XS>(bytes, out),
    }
}

fn floats<const N: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = value(*bytes);
    }
}

fn row_32<B: Block32>(bytes: &[u8], out: &mut [f32]) {
    let mut u = Unpacked32::ZERO;
    for (block, out) in bytemuck::cast_slice::<u8, B>(bytes).iter().zip(out.as_chunks_mut::<32>().0) {
        block.unpack(&mut u);
        for (out, q) in out.iter_mut().zip(u.qs) {
            *out = u.d * q as f32;
            if B::HAS_MIN {
                *out += u.m;
            }
        }
    }
}

fn row_k<B: BlockK>(bytes: &[u8], out: &mut [f32]) {
    let mut u = UnpackedK::ZERO;
    for (block, out) in bytemuck::cast_slice::<u8, B>(bytes).iter().zip(out.as_chunks_mut::<256>().0) {
        block.unpack(&mut u);
        for (j, (out, qs)) in out.as_chunks_mut::<16>().0.iter_mut().zip(u.qs.as_chunks::<16>().0).enumerate()
        {
            let (scale, min) = (u.d * u.scales[j] as f32, u.dmin * u.mins[j] as f32);
            for (out, q) in out.iter_mut().zip(qs) {
                *out = scale * *q as f32;
                if B::HAS_MINS {
                    *out -= min;
                }
            }
        }
    }
}
