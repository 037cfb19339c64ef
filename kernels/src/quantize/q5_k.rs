//! Q5_K.

use super::batch::{Batch, Quantize};
use super::pack::{bits_k, nibbles_k, scales_mins_k, spread};
use super::scales_mins::{Plain, Shape, fit_scales_mins};
use super::search::Steps;
use crate::simd::lanes::Lanes;
use crate::weights::block::BlockQ5K;

pub(crate) struct Q5K;

impl Quantize<256> for Q5K {
    type Block = BlockQ5K;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, batch: &mut Batch<256>, out: &mut [BlockQ5K; 16]) {
        let shape = Shape {
            top: 31.0,
            scale_top: 63.0,
            plain: Plain::MagnitudeAndMean,
            plain_steps: Steps { first: -0.5, delta: 0.1, steps: 15, absolute: false },
            share: 2.0,
        };
        let found = fit_scales_mins::<S, 8>(s, batch, shape);
        for (b, block) in out.iter_mut().enumerate() {
            (block.d, block.dmin) = (found.d[b], found.dmin[b]);
        }
        spread!(scales_mins_k(&found.scales, &found.mins) => out.scales);
        spread!(bits_k(&batch.levels, 4) => out.qh);
        spread!(nibbles_k(&batch.levels) => out.qs);
    }
}
