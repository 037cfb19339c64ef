//! Q4_1, and what Q5_1 has in common with it.

use super::batch::{Batch, Quantize, to_u8};
use super::half_scale::to_half;
use super::pack::{nibbles, spread};
use super::search::{Steps, fit_scale_min, range};
use super::vector::Vector;
use crate::simd::lanes::Lanes;
use crate::weights::block::{BlockQ4_1, F16Le};

pub(crate) struct Q4_1;

impl Quantize<32> for Q4_1 {
    type Block = BlockQ4_1;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, batch: &mut Batch<32>, out: &mut [BlockQ4_1; 16]) {
        let (d, m) = fit_with_min(s, batch, 15.0);
        for (b, block) in out.iter_mut().enumerate() {
            (block.d, block.m) = (d[b], m[b]);
        }
        spread!(nibbles(&batch.levels) => out.qs);
    }
}

/// Finds levels from 0 to `top`, the scales, and the minimums that are added.
#[inline(always)]
pub(super) fn fit_with_min<S: Lanes>(s: S, batch: &mut Batch<32>, top: f32) -> ([F16Le; 16], [F16Le; 16]) {
    if batch.importance().is_some() {
        batch.weigh_by_importance(s, 0, 32, batch.row_square(s));
        let found = fit_scale_min(s, &batch.x, &batch.weights, top, Steps::WITH_IMPORTANCE);
        let ((d, d_half), (m, m_half)) = (to_half(s, found.scale), to_half(s, -found.min));
        batch.nearest_levels(s, 0, 32, (d_half, -m_half), (0.0, top));
        return (d, m);
    }
    let (min, max) = range(s, &batch.x);
    let highest = Vector::splat(s, top);
    let d = (max - min) / highest;
    let (inverse, half) = (d.inverse_or_zero(), Vector::splat(s, 0.5));
    for i in 0..32 {
        // Conversion to an integer cuts off the fraction.
        batch.levels[i] = to_u8(((Vector::load(s, &batch.x[i]) - min) * inverse + half).min(highest));
    }
    (to_half(s, d).0, to_half(s, min).0)
}
