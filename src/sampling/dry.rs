//! DRY: don't repeat yourself.

use super::SamplingParams;
use super::candidates::Candidates;
use super::dry_breakers::DryBreaker;
use super::history::History;
use super::link::Link;
use super::rng::Rng;

/// Penalises the tokens that would continue a repetition. If the last n tokens of the text, n ≥ `allowed_length`, have
/// occurred before, the token that followed them then loses `multiplier · base^(n − allowed_length)` (for the longest
/// such n). A repetition does not reach back across a sequence breaker, and a token that is a breaker by itself is
/// never penalised. (<https://github.com/oobabooga/text-generation-webui/pull/5677>)
pub(super) struct Dry {
    multiplier: f32,
    base: f32,
    allowed_length: usize,
    /// In rising order, so that those of one head stand together.
    breakers: Vec<DryBreaker>,
    history: History,
    /// The history, newest first; reused from token to token like the next two.
    recent: Vec<u32>,
    /// `matches[k]`: how many tokens `recent[k..]` and `recent` have in common at their starts.
    matches: Vec<usize>,
    /// For each token of the vocabulary, the longest repetition it would continue; all 0 between calls.
    longest: Vec<usize>,
}

impl Dry {
    pub fn new(params: &SamplingParams, n_vocab: usize) -> Self {
        let mut breakers = params.dry_breakers.clone();
        breakers.sort_unstable();
        let history = History::new(params.dry_penalty_last_n);
        Self {
            multiplier: params.dry_multiplier,
            base: params.dry_base,
            // Never negative: the parameters have been checked.
            allowed_length: params.dry_allowed_length.max(0) as usize,
            breakers,
            recent: Vec::with_capacity(history.capacity()),
            matches: Vec::with_capacity(history.capacity()),
            history,
            longest: vec![0; n_vocab],
        }
    }

    /// The tails of the breakers that begin with a token.
    fn tails(&self, head: u32) -> impl Iterator<Item = &[u32]> + Clone {
        let start = self.breakers.partition_point(|b| b.head < head);
        self.breakers[start..].iter().take_while(move |b| b.head == head).map(|b| b.tail.as_slice())
    }

    /// The number of tokens since the last sequence breaker.
    fn reach(&self) -> usize {
        let recent = &self.recent;
        for (i, &token) in recent.iter().enumerate() {
            // The tail follows the head in the text, so it stands before it here.
            let complete = |tail: &[u32]| {
                tail.len() <= i && tail.iter().zip(recent[..i].iter().rev()).all(|(a, b)| a == b)
            };
            if let Some(longest) = self.tails(token).filter(|tail| complete(tail)).map(<[u32]>::len).max() {
                return i - longest;
            }
        }
        recent.len()
    }

    /// Finite, however long the repetition.
    fn penalty(&self, repeated: usize) -> f32 {
        let exponent = (repeated - self.allowed_length) as f32;
        let power = libm::powf(self.base, exponent).min(f32::MAX);
        (self.multiplier * power).clamp(f32::MIN, f32::MAX)
    }
}

impl Link for Dry {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        self.recent.clear();
        self.recent.extend(self.history.newest_first());
        if self.recent.len() <= self.allowed_length {
            return;
        }
        let reach = self.reach();
        if reach < self.allowed_length {
            return;
        }
        z_function(&self.recent, &mut self.matches);
        // recent[k..] starts like recent: recent[k - 1] is what followed then.
        let followers =
            || self.recent.iter().zip(&self.matches[1..]).map(|(&token, &n)| (token, n.min(reach)));
        let mut any = false;
        for (token, n) in followers().filter(|&(_, n)| n >= self.allowed_length) {
            let single_breaker = self.tails(token).any(<[u32]>::is_empty);
            if let (false, Some(longest)) = (single_breaker, self.longest.get_mut(token as usize)) {
                // One more than the length, so that 0 is free for "none".
                *longest = (n + 1).max(*longest);
                any = true;
            }
        }
        if !any {
            return;
        }
        for c in candidates.edit() {
            if let Some(repeated) = self.longest[c.id as usize].checked_sub(1) {
                c.logit = (c.logit - self.penalty(repeated)).min(f32::MAX);
            }
        }
        for &token in &self.recent {
            if let Some(longest) = self.longest.get_mut(token as usize) {
                *longest = 0;
            }
        }
    }

    fn accept(&mut self, token: u32) {
        self.history.push(token);
    }

    fn reset(&mut self) {
        self.history.clear();
    }
}

/// For each k, the length of the longest common prefix of `s` and `s[k..]`, in linear time (Gusfield, Algorithms on
/// Strings, 1997, §1.4). `z[0]` is the length of `s`.
fn z_function(s: &[u32], z: &mut Vec<usize>) {
    z.clear();
    z.resize(s.len(), s.len());
    // s[left..right] is the match found so far that ends furthest to the right; it equals s[..right - left].
    let (mut left, mut right) = (0, 0);
    for k in 1..s.len() {
        let known = if k < right { z[k - left].min(right - k) } else { 0 };
        let more = s[k + known..].iter().zip(&s[known..]).take_while(|(a, b)| a == b).count();
        z[k] = known + more;
        if k + z[k] > right {
            (left, right) = (k, k + z[k]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::of;
    use super::*;

    fn params() -> SamplingParams {
        SamplingParams { dry_multiplier: 1.0, dry_base: 2.0, dry_allowed_length: 2, ..Default::default() }
    }

    /// What DRY subtracts from each of ten tokens.
    fn penalties(params: &SamplingParams, text: &[u32]) -> Vec<f32> {
        let mut link = Dry::new(params, 10);
        text.iter().for_each(|&t| link.accept(t));
        let apply = |link: &mut Dry| -> Vec<f32> {
            let mut c = of(&[0.0; 10]);
            link.apply(&mut c, &mut Rng::new(0));
            c.as_slice().iter().map(|c| 0.0 - c.logit).collect()
        };
        let first = apply(&mut link);
        assert_eq!(first, apply(&mut link), "the scratch is not clean");
        first
    }

    fn only(token: usize, penalty: f32) -> Vec<f32> {
        let mut want = vec![0.0; 10];
        want[token] = penalty;
        want
    }

    #[test]
    fn z_function_equals_the_definition() {
        let mut rng = Rng::new(4);
        let mut z = Vec::new();
        for round in 0..200 {
            let s: Vec<u32> = (0..round % 40).map(|_| (rng.unit() * 2.0) as u32).collect();
            z_function(&s, &mut z);
            for k in 0..s.len() {
                let want = (0..s.len() - k).take_while(|&i| s[i] == s[k + i]).count();
                assert_eq!(z[k], want, "{s:?} {k}");
            }
        }
    }

    /// 1 2 3 4 … 1 2 3: 4 would make a repetition of three tokens four, so it loses 2^(3 − 2).
    #[test]
    fn continuing_a_repetition_costs() {
        assert_eq!(penalties(&params(), &[1, 2, 3, 4, 5, 1, 2, 3]), only(4, 2.0));
        assert_eq!(penalties(&params(), &[2, 3, 4, 5, 2, 3]), only(4, 1.0));
    }

    #[test]
    fn short_repetitions_are_free() {
        assert_eq!(penalties(&params(), &[1, 2, 3, 1]), vec![0.0; 10]);
        let longer = SamplingParams { dry_allowed_length: 3, ..params() };
        assert_eq!(penalties(&longer, &[2, 3, 4, 5, 2, 3]), vec![0.0; 10]);
    }

    /// After 1 2 3 came 4, after 9 2 3 came 5: each has its own length.
    #[test]
    fn the_longest_repetition_counts() {
        let mut want = only(4, 2.0);
        want[5] = 1.0;
        assert_eq!(penalties(&params(), &[1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3]), want);
        assert_eq!(penalties(&params(), &[9, 2, 3, 4, 1, 2, 3, 4, 0, 1, 2, 3])[4], 2.0);
    }

    #[test]
    fn breakers_end_a_repetition() {
        let breaker = |head, tail: &[u32]| DryBreaker { head, tail: tail.to_vec() };
        let text = [1, 2, 3, 4, 5, 1, 2, 3];
        // The others never occur; they stand before and after.
        let with =
            |b| SamplingParams { dry_breakers: vec![breaker(8, &[8]), b, breaker(0, &[])], ..params() };
        // Two tokens after the breaker 1: the repetition counts as 2 long.
        assert_eq!(penalties(&with(breaker(1, &[])), &text), only(4, 1.0));
        // One token after it: too short.
        assert_eq!(penalties(&with(breaker(2, &[])), &text), vec![0.0; 10]);
        // A sequence 5 1: 2 3 follow it. An incomplete one, 5 2, breaks nothing.
        assert_eq!(penalties(&with(breaker(5, &[1])), &text), only(4, 1.0));
        assert_eq!(penalties(&with(breaker(5, &[2])), &text), only(4, 2.0));
        // A breaker is not penalised itself, unless it is only the head of one.
        assert_eq!(penalties(&with(breaker(4, &[])), &text), vec![0.0; 10]);
        assert_eq!(penalties(&with(breaker(4, &[7])), &text), only(4, 2.0));
    }

    #[test]
    fn only_the_window_counts() {
        let short = SamplingParams { dry_penalty_last_n: 6, ..params() };
        // The window is 3 4 5 1 2 3: only 3 comes back.
        assert_eq!(penalties(&short, &[1, 2, 3, 4, 5, 1, 2, 3]), vec![0.0; 10]);
    }

    #[test]
    fn long_repetitions_do_not_overflow() {
        let params = SamplingParams { dry_penalty_last_n: -1, ..params() };
        let got = penalties(&params, &[1; 500]);
        assert!(got[1].is_finite() && got[1] > 1e38, "{}", got[1]);
    }
}
