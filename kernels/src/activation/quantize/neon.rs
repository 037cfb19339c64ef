//! Activations from f32 to 8 bits, as [`crate::activation::quantize`] defines it: `scale = amax / 127`, `q = x · (127 / amax)`, ties to even.
//!
//! Two passes over a block: 16 values at a time, the largest magnitude (`fmax` hands a NaN on, so that it tells whether the block is
//! finite), then the values, narrowed from four registers to one, and their sums.

use crate::simd::neon::intrinsics::*;
use crate::simd::neon::registers::*;

/// Blocks of 256 with sums of 16.
///
/// # Safety
/// None is needed: `unsafe` is the signature of [`QuantizeFn`](crate::activation::quantize::QuantizeFn).
pub(crate) unsafe fn quantize_row_q8k(
    x: &[f32],
    qs: &mut [i8],
    scales: &mut [f32],
    sums: &mut [i16],
) -> bool {
    let blocks = x.as_chunks::<256>().0.iter().zip(qs.as_chunks_mut::<256>().0);
    for ((x, qs), (scale, sums)) in blocks.zip(scales.iter_mut().zip(sums.as_chunks_mut::<16>().0)) {
        if !quantize_block(x.as_chunks().0, qs.as_chunks_mut().0, scale) {
            return false;
        }
        for (sum, qs) in sums.iter_mut().zip(qs.as_chunks().0) {
            *sum = vaddlvq_s8(load(qs));
        }
    }
    true
}

/// Blocks of 32 with one sum.
///
/// # Safety
/// As [`quantize_row_q8k`].
pub(crate) unsafe fn quantize_row_q8_0(
    x: &[f32],
    qs: &mut [i8],
    scales: &mut [f32],
    sums: &mut [i16],
) -> bool {
    let blocks = x.as_chunks::<32>().0.iter().zip(qs.as_chunks_mut::<32>().0);
    for ((x, qs), (scale, sum)) in blocks.zip(scales.iter_mut().zip(sums)) {
        if !quantize_block(x.as_chunks().0, qs.as_chunks_mut().0, scale) {
            return false;
        }
        *sum = qs.as_chunks().0.iter().map(|qs| vaddlvq_s8(load(qs))).sum();
    }
    true
}

/// One block; false where it is not finite.
#[inline(always)]
fn quantize_block(x: &[[f32; 16]], qs: &mut [[i8; 16]], scale: &mut f32) -> bool {
    let mut amax = [vdupq_n_f32(0.0); 4];
    for x in x {
        amax = four!(|i| vmaxq_f32(amax[i], vabsq_f32(load_f32(&x.as_chunks().0[i]))));
    }
    let amax = vmaxvq_f32(vmaxq_f32(vmaxq_f32(amax[0], amax[1]), vmaxq_f32(amax[2], amax[3])));
    if !amax.is_finite() {
        return false;
    }
    let id = 127.0 / amax;
    if !id.is_finite() {
        *scale = 0.0;
        qs.fill([0; 16]);
        return true;
    }
    *scale = amax / 127.0;
    for (x, qs) in x.iter().zip(qs) {
        // |x · id| is at most 127·(1 + 2⁻²²), which rounds to 127: nothing is left to clamp.
        let [a, b, c, d] = four!(|i| vcvtnq_s32_f32(vmulq_n_f32(load_f32(&x.as_chunks().0[i]), id)));
        let (low, high) = (vmovn_high_s32(vmovn_s32(a), b), vmovn_high_s32(vmovn_s32(c), d));
        store(qs, vmovn_high_s16(vmovn_s16(low), high));
    }
    true
}
