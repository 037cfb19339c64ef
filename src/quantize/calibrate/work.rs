//! How much there is to do.

use super::run::Calibration;
use super::steps::{Input, Step};
use crate::quantize::plan::PlannedTensor;

/// Multiplications and additions of the parts of a run.
impl Calibration<'_, '_> {
    /// Those of all steps.
    pub(super) fn operations(&self) -> f64 {
        self.steps.iter().map(|step| self.operations_of_step(step)).sum()
    }

    /// Those of a step.
    pub(super) fn operations_of_step(&self, step: &Step) -> f64 {
        let n_tokens = self.tokens.len() as f64;
        let pass = |inputs: &Vec<Input>| {
            n_tokens * self.operations_of_token(step.layer, inputs)
                + inputs.iter().map(|input| self.operations_of_input(input)).sum::<f64>()
        };
        step.passes.iter().map(pass).sum()
    }

    /// Those of a token in a pass over a layer.
    pub(super) fn operations_of_token(&self, layer: usize, inputs: &[Input]) -> f64 {
        let of_inputs = |input: &Input| (input.k as f64).powi(2) * self.share(input);
        2.0 * self.active_weights(layer) + inputs.iter().map(of_inputs).sum::<f64>()
    }

    /// Weights of a layer that a token meets.
    pub(super) fn active_weights(&self, layer: usize) -> f64 {
        if layer >= self.config.n_layers {
            return 0.0;
        }
        let c = &self.config;
        let used = c.experts.as_ref().map_or(1, |experts| experts.n_used);
        let (d, attention) = (c.n_embd as f64, (2 * c.q_dim() + 2 * c.kv_dim()) as f64);
        d * (attention + (3 * used * c.n_ff) as f64)
    }

    /// The part of the tokens that come to an input.
    pub(super) fn share(&self, input: &Input) -> f64 {
        match (input.expert, &self.config.experts) {
            (Some(_), Some(experts)) => experts.n_used as f64 / experts.n_experts as f64,
            _ => 1.0,
        }
    }

    /// Those of factorizing the sums of an input, and of rounding its matrices.
    pub(super) fn operations_of_input(&self, input: &Input) -> f64 {
        let k = input.k as f64;
        /// What scales are searched with, for each weight.
        const SEARCH: f64 = 2000.0;
        let rows = |tensor: &PlannedTensor| tensor.source.rows_a_matrix() as f64;
        let matrices = input.targets.iter().map(|target| rows(&self.plan.tensors[target.tensor]));
        k.powi(3) / 3.0 + matrices.map(|n| n * k * (k + SEARCH)).sum::<f64>()
    }
}
