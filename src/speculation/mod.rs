//! Speculative decoding without a second model: what followed the newest tokens earlier in the text may follow them again.
//!
//! A [`Speculator`] looks the newest tokens up in the text so far, prompt included, and has what followed them checked in one pass
//! with the token to be decoded ([`Session::decode_ahead`]). Several tokens in one pass take much less time than a pass for each, so
//! texts that quote or repeat come out faster, and all texts the same, token for token: drafts never decide what is chosen.
//!
//! It sends drafts only as long as they pay. How often they are right is learnt from every token, whether or not drafts were sent for
//! it, and what passes of several tokens cost from those that ran.

mod ngrams;
mod pace;

use std::time::Instant;

use self::ngrams::Ngrams;
use self::pace::{Acceptance, Costs, n_paying};
use crate::{Error, Session};

/// Drafts that a pass can check at most.
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

/// What became of the drafts.
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

/// Decodes the tokens of a session one after the other, with drafts where they pay.
#[derive(Debug)]
pub struct Speculator {
    options: SpeculationOptions,
    ngrams: Ngrams,
    /// That of the session whose tokens are indexed.
    lineage: Option<u64>,
    /// What may follow the indexed tokens.
    drafts: Vec<u32>,
    /// Length of the match they come from.
    match_len: usize,
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
            lineage: None,
            drafts: Vec::new(),
            match_len: 0,
            acceptance: Acceptance::default(),
            costs: Costs::new(1 + options.n_max),
            stats: SpeculationStats::default(),
        }
    }

    /// What became of the drafts so far.
    pub fn stats(&self) -> SpeculationStats {
        self.stats
    }

    /// Reads `token` in `session`, and returns the logits after it: those of [`Session::decode`], bit for bit. Up to `n_more` tokens
    /// are wanted after it, and no more than those are speculated on.
    ///
    /// The session may be read and cut back by other means in between, or be another one.
    ///
    /// # Errors
    /// As [`Session::decode`].
    pub fn decode<'s>(
        &mut self,
        session: &'s mut Session,
        token: u32,
        n_more: usize,
    ) -> Result<&'s [f32], Error> {
        if self.options.n_max == 0 {
            return session.decode(token);
        }
        self.follow(session.tokens(), session.lineage(), token);
        if session.is_ahead(token) {
            self.propose(1);
            self.stats.n_tokens += 1;
            self.stats.n_accepted += 1;
            return session.decode(token);
        }
        // The last token wanted needs no pass behind it.
        let n_drafts = self.plan(n_more.saturating_sub(1));
        let start = Instant::now();
        if let Err(error) = session.decode_ahead(token, &self.drafts[..n_drafts]) {
            self.lineage = None;
            return Err(error);
        }
        self.passed(session.n_ahead(), start.elapsed().as_secs_f64());
        session.logits().ok_or(Error::NoTokens)
    }

    /// Indexes a session's tokens, and `token` behind them; and learns from it, where it was to be foretold.
    fn follow(&mut self, tokens: &[u32], lineage: u64, token: u32) {
        let indexed = self.ngrams.tokens();
        if self.lineage != Some(lineage) {
            let common = indexed.iter().zip(tokens).take_while(|(a, b)| a == b).count();
            self.ngrams.truncate(common);
            self.lineage = Some(lineage);
        } else if let Some(&draft) = self.drafts.first().filter(|_| indexed.len() == tokens.len()) {
            self.acceptance.learn(self.match_len, draft == token);
        }
        for &token in &tokens[self.ngrams.tokens().len()..] {
            self.ngrams.push(token);
        }
        self.ngrams.push(token);
    }

    fn propose(&mut self, n: usize) {
        self.match_len = self.ngrams.propose(n, &mut self.drafts);
    }

    /// How many drafts to send of those that are now proposed, up to `n_most`.
    fn plan(&mut self, n_most: usize) -> usize {
        self.propose(self.options.n_max);
        let n = self.drafts.len().min(n_most);
        if self.options.always { n } else { n_paying(&self.acceptance, &self.costs, self.match_len, n) }
    }

    /// Counts a pass that read a token and `n_drafts` drafts.
    fn passed(&mut self, n_drafts: usize, seconds: f64) {
        self.stats.n_tokens += 1;
        self.stats.n_passes += 1;
        self.stats.n_drafted += n_drafts;
        self.costs.learn(1 + n_drafts, seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes a text where passes cost what `cost` says, and returns the drafts of each pass.
    fn decode(speculator: &mut Speculator, text: &[u32], cost: impl Fn(usize) -> f64) -> Vec<usize> {
        let (mut ahead, mut sent) = (Vec::new(), Vec::new());
        for (i, &token) in text.iter().enumerate() {
            speculator.follow(&text[..i], 0, token);
            if ahead.first() == Some(&token) {
                ahead.remove(0);
                speculator.propose(1);
                continue;
            }
            let n = speculator.plan(usize::MAX);
            ahead = speculator.drafts[..n].to_vec();
            speculator.passed(n, cost(1 + n));
            sent.push(n);
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
        speculator.follow(&[1, 2, 3, 4, 5], 0, 6);
        // The same session, further on, and then with its end rewritten.
        speculator.follow(&[1, 2, 3, 4, 5, 6, 7], 0, 8);
        assert_eq!(speculator.ngrams.tokens(), [1, 2, 3, 4, 5, 6, 7, 8]);
        speculator.follow(&[1, 2, 3, 9], 1, 4);
        assert_eq!(speculator.ngrams.tokens(), [1, 2, 3, 9, 4]);
        speculator.follow(&[], 2, 4);
        assert_eq!(speculator.ngrams.tokens(), [4]);
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
