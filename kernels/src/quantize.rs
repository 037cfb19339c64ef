//! Activations from f32 to 8 bits: the reference of the quantizers, and the safe way to those of a table.

use crate::{ActivationKind, KernelTable};

/// Quantizes whole blocks: `x` to `qs` of the same length, a scale a block and a sum for every `sum_len` values.
/// False where an input is not finite; the outputs are then unspecified.
///
/// # Safety
/// The CPU has the features of the [`Isa`](crate::Isa) the function was written for. (Lengths are asserted by
/// [`KernelTable::quantize`]: `x` is whole blocks of `B`, `qs` as long, `scales` `1/B` and `sums` `1/S` of that.)
pub(crate) type QuantizeFn =
    unsafe fn(x: &[f32], qs: &mut [i8], scales: &mut [f32], sums: &mut [i16]) -> bool;

impl KernelTable {
    /// Quantizes rows of activations for products: `x ≈ scale · q`. Any number of rows of whole blocks at once.
    ///
    /// In each block, with `amax` the largest magnitude: `scale = amax / 127`, `q = x · (127 / amax)` rounded to nearest, ties to
    /// even. A block whose `127 / amax` is not finite (`amax` is zero or below 2⁻¹²¹ or so) becomes zeros with scale 0.
    ///
    /// Returns false where an input is infinite or NaN; the outputs are then unspecified.
    ///
    /// # Panics
    /// Where `kind` is [`ActivationKind::F32`], or lengths do not fit: with `B` and `S` of [`ActivationKind::block_len`] and
    /// [`ActivationKind::sum_len`], `n` a multiple of `B`: `x [n]`, `qs [n]`, `scales [n / B]`, `sums [n / S]`.
    #[must_use]
    pub fn quantize(
        &self,
        kind: ActivationKind,
        x: &[f32],
        qs: &mut [i8],
        scales: &mut [f32],
        sums: &mut [i16],
    ) -> bool {
        let f = match kind {
            ActivationKind::F32 => panic!("f32 activations are not quantized"),
            ActivationKind::Q8_0 => self.quantize_q8_0,
            ActivationKind::Q8K => self.quantize_q8k,
        };
        let (n, b, s) = (x.len(), kind.block_len(), kind.sum_len());
        assert!(n.is_multiple_of(b) && qs.len() == n, "{n} values into {} in blocks of {b}", qs.len());
        assert_eq!((scales.len(), sums.len()), (n / b, n / s), "scales and sums of {n} values");
        // SAFETY: a table is handed out for an available ISA only, and the lengths were checked.
        unsafe { f(x, qs, scales, sums) }
    }
}

/// Blocks of 256 with sums of 16.
///
/// # Panics
/// As [`KernelTable::quantize`].
pub fn quantize_row_q8k(x: &[f32], qs: &mut [i8], scales: &mut [f32], sums: &mut [i16]) -> bool {
    quantize_row::<256, 16>(x, qs, scales, sums)
}

/// Blocks of 32 with one sum.
///
/// # Panics
/// As [`KernelTable::quantize`].
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
