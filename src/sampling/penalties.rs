//! Repetition, frequency and presence penalties.

use super::SamplingParams;
use super::candidates::Candidates;
use super::history::History;
use super::link::Link;
use super::rng::Rng;

/// For a token that occurs `count > 0` times among the last `penalty_last_n`:
/// a positive logit is divided by `penalty_repeat` and another one multiplied by it (CTRL, arXiv:1909.05858, with the
/// usual mending for negative logits); then `count · penalty_freq + penalty_present` is subtracted (the OpenAI API's
/// penalties).
pub(super) struct Penalties {
    repeat: f32,
    freq: f32,
    present: f32,
    history: History,
    /// How often each token of the vocabulary occurs in `history`.
    counts: Vec<u32>,
}

impl Penalties {
    pub fn new(params: &SamplingParams, n_vocab: usize) -> Self {
        Self {
            repeat: params.penalty_repeat,
            freq: params.penalty_freq,
            present: params.penalty_present,
            history: History::new(params.penalty_last_n),
            counts: vec![0; n_vocab],
        }
    }
}

impl Link for Penalties {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        for c in candidates.edit() {
            let count = self.counts[c.id as usize];
            if count == 0 || c.logit == f32::NEG_INFINITY {
                continue;
            }
            if c.logit > 0.0 {
                c.logit /= self.repeat;
            } else {
                c.logit *= self.repeat;
            }
            // Kept finite: extreme penalties must not turn into NaN.
            c.logit -= (count as f32 * self.freq + self.present).clamp(f32::MIN, f32::MAX);
            c.logit = c.logit.clamp(f32::MIN, f32::MAX);
        }
    }

    fn accept(&mut self, token: u32) {
        // A token outside the vocabulary cannot come back, so it is only let to push others out of the window.
        if let Some(count) = self.counts.get_mut(token as usize) {
            *count += 1;
        }
        if let Some(old) = self.history.push(token)
            && let Some(count) = self.counts.get_mut(old as usize)
        {
            *count -= 1;
        }
    }

    fn reset(&mut self) {
        self.history.clear();
        self.counts.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::of;
    use super::*;

    fn after(params: SamplingParams, text: &[u32], logits: &[f32]) -> Vec<f32> {
        let mut link = Penalties::new(&params, logits.len());
        text.iter().for_each(|&t| link.accept(t));
        let mut c = of(logits);
        link.apply(&mut c, &mut Rng::new(0));
        c.as_slice().iter().map(|c| c.logit).collect()
    }

    #[test]
    fn repeat_divides_or_multiplies() {
        let params = SamplingParams { penalty_repeat: 2.0, ..Default::default() };
        assert_eq!(after(params, &[0, 1, 1], &[3.0, -3.0, 3.0, 0.0]), [1.5, -6.0, 3.0, 0.0]);
    }

    #[test]
    fn frequency_counts_and_presence_does_not() {
        let params = SamplingParams { penalty_freq: 0.5, penalty_present: 0.25, ..Default::default() };
        assert_eq!(after(params, &[0, 0, 0, 1], &[1.0, 1.0, 1.0]), [1.0 - 1.75, 1.0 - 0.75, 1.0]);
    }

    #[test]
    fn only_the_window_counts() {
        let params = SamplingParams { penalty_present: 1.0, penalty_last_n: 2, ..Default::default() };
        assert_eq!(after(params.clone(), &[0, 1, 2], &[0.0; 3]), [0.0, -1.0, -1.0]);
        let params = SamplingParams { penalty_last_n: -1, ..params };
        let mut text = vec![1; 500];
        text[0] = 0;
        assert_eq!(after(params, &text, &[0.0; 3]), [-1.0, -1.0, 0.0]);
    }

    #[test]
    fn reset_forgets() {
        let params = SamplingParams { penalty_present: 1.0, ..Default::default() };
        let mut link = Penalties::new(&params, 2);
        link.accept(0);
        link.accept(70);
        link.reset();
        let mut c = of(&[4.0, 5.0]);
        link.apply(&mut c, &mut Rng::new(0));
        assert_eq!(c.as_slice()[0].logit, 4.0);
    }

    #[test]
    fn extremes_stay_finite() {
        let params = SamplingParams { penalty_freq: -3e38, penalty_repeat: 1e30, ..Default::default() };
        let got = after(params, &[0, 0, 1], &[-1e30, 2.0, f32::NEG_INFINITY]);
        assert!(got[0].is_finite() && got[1].is_finite());
        assert_eq!(got[2], f32::NEG_INFINITY);
    }
}
