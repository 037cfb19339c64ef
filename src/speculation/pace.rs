//! How many drafts to send: learns how often they are accepted, and what it costs to verify them.

use super::ngrams::{MAX_MATCH, MIN_MATCH};

/// Drafts are sent only where the expected speed is this many times that of plain decoding.
const MARGIN: f64 = 1.05;
/// Trials (or passes) after which an old one has faded to about a third of its weight.
const MEMORY: f64 = 48.0;
/// Weight of the prior acceptance rates, in trials.
const PRIOR_TRIALS: f64 = 3.0;
/// Prior cost of each further token in a pass, in passes of one token.
const PRIOR_SLOPE: f64 = 0.2;
/// Weight of that prior, in timed passes.
const PRIOR_TRUST: f64 = 0.25;
/// Passes of one token after which timings of longer passes have faded, so that a length found too slow is tried again.
const LONG_MEMORY: f64 = 512.0;
/// Passes of one token to time before sending any drafts.
const PLAIN_PASSES: f64 = 2.0;

/// Acceptance rates of drafts, learnt from every token, whether or not a draft was sent for it.
#[derive(Clone, Debug)]
pub struct Acceptance {
    /// (accepted, trials) by match length (2, 3, 4, 5-7, 8-11, 12-19 and more tokens), both decaying.
    counts: [(f64, f64); 7],
}

impl Default for Acceptance {
    fn default() -> Self {
        const LIKELY: [f64; 7] = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
        Acceptance { counts: LIKELY.map(|p| (p * PRIOR_TRIALS, PRIOR_TRIALS)) }
    }
}

impl Acceptance {
    fn class(match_len: usize) -> usize {
        match match_len {
            0..=MIN_MATCH => 0,
            3 => 1,
            4 => 2,
            5..=7 => 3,
            8..=11 => 4,
            12..=19 => 5,
            _ => 6,
        }
    }

    /// Records whether the token predicted by a match of `match_len` tokens was right.
    pub fn learn(&mut self, match_len: usize, right: bool) {
        let (rights, trials) = &mut self.counts[Self::class(match_len)];
        let fade = 1.0 - 1.0 / MEMORY;
        *rights = *rights * fade + f64::from(u8::from(right));
        *trials = *trials * fade + 1.0;
    }

    /// Probability that the token predicted by a match of `match_len` tokens is right.
    pub fn of(&self, match_len: usize) -> f64 {
        let (rights, trials) = self.counts[Self::class(match_len)];
        rights / trials
    }
}

/// Cost of a pass by its number of tokens, relative to a pass of one token.
///
/// The cost beyond 1 is modelled as a straight line times a factor learnt for each number of tokens. A number that was not timed lately
/// borrows the factors of its neighbours, and falls back to the line.
#[derive(Clone, Debug)]
pub struct Costs {
    /// Mean seconds of a pass of one token, and the number of passes behind it, capped at [`MEMORY`].
    plain: (f64, f64),
    /// (factor, weight) by number of tokens.
    factors: Vec<(f64, f64)>,
    /// Cost by number of tokens, from 0.
    costs: Vec<f64>,
}

impl Costs {
    /// For passes of up to `n_max` tokens.
    pub fn new(n_max: usize) -> Costs {
        let mut costs = Costs {
            plain: (0.0, 0.0),
            factors: vec![(1.0, 0.0); n_max + 1],
            costs: vec![1.0; n_max.max(1) + 1],
        };
        costs.work_out();
        costs
    }

    /// Whether enough passes of one token were timed.
    pub fn knows_plain(&self) -> bool {
        self.plain.1 >= PLAIN_PASSES
    }

    /// Cost of a pass of `n` tokens.
    pub fn of(&self, n: usize) -> f64 {
        self.costs[n]
    }

    /// Records the time of a pass of `n` tokens. Outliers are capped, so that one interruption does not count for much.
    pub fn learn(&mut self, n: usize, seconds: f64) {
        if n == 1 {
            let (mean, timed) = &mut self.plain;
            *timed = (*timed + 1.0).min(MEMORY);
            let seconds = if *timed > PLAIN_PASSES { seconds.min(2.0 * *mean) } else { seconds };
            *mean += (seconds - *mean) / *timed;
            self.fade(LONG_MEMORY);
            return;
        }
        if self.plain.0 <= 0.0 || n >= self.factors.len() {
            return;
        }
        let cost = (seconds / self.plain.0).min(2.0 * self.costs[n]);
        let found = ((cost - 1.0) / line(n)).max(0.0);
        let (factor, trust) = &mut self.factors[n];
        *trust = (*trust + 1.0).min(MEMORY / 4.0);
        *factor += (found - *factor) / *trust;
        self.fade(MEMORY);
    }

    fn fade(&mut self, memory: f64) {
        for (_, trust) in &mut self.factors {
            *trust *= 1.0 - 1.0 / memory;
        }
        self.work_out();
    }

    fn work_out(&mut self) {
        for n in 2..self.factors.len() {
            let (mut sum, mut weights) = (PRIOR_TRUST, PRIOR_TRUST);
            for (other, (factor, trust)) in self.factors.iter().enumerate().filter(|(other, _)| *other != n) {
                let near = trust / n.abs_diff(other) as f64;
                sum += near * factor;
                weights += near;
            }
            let (factor, trust) = self.factors[n];
            let factor = (PRIOR_TRUST * sum / weights + trust * factor) / (PRIOR_TRUST + trust);
            self.costs[n] = 1.0 + line(n) * factor;
        }
    }
}

fn line(n: usize) -> f64 {
    PRIOR_SLOPE * (n - 1) as f64
}

/// How many of `n` drafts from a match of `match_len` tokens to send: the number that maximizes tokens per second, or none where that is
/// hardly faster than plain decoding.
pub fn n_paying(acceptance: &Acceptance, costs: &Costs, match_len: usize, n: usize) -> usize {
    if !costs.knows_plain() {
        return 0;
    }
    let (mut best, mut best_speed) = (0, MARGIN);
    let (mut expected, mut all_right) = (1.0, 1.0);
    for drafts in 1..=n {
        // Had the drafts before been right, the match would be longer by them.
        all_right *= acceptance.of((match_len + drafts - 1).min(MAX_MATCH));
        expected += all_right;
        let speed = expected / costs.of(1 + drafts);
        if speed > best_speed {
            (best, best_speed) = (drafts, speed);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(cost: impl Fn(usize) -> f64) -> Costs {
        let mut costs = Costs::new(16);
        for _ in 0..4 {
            (1..=16).for_each(|n| costs.learn(n, 0.1 * cost(n)));
        }
        costs
    }

    fn sure(right: bool) -> Acceptance {
        let mut acceptance = Acceptance::default();
        for len in MIN_MATCH..=MAX_MATCH {
            (0..200).for_each(|_| acceptance.learn(len, right));
        }
        acceptance
    }

    #[test]
    fn nothing_is_sent_before_a_plain_pass_was_timed() {
        let mut costs = Costs::new(16);
        assert_eq!(n_paying(&sure(true), &costs, 20, 15), 0);
        costs.learn(1, 0.1);
        costs.learn(1, 0.1);
        assert_eq!(n_paying(&sure(true), &costs, 20, 15), 15);
        assert_eq!(n_paying(&sure(true), &costs, 20, 4), 4);
    }

    #[test]
    fn drafts_that_are_wrong_are_not_sent() {
        assert_eq!(n_paying(&sure(false), &costs(|n| 1.0 + 0.05 * (n - 1) as f64), 20, 15), 0);
    }

    #[test]
    fn drafts_that_cost_as_much_as_passes_are_not_sent() {
        assert_eq!(n_paying(&sure(true), &costs(|n| n as f64), 20, 15), 0);
    }

    #[test]
    fn a_step_in_the_cost_is_stopped_at() {
        // Four tokens cost little more than one, five as much as ten.
        let costs = costs(|n| if n <= 4 { 1.2 } else { 10.0 });
        assert_eq!(n_paying(&sure(true), &costs, 20, 15), 3);
    }

    #[test]
    fn what_was_timed_says_something_of_what_was_not() {
        let mut costs = Costs::new(16);
        let before = costs.of(9);
        (0..10).for_each(|_| costs.learn(1, 0.1));
        (0..10).for_each(|_| costs.learn(8, 1.0));
        assert!(costs.of(9) > 1.5 * before, "{} {before}", costs.of(9));
        assert!(costs.of(8) > 9.0, "{}", costs.of(8));
        // Long after, the assumption is trusted again.
        (0..2000).for_each(|_| costs.learn(2, 0.12));
        assert!(costs.of(8) < 3.0, "{}", costs.of(8));
    }

    #[test]
    fn an_interruption_counts_little() {
        let mut costs = costs(|n| 1.0 + 0.1 * (n - 1) as f64);
        let before = costs.of(4);
        costs.learn(4, 100.0);
        assert!(costs.of(4) < 1.5 * before, "{} {before}", costs.of(4));
    }
}
