//! How likely the tokens of a prompt are.

use super::job::JobEvent;
use crate::generation::{log_sum_exp, push_top};

/// Scores the tokens of a prompt as it is read.
pub(super) struct PromptScores {
    n_top: usize,
    /// Tokens that were scored, the first one included, which has nothing before it. A text that has lost its pages reads them again.
    n_scored: usize,
    top: Vec<(u32, f32)>,
}

impl PromptScores {
    /// With so many of the likeliest tokens in each place.
    pub fn new(n_top: usize) -> PromptScores {
        PromptScores { n_top, n_scored: 1, top: Vec::new() }
    }

    /// What is told of the token at `index`, given the logits before it; nothing where that was told before.
    pub fn score(&mut self, index: usize, token: u32, logits: &[f32]) -> Option<JobEvent<'_>> {
        if index < self.n_scored {
            return None;
        }
        self.n_scored = index + 1;
        self.top.clear();
        let log_sum = log_sum_exp(logits);
        push_top(logits, log_sum, self.n_top, &mut self.top);
        Some(JobEvent::PromptToken { index, log_prob: logits[token as usize] - log_sum, top: &self.top })
    }
}
