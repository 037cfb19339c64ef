//! Q2_K.

use super::batch::{Batch, Quantize};
use super::pack::{crumbs, spread};
use super::scales_mins::{Plain, Shape, fit_scales_mins};
use super::search::Steps;
use crate::simd::lanes::Lanes;
use crate::weights::block::BlockQ2K;

pub(crate) struct Q2K;

impl Quantize<256> for Q2K {
    type Block = BlockQ2K;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, batch: &mut Batch<256>, out: &mut [BlockQ2K; 16]) {
        let shape = Shape {
            top: 3.0,
            scale_top: 15.0,
            plain: Plain::Magnitude,
            plain_steps: Steps { first: -0.5, delta: 0.1, steps: 15, absolute: true },
            share: 1.0,
        };
        let found = fit_scales_mins::<S, 16>(s, batch, shape);
        for (b, block) in out.iter_mut().enumerate() {
            (block.d, block.dmin) = (found.d[b], found.dmin[b]);
            for j in 0..16 {
                block.scales[j] = found.scales[j][b] | found.mins[j][b] << 4;
            }
        }
        spread!(crumbs(&batch.levels, 0) => out.qs);
    }
}
