//! Q5_0.

use super::batch::{Batch, Quantize};
use super::pack::{fifth_bits, nibbles, spread};
use super::q4_0::fit_symmetric;
use crate::simd::lanes::Lanes;
use crate::weights::block::BlockQ5_0;

pub(crate) struct Q5_0;

impl Quantize<32> for Q5_0 {
    type Block = BlockQ5_0;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, batch: &mut Batch<32>, out: &mut [BlockQ5_0; 16]) {
        let d = fit_symmetric(s, batch, 16.0);
        for (block, d) in out.iter_mut().zip(d) {
            block.d = d;
        }
        spread!(nibbles(&batch.levels) => out.qs);
        spread!(fifth_bits(&batch.levels) => out.qh);
    }
}
