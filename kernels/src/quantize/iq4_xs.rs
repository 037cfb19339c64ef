//! IQ4_XS.

use super::batch::{Batch, Quantize, to_u8};
use super::half_scale::to_half;
use super::iq4_nl::{fit_codebook, nearest_codes};
use super::pack::{nibbles_iq4, scales_iq4, spread};
use super::search::extreme_of;
use super::vector::Vector;
use crate::simd::lanes::Lanes;
use crate::weights::block::BlockIQ4XS;

pub(crate) struct Iq4Xs;

/// Levels of scales: −32 to 31.
const SCALE_TOP: f32 = 32.0;

impl Quantize<256> for Iq4Xs {
    type Block = BlockIQ4XS;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, batch: &mut Batch<256>, out: &mut [BlockIQ4XS; 16]) {
        let mut scales = [Vector::splat(s, 0.0); 8];
        let has_importance = batch.importance().is_some();
        let square = batch.sum_of_squares(s, 0, 256) * Vector::splat(s, 2.0 / 256.0);
        for j in 0..8 {
            match has_importance {
                true => batch.weigh_by_importance(s, 32 * j, 32, square),
                false => batch.weigh_by_squares(s, 32 * j, 32),
            }
            scales[j] = fit_codebook(s, &batch.x[32 * j..][..32], &batch.weights);
        }
        let d = -extreme_of(&scales) / Vector::splat(s, SCALE_TOP);
        let inverse = d.inverse_or_zero();
        let exact = d;
        let (d, d_half) = to_half(s, d);
        let mut stored = [[0; 16]; 8];
        for j in 0..8 {
            let scale = (inverse * scales[j]).round().clamp(-SCALE_TOP, SCALE_TOP - 1.0);
            stored[j] = to_u8(scale + Vector::splat(s, SCALE_TOP));
            let d = if has_importance { d_half } else { exact };
            nearest_codes(s, batch, 32 * j, d * scale);
        }
        for (block, d) in out.iter_mut().zip(d) {
            block.d = d;
        }
        let (low, high) = scales_iq4(&stored);
        spread!(low => out.scales_l);
        spread!(high => out.scales_h);
        spread!(nibbles_iq4(&batch.levels) => out.qs);
    }
}
