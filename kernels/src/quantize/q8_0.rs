//! Q8_0: nothing is searched for.

use super::batch::{Batch, Quantize};
use super::half_scale::to_half;
use super::search::extreme;
use super::vector::Vector;
use crate::simd::lanes::Lanes;
use crate::weights::block::BlockQ8_0;

pub(crate) struct Q8_0;

impl Quantize<32> for Q8_0 {
    type Block = BlockQ8_0;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, batch: &mut Batch<32>, out: &mut [BlockQ8_0; 16]) {
        let d = extreme(s, &batch.x).abs() / Vector::splat(s, 127.0);
        let inverse = d.inverse_or_zero();
        let (d, _) = to_half(s, d);
        for (block, d) in out.iter_mut().zip(d) {
            block.d = d;
        }
        for i in 0..32 {
            let levels = (Vector::load(s, &batch.x[i]) * inverse).round_half_away().to_array();
            for (block, level) in out.iter_mut().zip(levels) {
                block.qs[i] = level as i8;
            }
        }
    }
}
