//! How much of a prompt a pass reads beside the next tokens of other texts.

use std::time::Duration;

/// Tokens of prompts in a pass, at least, and as long as nothing is known: so few that a pass hardly takes longer for them.
const LEAST: usize = 8;
/// Fewer tokens tell nothing about what one costs.
const TELLING: usize = 8;
/// Prompts get three quarters of the time, where gaps stay below this or [`Pace::max_gap`].
const SHORT_GAP: f64 = 0.1;
const SHARE: f64 = 4.0;
/// The part of [`Pace::max_gap`] that is used while no pass without prompts was seen: requests that come together leave none for long.
const UNKNOWN: f64 = 0.75;
/// How much longer a pass may be that nobody waits for yet, and its tokens as long as nothing is known.
const ALONE: f64 = 2.5;
const LEAST_ALONE: usize = 32;

/// Learns what passes cost, and plans their length.
///
/// A pass is taken to cost as much as one without prompts, and the same for every token of a prompt. What one costs rises at once and falls
/// slowly, so that after a surprise gaps are short rather than long.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    max_gap: Option<Duration>,
    /// Seconds of a pass without prompts.
    base: Option<f64>,
    /// Seconds of a token of a prompt.
    token: Option<f64>,
    /// Tokens of prompts in the last pass beside others.
    last: usize,
    /// And in the last pass that had nothing but prompts.
    last_alone: usize,
}

impl Pace {
    pub fn new(max_gap: Option<Duration>) -> Pace {
        Pace { max_gap, base: None, token: None, last: LEAST, last_alone: LEAST_ALONE }
    }

    /// Tokens of `n_readers` prompts that the next pass should have at most, beside the next tokens of `n_decoding` texts which have waited
    /// for `waited` already.
    pub fn n_prompt(&self, n_decoding: usize, n_readers: usize, waited: Duration) -> usize {
        let Some(max_gap) = self.max_gap else { return usize::MAX };
        let max_gap = max_gap.as_secs_f64();
        let base = self.base.unwrap_or(0.0);
        // No sudden leaps: what a token costs was measured at another length.
        let (gap, least, most) = match (n_decoding, n_readers) {
            (0, 0..=1) => (ALONE * max_gap, LEAST_ALONE, 2 * self.last_alone),
            (0, _) => (max_gap, LEAST, 2 * self.last_alone),
            _ => {
                let gap = self.base.map_or(UNKNOWN * max_gap, |base| (SHARE * base).max(SHORT_GAP));
                (gap.min(max_gap), LEAST, 2 * self.last)
            }
        };
        let Some(token) = self.token else { return least };
        let n = (gap - waited.as_secs_f64() - base) / token.max(1e-9);
        (n.round() as usize).min(most).max(least)
    }

    /// Notes what a pass has cost.
    pub fn passed(&mut self, n_decoding: usize, n_prompt: usize, took: Duration) {
        let took = took.as_secs_f64();
        if n_prompt == 0 {
            self.base = Some(self.base.map_or(took, |base| 0.75 * base + 0.25 * took));
            return;
        }
        if n_decoding > 0 {
            self.last = n_prompt.max(LEAST);
        } else {
            self.last_alone = n_prompt.max(LEAST_ALONE);
        }
        if n_prompt >= TELLING {
            let cost = (took - self.base.unwrap_or(0.0)).max(0.0) / n_prompt as f64;
            let settled = |token: f64| if cost > token { cost } else { 0.75 * token + 0.25 * cost };
            self.token = Some(self.token.map_or(cost, settled));
        }
    }

    /// Seconds that a pass takes; `None` where too little is known.
    pub fn estimate(&self, n_decoding: usize, n_prompt: usize) -> Option<f64> {
        let base = if n_decoding + n_prompt == 0 { 0.0 } else { self.base.unwrap_or(0.0) };
        let prompt = if n_prompt == 0 { 0.0 } else { n_prompt as f64 * self.token? };
        Some(base + prompt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes that read a prompt of `n` tokens beside one text: the time each takes, by `cost`.
    fn read(pace: &mut Pace, mut n: usize, cost: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut gaps = Vec::new();
        while n > 0 {
            let part = pace.n_prompt(1, 1, Duration::ZERO).min(n);
            n -= part;
            gaps.push(cost(part));
            pace.passed(1, part, Duration::from_secs_f64(cost(part)));
        }
        gaps
    }

    fn longest(gaps: &[f64]) -> f64 {
        gaps.iter().copied().fold(0.0, f64::max)
    }

    #[test]
    fn gaps_stay_below_the_bound_and_prompts_get_the_rest() {
        // A 7B model on two cores: 0.15 s a token, 25 ms for one of a prompt.
        let cost = |n: usize| 0.15 + 0.025 * n as f64;
        let mut pace = Pace::new(Some(Duration::from_millis(400)));
        (0..5).for_each(|_| pace.passed(1, 0, Duration::from_secs_f64(cost(0))));
        let gaps = read(&mut pace, 2000, cost);
        assert!(longest(&gaps) < 0.45, "{}", longest(&gaps));
        let total: f64 = gaps.iter().sum();
        assert!(total < 2000.0 * 0.025 / 0.6, "60% of the rate alone: {total}");
    }

    /// Eight clients that come together, after a prompt was read alone: no pass is without prompts until all of these were read.
    #[test]
    fn prompts_that_come_together_are_read_at_well_over_half_of_the_rate_alone() {
        // A 7B model on sixteen cores.
        let cost = |n: usize| 0.036 + 0.0042 * n.min(64) as f64 + 0.0032 * n.saturating_sub(64) as f64;
        let mut pace = Pace::new(Some(Duration::from_millis(400)));
        let (mut alone, mut unread) = (0.0, 2000);
        while unread > 0 {
            let n = pace.n_prompt(0, 1, Duration::ZERO).min(512).min(unread);
            unread -= n;
            alone += cost(n);
            pace.passed(0, n, Duration::from_secs_f64(cost(n)));
        }
        let gaps = read(&mut pace, 2000, |n| cost(n + 4));
        assert!(longest(&gaps) < 0.4, "{}", longest(&gaps));
        let together: f64 = gaps.iter().sum();
        assert!(together < alone / 0.7, "{together} beside {alone}");
    }

    #[test]
    fn a_fast_model_has_gaps_far_below_the_bound() {
        let cost = |n: usize| 0.01 + 0.001 * n as f64;
        let mut pace = Pace::new(Some(Duration::from_millis(400)));
        (0..5).for_each(|_| pace.passed(1, 0, Duration::from_secs_f64(cost(0))));
        let gaps = read(&mut pace, 2000, cost);
        assert!(longest(&gaps) < 0.11, "{}", longest(&gaps));
    }

    /// Up to 32 tokens a pass takes as long as one, and then each costs something.
    #[test]
    fn a_cost_that_sets_in_late_is_no_surprise() {
        let cost = |n: usize| 0.1 + 0.02 * n.saturating_sub(32) as f64;
        let mut pace = Pace::new(Some(Duration::from_millis(300)));
        (0..5).for_each(|_| pace.passed(1, 0, Duration::from_secs_f64(cost(0))));
        let gaps = read(&mut pace, 3000, cost);
        let late = &gaps[gaps.len() / 2..];
        assert!(longest(late) < 0.45, "{}", longest(late));
    }

    #[test]
    fn after_a_stall_parts_are_short_for_a_while() {
        let cost = |n: usize| 0.1 + 0.01 * n as f64;
        let mut pace = Pace::new(Some(Duration::from_millis(400)));
        pace.passed(1, 0, Duration::from_secs_f64(cost(0)));
        read(&mut pace, 1000, cost);
        assert!((28..=30).contains(&pace.n_prompt(1, 1, Duration::ZERO)));
        pace.passed(1, 30, Duration::from_secs(8));
        assert_eq!(pace.n_prompt(1, 1, Duration::ZERO), LEAST);
        read(&mut pace, 1000, cost);
        assert!(pace.n_prompt(1, 1, Duration::ZERO) > 20, "{}", pace.n_prompt(1, 1, Duration::ZERO));
    }

    #[test]
    fn a_prompt_alone_is_read_in_longer_parts() {
        // A 7B model on two cores again; in one pass, 512 tokens would take 13 s.
        let cost = |n: usize| 0.15 + 0.025 * n as f64;
        let mut pace = Pace::new(Some(Duration::from_millis(400)));
        let mut parts = Vec::new();
        for _ in 0..10 {
            let n = pace.n_prompt(0, 1, Duration::ZERO).min(512);
            parts.push(n);
            pace.passed(0, n, Duration::from_secs_f64(cost(n)));
        }
        assert_eq!(parts[0], LEAST_ALONE);
        assert!(parts.iter().all(|n| cost(*n) < 1.1), "{parts:?}");
        // One that is joined by another.
        assert!(cost(pace.n_prompt(0, 2, Duration::ZERO)) < 0.55);
        // A fast machine soon has as many as a pass takes.
        let mut pace = Pace::new(Some(Duration::from_millis(400)));
        for _ in 0..5 {
            let n = pace.n_prompt(0, 1, Duration::ZERO).min(512);
            pace.passed(0, n, Duration::from_secs_f64(0.001 * n as f64));
        }
        assert!(pace.n_prompt(0, 1, Duration::ZERO) >= 512);
    }

    #[test]
    fn what_was_waited_for_a_pass_that_was_cancelled_counts() {
        let mut pace = Pace::new(Some(Duration::from_millis(400)));
        assert_eq!(pace.n_prompt(3, 1, Duration::ZERO), LEAST);
        pace.passed(0, 512, Duration::from_secs(5));
        pace.passed(1, 30, Duration::from_millis(300));
        assert!(pace.n_prompt(1, 1, Duration::from_millis(300)) < pace.n_prompt(1, 1, Duration::ZERO));
        assert_eq!(Pace::new(None).n_prompt(3, 1, Duration::ZERO), usize::MAX);
        let mut pace = Pace::new(None);
        pace.passed(0, 512, Duration::from_secs(5));
        assert!((pace.estimate(0, 100).unwrap() - 100.0 * 5.0 / 512.0).abs() < 1e-9);
    }
}
