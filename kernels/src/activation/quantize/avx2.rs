//! The activation quantizers: eight values a register, rounded by `vcvtps2dq` to nearest, ties to even.

use std::arch::x86_64::*;

/// Blocks of 256 with sums of 16; see [`KernelTable::quantize`](crate::KernelTable::quantize).
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn quantize_q8k(x: &[f32], qs: &mut [i8], scales: &mut [f32], sums: &mut [i16]) -> bool {
    quantize::<256, 16>(x, qs, scales, sums)
}

/// Blocks of 32 with one sum.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn quantize_q8_0(x: &[f32], qs: &mut [i8], scales: &mut [f32], sums: &mut [i16]) -> bool {
    quantize::<32, 32>(x, qs, scales, sums)
}

/// Blocks of `B` values with a sum of every `S`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn quantize<const B: usize, const S: usize>(
    x: &[f32],
    qs: &mut [i8],
    scales: &mut [f32],
    sums: &mut [i16],
) -> bool {
    let infinity = _mm256_set1_ps(f32::INFINITY);
    let mut finite = true;
    for (b, x) in x.as_chunks::<B>().0.iter().enumerate() {
        let mut max = _mm256_setzero_ps();
        for x in x.as_chunks::<8>().0 {
            let magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0), load8(x));
            // Ordered and below infinity.
            finite &= _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(magnitude, infinity)) == 0xff;
            max = _mm256_max_ps(max, magnitude);
        }
        let mut lanes = [0f32; 8];
        // SAFETY: eight values.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), max) };
        let amax = lanes.into_iter().fold(0f32, f32::max);
        let id = 127.0 / amax;
        let (id, d) = if id.is_finite() { (id, amax / 127.0) } else { (0.0, 0.0) };
        scales[b] = d;
        let id = _mm256_set1_ps(id);
        let qs = qs[B * b..][..B].as_chunks_mut::<32>().0;
        for (x, qs) in x.as_chunks::<32>().0.iter().zip(&mut *qs) {
            let mut q = [_mm256_setzero_si256(); 4];
            for (q, x) in q.iter_mut().zip(x.as_chunks::<8>().0) {
                // |x · id| exceeds 127 by rounding at most, so nothing is left to clamp.
                *q = _mm256_cvtps_epi32(_mm256_mul_ps(load8(x), id));
            }
            let words = [_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3])];
            let bytes = _mm256_packs_epi16(words[0], words[1]);
            // Packing went by 128-bit lanes: dwords 0 2 4 6 of the values are in the lower one.
            let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            // SAFETY: 32 values.
            unsafe { _mm256_storeu_si256(qs.as_mut_ptr().cast(), bytes) };
        }
        for (sum, qs) in sums[B / S * b..].iter_mut().zip(qs.as_flattened().as_chunks::<S>().0) {
            *sum = qs.iter().map(|q| *q as i16).sum();
        }
    }
    finite
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load8(x: &[f32; 8]) -> __m256 {
    // SAFETY: eight values.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}
