//! Activations from f32 to 8 bits: the reference in plain Rust, and the quantizers of each instruction set.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;

/// Quantizes whole blocks: `x` to `qs` of the same length, a scale a block and a sum for every `sum_len` values.
/// False where an input is not finite; the outputs are then unspecified.
///
/// # Safety
/// The CPU has the features of the [`Isa`](crate::Isa) the function was written for. (Lengths are asserted by
/// [`KernelTable::quantize`](crate::KernelTable::quantize): `x` is whole blocks of `B`, `qs` as long, `scales` `1/B` and `sums` `1/S` of that.)
pub(crate) type QuantizeFn =
    unsafe fn(x: &[f32], qs: &mut [i8], scales: &mut [f32], sums: &mut [i16]) -> bool;

/// Blocks of 256 with sums of 16.
///
/// # Panics
/// As [`KernelTable::quantize`](crate::KernelTable::quantize).
pub fn quantize_row_q8k(x: &[f32], qs: &mut [i8], scales: &mut [f32], sums: &mut [i16]) -> bool {
    quantize_row::<256, 16>(x, qs, scales, sums)
}

/// Blocks of 32 with one sum.
///
/// # Panics
/// As [`KernelTable::quantize`](crate::KernelTable::quantize).
pub fn quantize_row_q8_0(x: &[f32], qs: &mut [i8], scales: &mut [f32], sums: &mut [i16]) -> bool {
    quantize_row::<32, 32>(x, qs, scales, sums)
}

/// Blocks of `B` values with a sum of every `S`.
fn quantize_row<const B: usize, const S: usize>(
    x: &[f32],
    qs: &mut [i8],
    scales: &mut [f32],
    sums: &mut [i16],
) -> bool {
    assert_eq!((x.len() % B, x.len(), x.len() / B, x.len() / S), (0, qs.len(), scales.len(), sums.len()));
    let mut finite = true;
    for ((x, qs), scale) in x.chunks_exact(B).zip(qs.chunks_exact_mut(B)).zip(scales) {
        let amax = x.iter().fold(0f32, |amax, x| amax.max(x.abs()));
        let id = 127.0 / amax;
        if id.is_finite() && amax.is_finite() {
            *scale = amax / 127.0;
            for (q, x) in qs.iter_mut().zip(x) {
                *q = (x * id).round_ties_even().clamp(-127.0, 127.0) as i8;
            }
        } else {
            *scale = 0.0;
            qs.fill(0);
        }
        finite &= x.iter().all(|x| x.is_finite());
    }
    for (sum, qs) in sums.iter_mut().zip(qs.chunks_exact(S)) {
        *sum = qs.iter().map(|q| *q as i16).sum();
    }
    finite
}
