//! Logit bias: a number added to the logits of chosen tokens.

use super::candidates::Candidates;
use super::link::Link;
use super::rng::Rng;

/// Adds a bias to the logits of some tokens; −∞ rules a token out. Biases of one token add up.
pub(super) struct LogitBias {
    biases: Vec<(u32, f32)>,
}

impl LogitBias {
    /// `biases` are (token, bias), each token inside the vocabulary.
    pub fn new(biases: Vec<(u32, f32)>) -> Self {
        Self { biases }
    }
}

impl Link for LogitBias {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        let in_order_of_id = candidates.edit();
        for &(token, bias) in &self.biases {
            // A constraint may have removed it.
            if let Ok(i) = in_order_of_id.binary_search_by_key(&token, |c| c.id) {
                let c = &mut in_order_of_id[i];
                c.logit = (c.logit + bias).min(f32::MAX);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::of;
    use super::*;

    #[test]
    fn adds_and_rules_out() {
        let mut c = of(&[1.0, 2.0, 3.0, f32::NEG_INFINITY]);
        let biases = vec![(0, 2.5), (2, f32::NEG_INFINITY), (0, -1.0), (3, 7.0)];
        LogitBias::new(biases).apply(&mut c, &mut Rng::new(0));
        let logits: Vec<f32> = c.as_slice().iter().map(|c| c.logit).collect();
        assert_eq!(logits, [2.5, 2.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    }
}
