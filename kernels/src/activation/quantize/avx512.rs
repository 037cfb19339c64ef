//! The activation quantizers: sixteen values a register, rounded by `vcvtps2dq` to nearest, ties to even.

use std::arch::x86_64::*;

/// Blocks of 256 with sums of 16; see [`KernelTable::quantize`](crate::KernelTable::quantize).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) fn quantize_q8k(x: &[f32], qs: &mut [i8], scales: &mut [f32], sums: &mut [i16]) -> bool {
    quantize::<16, 16>(x, qs, scales, sums)
}

/// Blocks of 32 with one sum.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) fn quantize_q8_0(x: &[f32], qs: &mut [i8], scales: &mut [f32], sums: &mut [i16]) -> bool {
    quantize::<2, 1>(x, qs, scales, sums)
}

/// Blocks of `V` registers with `S` sums each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn quantize<const V: usize, const S: usize>(
    x: &[f32],
    qs: &mut [i8],
    scales: &mut [f32],
    sums: &mut [i16],
) -> bool {
    let mut finite = true;
    let blocks = x
        .as_chunks::<16>()
        .0
        .as_chunks::<V>()
        .0
        .iter()
        .zip(qs.as_chunks_mut::<16>().0.as_chunks_mut::<V>().0);
    for (((x, qs), scale), sums) in blocks.zip(scales).zip(sums.as_chunks_mut::<S>().0) {
        let mut max = _mm512_setzero_ps();
        let mut values = [max; V];
        for (v, x) in values.iter_mut().zip(x) {
            // SAFETY: sixteen values.
            *v = unsafe { _mm512_loadu_ps(x.as_ptr()) };
            let magnitude = _mm512_abs_ps(*v);
            // Ordered and below infinity.
            finite &= _mm512_cmp_ps_mask::<_CMP_LT_OQ>(magnitude, _mm512_set1_ps(f32::INFINITY)) == !0;
            max = _mm512_max_ps(max, magnitude);
        }
        let amax = _mm512_reduce_max_ps(max);
        let id = 127.0 / amax;
        let (id, d) = if id.is_finite() { (id, amax / 127.0) } else { (0.0, 0.0) };
        *scale = d;
        let mut sum = [_mm512_setzero_si512(); S];
        for (i, (v, qs)) in values.into_iter().zip(qs).enumerate() {
            // |x · id| exceeds 127 by rounding at most, so nothing is left to clamp.
            let q = _mm512_cvtps_epi32(_mm512_mul_ps(v, _mm512_set1_ps(id)));
            // SAFETY: sixteen values.
            unsafe { _mm_storeu_si128(qs.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(q)) };
            sum[i * S / V] = _mm512_add_epi32(sum[i * S / V], q);
        }
        for (out, sum) in sums.iter_mut().zip(sum) {
            *out = _mm512_reduce_add_epi32(sum) as i16;
        }
    }
    finite
}
