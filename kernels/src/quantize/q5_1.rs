//! Q5_1.

use super::batch::{Batch, Quantize};
use super::pack::{fifth_bits, nibbles, spread};
use super::q4_1::fit_with_min;
use crate::simd::lanes::Lanes;
use crate::weights::block::BlockQ5_1;

pub(crate) struct Q5_1;

impl Quantize<32> for Q5_1 {
    type Block = BlockQ5_1;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, batch: &mut Batch<32>, out: &mut [BlockQ5_1; 16]) {
        let (d, m) = fit_with_min(s, batch, 31.0);
        for (b, block) in out.iter_mut().enumerate() {
            (block.d, block.m) = (d[b], m[b]);
        }
        spread!(nibbles(&batch.levels) => out.qs);
        spread!(fifth_bits(&batch.levels) => out.qh);
    }
}
