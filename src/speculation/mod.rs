//! Speculative decoding without a second model: what followed the newest tokens earlier in the text may follow them again.
//!
//! A [`Speculator`] looks the newest tokens up in the text so far, prompt included, and proposes what followed them there as drafts,
//! to be checked in one pass together with the token to be decoded. Several tokens in one pass take much less time than a pass for
//! each, so texts that quote or repeat come out faster; and all texts come out the same, token for token, as drafts never decide what
//! is chosen.
//!
//! It proposes drafts only as long as they pay. How often they are right is learnt from every token, whether or not drafts were sent
//! for it, and what passes of several tokens cost from those that ran.

mod ngrams;
mod pace;

use std::time::Duration;

use self::ngrams::Ngrams;
use self::pace::{Acceptance, Costs, n_paying};

/// The most drafts that a pass can check.
const MOST_DRAFTS: usize = 63;

/// How far to speculate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpeculationOptions {
    /// Drafts a pass, at most (more than 63 are never sent); 0 turns speculation off.
    pub n_max: usize,
    /// Send all drafts there are, whether or not they pay.
    pub always: bool,
}

impl Default for SpeculationOptions {
    /// Up to 15 drafts, where they pay.
    fn default() -> Self {
        SpeculationOptions { n_max: 15, always: false }
    }
}

impl SpeculationOptions {
    /// No speculation.
    pub fn off() -> Self {
        SpeculationOptions { n_max: 0, always: false }
    }
}

/// Counts of passes and drafts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpeculationStats {
    /// Tokens decoded.
    pub n_tokens: usize,
    /// Passes it took: one a token without speculation.
    pub n_passes: usize,
    /// Drafts checked.
    pub n_drafted: usize,
    /// Drafts that were right, each of which saved a pass.
    pub n_accepted: usize,
}

/// Proposes drafts for the text it observes, where they pay.
#[derive(Debug)]
pub struct Speculator {
    options: SpeculationOptions,
    ngrams: Ngrams,
    /// What may follow the text, if `match_is_current`.
    drafts: Vec<u32>,
    /// Length of the match they come from.
    match_len: usize,
    match_is_current: bool,
    acceptance: Acceptance,
    costs: Costs,
    stats: SpeculationStats,
}

impl Speculator {
    /// One that knows no text yet.
    pub fn new(options: &SpeculationOptions) -> Speculator {
        let options = SpeculationOptions { n_max: options.n_max.min(MOST_DRAFTS), ..*options };
        Speculator {
            options,
            ngrams: Ngrams::default(),
            drafts: Vec::with_capacity(options.n_max),
            match_len: 0,
            match_is_current: false,
            acceptance: Acceptance::default(),
            costs: Costs::new(1 + options.n_max),
            stats: SpeculationStats::default(),
        }
    }

    /// Counts so far.
    pub fn stats(&self) -> SpeculationStats {
        self.stats
    }

    /// Replaces the text so far. A common prefix is not indexed again, and what was learnt is kept.
    pub fn restart(&mut self, text: &[u32]) {
        if self.options.n_max == 0 {
            return;
        }
        let common = self.ngrams.tokens().iter().zip(text).take_while(|(a, b)| a == b).count();
        self.ngrams.truncate(common);
        self.extend(&text[common..]);
    }

    /// Appends tokens that were given rather than chosen, such as a prompt: nothing is learnt from them.
    pub fn extend(&mut self, tokens: &[u32]) {
        if self.options.n_max > 0 {
            tokens.iter().for_each(|&token| self.ngrams.push(token));
            self.match_is_current = false;
        }
    }

    /// Reserves room for `n_tokens` more, so that observing them does not allocate.
    pub fn reserve(&mut self, n_tokens: usize) {
        if self.options.n_max > 0 {
            self.ngrams.reserve(n_tokens);
        }
    }

    /// Appends the token that was chosen next, and learns from it.
    pub fn observe(&mut self, token: u32) {
        if self.options.n_max == 0 {
            return;
        }
        self.look_up(1);
        if let Some(&draft) = self.drafts.first() {
            self.acceptance.learn(self.match_len, draft == token);
        }
        self.ngrams.push(token);
        self.match_is_current = false;
    }

    /// Up to `n_most` drafts of what follows the text, as many as pay off.
    pub fn propose(&mut self, n_most: usize) -> &[u32] {
        if self.options.n_max == 0 {
            return &[];
        }
        self.match_is_current = false;
        self.look_up(self.options.n_max);
        let n = self.drafts.len().min(n_most);
        let n =
            if self.options.always { n } else { n_paying(&self.acceptance, &self.costs, self.match_len, n) };
        &self.drafts[..n]
    }

    /// Records a pass over a token and `n_drafts` drafts, of which the first `n_accepted` were accepted.
    pub fn passed(&mut self, n_drafts: usize, n_accepted: usize, took: Duration) {
        self.stats.n_tokens += 1 + n_accepted;
        self.stats.n_passes += 1;
        self.stats.n_drafted += n_drafts;
        self.stats.n_accepted += n_accepted;
        if self.options.n_max > 0 && n_drafts <= self.options.n_max {
            self.costs.learn(1 + n_drafts, took.as_secs_f64());
        }
    }

    /// Finds what may follow the text: at least `n` tokens, where there is a match at all.
    fn look_up(&mut self, n: usize) {
        if !self.match_is_current {
            self.match_len = self.ngrams.propose(n, &mut self.drafts);
            self.match_is_current = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes a text where passes cost what `cost` says, and returns the drafts of each pass.
    fn decode(speculator: &mut Speculator, text: &[u32], cost: impl Fn(usize) -> f64) -> Vec<usize> {
        let mut sent = Vec::new();
        let mut rest = text;
        while let [token, after @ ..] = rest {
            if sent.is_empty() {
                speculator.observe(*token);
            }
            let drafts = speculator.propose(usize::MAX).to_vec();
            let n_right = drafts.iter().zip(after).take_while(|(a, b)| a == b).count();
            after.iter().take(n_right + 1).for_each(|token| speculator.observe(*token));
            speculator.passed(drafts.len(), n_right, Duration::from_secs_f64(cost(1 + drafts.len())));
            sent.push(drafts.len());
            rest = &after[n_right..];
        }
        sent
    }

    fn random(n: usize, n_vocab: u32) -> Vec<u32> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % n_vocab
        };
        (0..n).map(|_| next()).collect()
    }

    fn cheap(n: usize) -> f64 {
        0.004 * (1.0 + 0.1 * (n - 1) as f64)
    }

    #[test]
    fn a_text_that_repeats_itself_ends_with_long_drafts() {
        let mut speculator = Speculator::new(&SpeculationOptions::default());
        let text: Vec<u32> = random(40, 1000).into_iter().cycle().take(800).collect();
        let sent = decode(&mut speculator, &text, cheap);
        assert!(sent.len() < 150, "{}", sent.len());
        assert!(sent[sent.len() - 20..].iter().all(|&n| n == 15), "{sent:?}");
    }

    #[test]
    fn random_tokens_end_with_no_drafts_though_there_are_matches() {
        let mut speculator = Speculator::new(&SpeculationOptions::default());
        let text = random(3000, 12);
        let sent = decode(&mut speculator, &text, cheap);
        assert!(speculator.stats().n_drafted > 0);
        let late: usize = sent[sent.len() - 1000..].iter().sum();
        assert!(late < 50, "{late} drafts in the last 1000 passes");
    }

    #[test]
    fn right_drafts_are_not_sent_where_a_pass_costs_as_much_as_its_tokens() {
        let mut speculator = Speculator::new(&SpeculationOptions::default());
        let text: Vec<u32> = random(40, 1000).into_iter().cycle().take(3000).collect();
        let sent = decode(&mut speculator, &text, |n| 0.004 * n as f64);
        let late = sent[sent.len() - 1000..].iter().filter(|&&n| n > 0).count();
        assert!(late < 20, "{late} of the last 1000 passes");
    }

    #[test]
    fn what_is_off_comes_on_when_the_text_begins_to_repeat_itself() {
        let mut speculator = Speculator::new(&SpeculationOptions::default());
        let mut text = random(2000, 12);
        text.extend(random(50, 1000).into_iter().cycle().take(400));
        let sent = decode(&mut speculator, &text, cheap);
        assert_eq!(sent.last(), Some(&15));
    }

    #[test]
    fn a_text_that_was_cut_back_or_replaced_is_indexed_anew() {
        let mut speculator = Speculator::new(&SpeculationOptions::default());
        speculator.restart(&[1, 2, 3, 4, 5]);
        speculator.observe(6);
        // Further on, and then with its end rewritten.
        speculator.restart(&[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(speculator.ngrams.tokens(), [1, 2, 3, 4, 5, 6, 7, 8]);
        speculator.restart(&[1, 2, 3, 9]);
        speculator.extend(&[4]);
        assert_eq!(speculator.ngrams.tokens(), [1, 2, 3, 9, 4]);
        speculator.restart(&[]);
        assert!(speculator.ngrams.tokens().is_empty());
    }

    #[test]
    fn what_is_off_neither_proposes_nor_remembers() {
        let mut speculator = Speculator::new(&SpeculationOptions::off());
        speculator.restart(&[1, 1, 1, 1]);
        speculator.observe(1);
        assert_eq!(speculator.propose(9), [0; 0]);
        speculator.passed(0, 0, Duration::from_millis(1));
        assert!(speculator.ngrams.tokens().is_empty());
        assert_eq!(speculator.stats().n_passes, 1);
    }

    #[test]
    fn there_are_never_more_drafts_than_asked_for() {
        for n_max in [1, 4, 100] {
            let options = SpeculationOptions { n_max, always: true };
            let mut speculator = Speculator::new(&options);
            let text: Vec<u32> = [1, 2, 3].into_iter().cycle().take(400).collect();
            let sent = decode(&mut speculator, &text, cheap);
            assert_eq!(sent.iter().max(), Some(&n_max.min(MOST_DRAFTS)));
        }
    }
}
