//! What the steps of a pass work with.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::config::MistralConfig;
use crate::linear::ELEMENTS_A_TASK;
use crate::train::buffers::StepBuffers;
use crate::train::error::TrainError;
use crate::train::example::Batch;
use crate::train::products::Products;
use crate::weights::Norm;

/// A pass over a batch, forward or backward.
pub(crate) struct Step<'a> {
    pub config: &'a MistralConfig,
    pub products: Products<'a>,
    pub batch: &'a Batch,
    /// Cosines and sines of each row's position, `[rows, 2 · rope dims]`.
    pub rotations: &'a [f32],
    /// What each row's queries are multiplied by.
    pub scales: &'a [f32],
    pub s: &'a mut StepBuffers,
}

impl Products<'_> {
    /// `out = rms_norm(x)`
    pub fn rms_norm(&self, x: &[f32], norm: &Norm, eps: f32, out: &mut [f32]) -> Result<(), TrainError> {
        let (kernels, weight) = (self.executor.kernels(), norm.view());
        let d = weight.len();
        let is_finite = AtomicBool::new(true);
        self.executor.team().for_each_chunk(out, d, |t, out| {
            if !kernels.rms_norm(&x[t * d..][..d], weight, eps, out) {
                is_finite.store(false, Relaxed);
            }
        });
        if is_finite.into_inner() { Ok(()) } else { Err(self.not_finite()) }
    }

    /// `x += y`
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        let kernels = self.executor.kernels();
        self.executor.team().for_each_chunk(x, ELEMENTS_A_TASK, |i, x| {
            kernels.add_assign(x, &y[i * ELEMENTS_A_TASK..][..x.len()]);
        });
    }
}
