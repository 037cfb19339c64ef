//! Q6_K.

use super::batch::{Batch, Quantize};
use super::half_scale::to_half;
use super::pack::{crumbs, nibbles_q6, spread};
use super::search::{extreme_of, fit_scale};
use super::vector::Vector;
use crate::simd::lanes::Lanes;
use crate::weights::block::BlockQ6K;

pub(crate) struct Q6K;

impl Quantize<256> for Q6K {
    type Block = BlockQ6K;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, batch: &mut Batch<256>, out: &mut [BlockQ6K; 16]) {
        let zero = Vector::splat(s, 0.0);
        let mut scales = [zero; 16];
        for j in 0..16 {
            match batch.importance().is_some() {
                true => batch.weigh_by_importance_alone(16 * j, 16),
                false => batch.weigh_by_squares(s, 16 * j, 16),
            }
            scales[j] = fit_scale(s, &batch.x[16 * j..][..16], &batch.weights[..16], 32.0).scale;
        }
        let extreme = extreme_of(&scales);
        let is_zero = Vector::splat(s, 1e-15);
        let inverse = Vector::splat(s, -128.0) / extreme;
        let inverse = extreme.abs().if_less(is_zero, zero, inverse);
        let (d, d_half) = to_half(s, inverse.inverse_or_zero());
        for j in 0..16 {
            let scale = (inverse * scales[j]).round().clamp(-128.0, 127.0);
            for (block, scale) in out.iter_mut().zip(scale.to_array()) {
                block.scales[j] = scale as i8;
            }
            batch.nearest_levels(s, 16 * j, 16, (d_half * scale, zero), (-32.0, 31.0));
        }
        for (block, d) in out.iter_mut().zip(d) {
            block.d = d;
        }
        spread!(nibbles_q6(&batch.levels) => out.ql);
        spread!(crumbs(&batch.levels, 4) => out.qh);
    }
}
