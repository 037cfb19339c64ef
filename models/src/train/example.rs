//! What is learned from: examples, packed one after the other into the rows of a pass.

use std::ops::AddAssign;

use crate::config::MistralConfig;
use crate::train::error::TrainError;

/// A text to learn from. It begins at position 0 and sees no other example.
#[derive(Clone, Copy, Debug)]
pub struct Example<'a> {
    /// The text.
    pub tokens: &'a [u32],
    /// `is_label[i]`: whether the prediction of `tokens[i]` from those before it counts. That of `tokens[0]` never does.
    pub is_label: &'a [bool],
    /// Chooses what dropout leaves out.
    pub seed: u64,
}

/// `Σ −ln p` over label tokens.
///
/// Each token's part is rounded to a multiple of 2⁻³⁰, so that sums are exact (up to 2²³) and do not depend on how examples were split over calls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// The sum, in nats.
    pub sum: f64,
    /// Label tokens.
    pub n_labels: usize,
}

impl Loss {
    /// Adds `−ln p` of a token.
    pub(crate) fn add(&mut self, loss: f64) {
        const STEPS: f64 = (1 << 30) as f64;
        self.sum += (loss * STEPS).round() / STEPS;
        self.n_labels += 1;
    }

    /// The mean of a token; NaN where there is none.
    pub fn mean(&self) -> f64 {
        self.sum / self.n_labels as f64
    }
}

impl AddAssign for Loss {
    fn add_assign(&mut self, other: Loss) {
        self.sum += other.sum;
        self.n_labels += other.n_labels;
    }
}

/// A token to be predicted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label {
    /// The row that predicts it.
    pub row: usize,
    pub token: u32,
}

/// The rows of one pass, a token each: examples one after the other, each up to its last label.
#[derive(Default)]
pub(crate) struct Batch {
    pub tokens: Vec<u32>,
    pub positions: Vec<usize>,
    /// The seed of each row's example.
    pub seeds: Vec<u64>,
    /// The number of rows of each example.
    pub sequences: Vec<usize>,
    /// In order of rows.
    pub labels: Vec<Label>,
}

impl Batch {
    /// Takes as many of the first examples as `max_rows` has room for, and returns the others.
    pub fn pack<'e, 'a>(&mut self, mut examples: &'e [Example<'a>], max_rows: usize) -> &'e [Example<'a>] {
        self.tokens.clear();
        self.positions.clear();
        self.seeds.clear();
        self.sequences.clear();
        self.labels.clear();
        while let Some((example, rest)) = examples.split_first() {
            let n = example.n_rows();
            let first = self.tokens.len();
            if first + n > max_rows {
                break;
            }
            self.tokens.extend(&example.tokens[..n]);
            self.positions.extend(0..n);
            self.seeds.extend(std::iter::repeat_n(example.seed, n));
            if n > 0 {
                self.sequences.push(n);
            }
            let is_wanted = |i: &usize| example.is_label[*i];
            let label = |i: usize| Label { row: first + i - 1, token: example.tokens[i] };
            self.labels.extend((1..=n).filter(is_wanted).map(label));
            examples = rest;
        }
        examples
    }

    /// Rows of the pass.
    pub fn n(&self) -> usize {
        self.tokens.len()
    }
}

impl Example<'_> {
    /// Rows that the predictions need: a token before each label, and those before it.
    pub(crate) fn n_rows(&self) -> usize {
        self.is_label.iter().rposition(|is_label| *is_label).unwrap_or(0)
    }

    /// Checks example `index` of a call.
    pub(crate) fn check(
        &self,
        index: usize,
        config: &MistralConfig,
        max_rows: usize,
    ) -> Result<(), TrainError> {
        let n_vocab = config.n_vocab;
        let problem = if self.tokens.len() != self.is_label.len() {
            format!("{} tokens with {} marks of labels", self.tokens.len(), self.is_label.len())
        } else if let Some(token) = self.tokens.iter().find(|token| **token as usize >= n_vocab) {
            format!("token {token} is not in the vocabulary, which has {n_vocab}")
        } else if self.n_rows() > max_rows {
            format!("{} tokens up to its last label, with room for {max_rows} in a pass", self.n_rows())
        } else {
            return Ok(());
        };
        Err(TrainError::Example { index, problem })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_packed_up_to_their_last_labels() {
        let example = |tokens, is_label, seed| Example { tokens, is_label, seed };
        let examples = [
            example(&[5, 6, 7, 8][..], &[true, false, true, false][..], 1),
            example(&[9, 10], &[false, false], 2),
            example(&[11, 12], &[false, true], 3),
            example(&[13, 14, 15], &[false, true, true], 4),
        ];
        let mut batch = Batch::default();
        let rest = batch.pack(&examples, 4);
        assert_eq!((rest.len(), batch.tokens.as_slice()), (1, &[5, 6, 11][..]));
        assert_eq!((batch.positions.as_slice(), batch.seeds.as_slice()), (&[0, 1, 0][..], &[1, 1, 3][..]));
        assert_eq!(batch.sequences, [2, 1]);
        let labels: Vec<_> = batch.labels.iter().map(|label| (label.row, label.token)).collect();
        assert_eq!(labels, [(1, 7), (2, 12)]);
        assert!(batch.pack(rest, 4).is_empty());
        let labels: Vec<_> = batch.labels.iter().map(|label| (label.row, label.token)).collect();
        assert_eq!(labels, [(0, 14), (1, 15)]);
    }

    #[test]
    fn sums_of_losses_do_not_depend_on_their_order() {
        let losses: Vec<f64> = (0..1000).map(|i| 12.0 / (1.0 + i as f64 * 0.37)).collect();
        let sum = |losses: &[f64]| {
            let mut sum = Loss::default();
            losses.iter().for_each(|loss| sum.add(*loss));
            sum
        };
        let whole = sum(&losses);
        let mut parts = Loss::default();
        losses.rchunks(7).for_each(|losses| parts += sum(losses));
        assert_eq!(whole, parts);
        let exact: f64 = losses.iter().sum();
        assert!((whole.sum - exact).abs() < 1e-6 && whole.n_labels == 1000);
    }
}
