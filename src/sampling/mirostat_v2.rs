//! Mirostat 2, and the feedback that both versions share.

use super::candidates::{Candidate, Candidates};
use super::link::Link;
use super::rng::Rng;

/// The controller of mirostat: `mu`, the bound on surprise, starts at 2τ and moves by `−η · (surprise − τ)` with each
/// token, where surprise is −log2 of the token's probability among those that were kept.
#[derive(Debug, Clone)]
pub(super) struct Feedback {
    /// The bound on surprise, in bits.
    pub mu: f32,
    tau: f32,
    eta: f32,
    /// The last token drawn and its surprise, until it is accepted.
    pending: Option<(u32, f32)>,
}

impl Feedback {
    pub fn new(tau: f32, eta: f32) -> Self {
        Self { mu: 2.0 * tau, tau, eta, pending: None }
    }

    pub fn drawn(&mut self, chosen: &Candidate) {
        self.pending = Some((chosen.id, -libm::log2f(chosen.p)));
    }

    /// Learns from the token drawn. A token that was not drawn (of a prompt, or forced) teaches nothing.
    pub fn accept(&mut self, token: u32) {
        if let Some((drawn, surprise)) = self.pending.take()
            && drawn == token
        {
            self.mu -= self.eta * (surprise - self.tau);
        }
    }

    pub fn reset(&mut self) {
        *self = Self::new(self.tau, self.eta);
    }
}

/// Keeps the tokens whose surprise is at most `mu`, and at least the best one (Basu et al., arXiv:2007.14966).
pub(super) struct MirostatV2(Feedback);

impl MirostatV2 {
    pub fn new(tau: f32, eta: f32) -> Self {
        Self(Feedback::new(tau, eta))
    }
}

impl Link for MirostatV2 {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        candidates.softmax();
        let Some(best) = candidates.best() else { return };
        let mu = self.0.mu;
        candidates.retain(|c| c.id == best.id || -libm::log2f(c.p) <= mu);
    }

    fn drawn(&mut self, chosen: &Candidate) {
        self.0.drawn(chosen);
    }

    fn accept(&mut self, token: u32) {
        self.0.accept(token);
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn mirostat_mu(&self) -> Option<f32> {
        Some(self.0.mu)
    }

    fn set_mirostat_mu(&mut self, mu: f32) {
        self.0.mu = mu;
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::{ids, of_probs};
    use super::*;

    #[test]
    fn keeps_what_surprises_little() {
        // Surprises: 1, 2, 3, 3 bits.
        for (tau, want) in [(1.4, vec![0, 1]), (1.6, vec![0, 1, 2, 3]), (0.4, vec![0])] {
            let mut c = of_probs(&[0.5, 0.25, 0.125, 0.125]);
            MirostatV2::new(tau, 0.1).apply(&mut c, &mut Rng::new(0));
            assert_eq!(ids(&c), want, "tau = {tau}");
        }
    }

    #[test]
    fn mu_follows_the_error() {
        let mut f = Feedback::new(5.0, 0.1);
        assert_eq!(f.mu, 10.0);
        // Surprise of 1/4: 2 bits, 3 below the target: mu grows by 0.3.
        f.drawn(&Candidate { id: 7, logit: 0.0, p: 0.25 });
        f.accept(7);
        assert!((f.mu - 10.3).abs() < 1e-6, "{}", f.mu);
        // Nothing is pending any more, and another token than the one drawn teaches nothing.
        f.accept(7);
        f.drawn(&Candidate { id: 7, logit: 0.0, p: 0.25 });
        f.accept(8);
        assert!((f.mu - 10.3).abs() < 1e-6, "{}", f.mu);
        f.reset();
        assert_eq!(f.mu, 10.0);
    }
}
