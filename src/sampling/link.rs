//! What each sampler of the chain implements.

use super::candidates::{Candidate, Candidates};
use super::rng::Rng;

/// One link of the sampler chain.
pub trait Link: Send {
    /// Removes candidates or changes their logits.
    fn apply(&mut self, candidates: &mut Candidates, rng: &mut Rng);

    /// Takes note of the candidate that was drawn at the end of the chain, with its probability among those that were left.
    fn drawn(&mut self, _chosen: &Candidate) {}

    /// Takes note of a token that became part of the text, sampled or given in the prompt.
    fn accept(&mut self, _token: u32) {}

    /// Forgets every accepted token.
    fn reset(&mut self) {}

    /// Mirostat's bound on surprise.
    fn mirostat_mu(&self) -> Option<f32> {
        None
    }

    /// Sets mirostat's bound on surprise.
    fn set_mirostat_mu(&mut self, _mu: f32) {}
}
