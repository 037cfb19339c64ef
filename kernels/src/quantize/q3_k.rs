//! Q3_K.

use super::batch::{Batch, Quantize, to_u8};
use super::half_scale::to_half;
use super::pack::{bits_k, crumbs, scales_q3, spread};
use super::search::{extreme_of, fit_scale, fit_scale_by_moves};
use super::vector::Vector;
use crate::simd::lanes::Lanes;
use crate::weights::block::BlockQ3K;

pub(crate) struct Q3K;

/// Levels of scales: −32 to 31.
const SCALE_TOP: f32 = 32.0;

impl Quantize<256> for Q3K {
    type Block = BlockQ3K;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, batch: &mut Batch<256>, out: &mut [BlockQ3K; 16]) {
        let zero = Vector::splat(s, 0.0);
        let mut scales = [zero; 16];
        let mut weights = [[0.0; 16]; 16];
        let has_importance = batch.importance().is_some();
        let square = batch.sum_of_squares(s, 0, 256) * Vector::splat(s, 2.0 / 256.0);
        for j in 0..16 {
            if has_importance {
                batch.weigh_by_importance(s, 16 * j, 16, square);
                batch.sum_of_weights(s, 16).store(&mut weights[j]);
                scales[j] = fit_scale(s, &batch.x[16 * j..][..16], &batch.weights[..16], 4.0).scale;
            } else {
                scales[j] = fit_scale_by_moves(s, &batch.x[16 * j..][..16], 4.0);
            }
        }
        let (d, inverse) = if has_importance {
            let mut values = [[0.0; 16]; 16];
            for j in 0..16 {
                scales[j].store(&mut values[j]);
            }
            let fit = fit_scale(s, &values, &weights, SCALE_TOP);
            (fit.scale, fit.inverse)
        } else {
            let inverse = Vector::splat(s, -SCALE_TOP) * extreme_of(&scales).inverse_or_zero();
            (inverse.inverse_or_zero(), inverse)
        };
        let (d, d_half) = to_half(s, d);
        let mut stored = [[0; 16]; 16];
        for j in 0..16 {
            let scale = (inverse * scales[j]).round().clamp(-SCALE_TOP, SCALE_TOP - 1.0);
            stored[j] = to_u8(scale + Vector::splat(s, SCALE_TOP));
            batch.nearest_levels(s, 16 * j, 16, (d_half * scale, zero), (-4.0, 3.0));
        }
        for (b, block) in out.iter_mut().enumerate() {
            block.d = d[b];
        }
        spread!(scales_q3(&stored) => out.scales);
        spread!(bits_k(&batch.levels, 2) => out.hmask);
        spread!(crumbs(&batch.levels, 0) => out.qs);
    }
}
