//! Q4_K.

use super::batch::{Batch, Quantize};
use super::pack::{nibbles_k, scales_mins_k, spread};
use super::scales_mins::{Plain, Shape, fit_scales_mins};
use super::search::Steps;
use crate::simd::lanes::Lanes;
use crate::weights::block::BlockQ4K;

pub(crate) struct Q4K;

impl Quantize<256> for Q4K {
    type Block = BlockQ4K;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, batch: &mut Batch<256>, out: &mut [BlockQ4K; 16]) {
        let shape = Shape {
            top: 15.0,
            scale_top: 63.0,
            plain: Plain::MagnitudeAndMean,
            plain_steps: Steps { first: -1.0, delta: 0.1, steps: 20, absolute: false },
            share: 2.0,
        };
        let found = fit_scales_mins::<S, 8>(s, batch, shape);
        for (b, block) in out.iter_mut().enumerate() {
            (block.d, block.dmin) = (found.d[b], found.dmin[b]);
        }
        spread!(scales_mins_k(&found.scales, &found.mins) => out.scales);
        spread!(nibbles_k(&batch.levels) => out.qs);
    }
}
