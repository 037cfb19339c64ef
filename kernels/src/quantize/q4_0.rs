//! Q4_0, and what Q5_0 has in common with it.

use super::batch::{Batch, Quantize, to_u8};
use super::half_scale::to_half;
use super::pack::{nibbles, spread};
use super::search::{extreme, fit_scale};
use super::vector::Vector;
use crate::simd::lanes::Lanes;
use crate::weights::block::{BlockQ4_0, F16Le};

pub(crate) struct Q4_0;

impl Quantize<32> for Q4_0 {
    type Block = BlockQ4_0;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, batch: &mut Batch<32>, out: &mut [BlockQ4_0; 16]) {
        let d = fit_symmetric(s, batch, 8.0);
        for (block, d) in out.iter_mut().zip(d) {
            block.d = d;
        }
        spread!(nibbles(&batch.levels) => out.qs);
    }
}

/// Finds levels from −`top` to `top − 1`, stored from 0 on, and the scales.
#[inline(always)]
pub(super) fn fit_symmetric<S: Lanes>(s: S, batch: &mut Batch<32>, top: f32) -> [F16Le; 16] {
    if batch.importance().is_some() {
        batch.weigh_by_importance(s, 0, 32, batch.row_square(s));
        let (d, d_half) = to_half(s, fit_scale(s, &batch.x, &batch.weights, top).scale);
        batch.nearest_levels(s, 0, 32, (d_half, Vector::splat(s, 0.0)), (-top, top - 1.0));
        return d;
    }
    let d = extreme(s, &batch.x) / Vector::splat(s, -top);
    let inverse = d.inverse_or_zero();
    let (round, highest) = (Vector::splat(s, top + 0.5), Vector::splat(s, 2.0 * top - 1.0));
    for i in 0..32 {
        // Conversion to an integer cuts off the fraction.
        batch.levels[i] = to_u8((Vector::load(s, &batch.x[i]) * inverse + round).min(highest));
    }
    to_half(s, d).0
}
