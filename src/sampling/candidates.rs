//! The candidate tokens, with their logits and probabilities.

use std::cmp::Ordering;

use super::SamplingError;

/// A candidate token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its logit, as changed by the links so far; never NaN or +∞.
    pub logit: f32,
    /// Its probability, as of the last [`Candidates::softmax`].
    pub p: f32,
}

/// The candidates of one position, in one reused buffer.
///
/// They are ordered by id, or from most to least likely once a link has sorted them; never in an order left over from
/// a partial selection, because sums of probabilities depend on the order.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    data: Vec<Candidate>,
    sorted: bool,
}

impl Candidates {
    /// Fills the buffer from one row of logits, ordered by id.
    ///
    /// # Errors
    /// [`SamplingError::NotFinite`] for a logit that is NaN or +∞.
    pub fn fill(&mut self, logits: &[f32]) -> Result<(), SamplingError> {
        self.sorted = false;
        self.data.clear();
        self.data.extend(logits.iter().zip(0u32..).map(|(&logit, id)| Candidate { id, logit, p: 0.0 }));
        match self.data.iter().find(|c| c.logit.is_nan() || c.logit == f32::INFINITY) {
            Some(bad) => Err(SamplingError::NotFinite { token: bad.id, value: bad.logit }),
            None => Ok(()),
        }
    }

    /// The candidates.
    pub fn as_slice(&self) -> &[Candidate] {
        &self.data
    }

    /// Number of candidates.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether no candidate is left.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The candidates, whose logits the caller is about to change: puts them back in order of id if they were sorted.
    pub fn edit(&mut self) -> &mut [Candidate] {
        if std::mem::take(&mut self.sorted) {
            self.data.sort_unstable_by_key(|c| c.id);
        }
        &mut self.data
    }

    /// Changes every logit by a function that keeps their order.
    pub fn map_monotone(&mut self, f: impl Fn(f32) -> f32) {
        for c in &mut self.data {
            c.logit = f(c.logit);
        }
    }

    /// Keeps the candidates for which `keep` is true, in their order.
    pub fn retain(&mut self, keep: impl Fn(&Candidate) -> bool) {
        self.data.retain(keep);
    }

    /// Keeps the first `n`.
    pub fn truncate(&mut self, n: usize) {
        self.data.truncate(n);
    }

    /// Drops the first `n`.
    pub fn drop_front(&mut self, n: usize) {
        self.data.drain(..n);
    }

    /// Sorts from the most to the least likely.
    pub fn sort(&mut self) {
        if !self.sorted {
            self.data.sort_unstable_by(best_first);
            self.sorted = true;
        }
    }

    /// Keeps the `k` best (all of them if there are fewer), sorted. `k` is at least 1.
    ///
    /// One pass: the buffer's front collects whatever beats the worst of the k best seen so far, and is cut back to
    /// k when it is four times as long, so that nearly every candidate costs one comparison.
    pub fn keep_best(&mut self, k: usize) {
        let n = self.data.len();
        if !self.sorted && k < n {
            let room = k.saturating_mul(4).max(64);
            let mut kept = 0;
            let mut bar = f32::NEG_INFINITY;
            for i in 0..n {
                let c = self.data[i];
                // On equal logits the lower id wins; ids come in rising order, so an equal one loses. Before the
                // first cut the bar is −∞ and those at −∞ must be let in.
                if c.logit > bar || kept < k {
                    self.data[kept] = c;
                    kept += 1;
                    if kept == room {
                        self.data[..kept].select_nth_unstable_by(k - 1, best_first);
                        kept = k;
                        bar = self.data[k - 1].logit;
                    }
                }
            }
            self.data.truncate(kept);
        }
        self.sort();
        self.data.truncate(k);
    }

    /// The best candidate: the highest logit, and the lowest id among equals.
    pub fn best(&self) -> Option<Candidate> {
        self.data.iter().copied().reduce(|a, b| if best_first(&b, &a).is_lt() { b } else { a })
    }

    /// Fills in the probabilities, `p_i = exp(l_i − max) / Σ exp(l_j − max)`. The order stays.
    ///
    /// At least one logit must be finite (see [`SamplingError::NoCandidate`]).
    pub fn softmax(&mut self) {
        let Some(best) = self.best() else { return };
        let mut sum = 0.0f64;
        for c in &mut self.data {
            c.p = libm::expf(c.logit - best.logit);
            sum += f64::from(c.p);
        }
        for c in &mut self.data {
            c.p = (f64::from(c.p) / sum) as f32;
        }
    }

    /// Keeps, sorted, the shortest run of best candidates that has `min_keep` members and whose probabilities add up
    /// to `p`. [`Self::softmax`] must have been called.
    pub fn keep_mass(&mut self, p: f32, min_keep: usize) {
        let n = self.data.len();
        let mut sum = 0.0f64;
        let mut done = 0;
        // A vocabulary is rarely sorted whole: mostly a few hundred candidates hold the mass.
        for prefix in [256, 4096, n] {
            let prefix = prefix.min(n);
            if !self.sorted && prefix > done {
                if prefix < n {
                    self.data[done..].select_nth_unstable_by(prefix - done - 1, best_first);
                }
                self.data[done..prefix].sort_unstable_by(best_first);
            }
            for i in done..prefix {
                sum += f64::from(self.data[i].p);
                if sum >= f64::from(p) && i + 1 >= min_keep {
                    self.sorted = true;
                    self.data.truncate(i + 1);
                    return;
                }
            }
            done = prefix;
        }
        self.sorted = true;
    }

    /// Keeps the candidates at these positions, which must rise.
    pub fn keep_positions(&mut self, rising: impl Iterator<Item = usize>) {
        let mut kept = 0;
        for position in rising {
            self.data[kept] = self.data[position];
            kept += 1;
        }
        self.data.truncate(kept);
    }
}

/// Higher logits first, then lower ids: a total order, since no logit is NaN.
fn best_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Candidates with these logits, ids 0, 1, 2 …
    pub fn of(logits: &[f32]) -> Candidates {
        let mut c = Candidates::default();
        c.fill(logits).unwrap();
        c
    }

    /// Candidates with these probabilities (their logits are the logarithms).
    pub fn of_probs(probs: &[f32]) -> Candidates {
        of(&probs.iter().map(|&p| libm::logf(p)).collect::<Vec<_>>())
    }

    /// The ids left, in rising order.
    pub fn ids(c: &Candidates) -> Vec<u32> {
        let mut ids: Vec<u32> = c.as_slice().iter().map(|c| c.id).collect();
        ids.sort_unstable();
        ids
    }

    /// A long row whose values repeat, so that there are ties.
    pub fn bumpy(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919) % 1009) as f32 * 0.25 - 100.0).collect()
    }

    #[test]
    fn bad_logits_are_named() {
        let mut c = Candidates::default();
        let err = c.fill(&[1.0, f32::NAN, f32::INFINITY]).unwrap_err();
        assert!(matches!(err, SamplingError::NotFinite { token: 1, .. }), "{err:?}");
        let err = c.fill(&[1.0, 2.0, f32::INFINITY]).unwrap_err();
        assert_eq!(err, SamplingError::NotFinite { token: 2, value: f32::INFINITY });
        assert!(c.fill(&[1.0, f32::NEG_INFINITY]).is_ok());
    }

    #[test]
    fn keep_best_equals_sorting() {
        let logits = bumpy(5000);
        let mut whole: Vec<u32> = (0..5000).collect();
        whole.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        for k in [1, 2, 15, 16, 17, 40, 1000, 1249, 1250, 1251, 4999, 5000, 9000] {
            let mut c = of(&logits);
            c.keep_best(k);
            let got: Vec<u32> = c.as_slice().iter().map(|c| c.id).collect();
            assert_eq!(got, whole[..k.min(5000)], "k = {k}");
        }
    }

    #[test]
    fn keep_best_of_ruled_out_tokens() {
        let mut logits = vec![f32::NEG_INFINITY; 500];
        logits[300] = -4.0;
        let mut c = of(&logits);
        c.keep_best(3);
        let got: Vec<u32> = c.as_slice().iter().map(|c| c.id).collect();
        assert_eq!(got, [300, 0, 1]);
    }

    #[test]
    fn best_takes_the_lowest_id_of_equals() {
        assert_eq!(of(&[0.0, 3.0, 3.0, -1.0]).best().unwrap().id, 1);
        // −0 equals +0.
        assert_eq!(of(&[-0.0, 0.0]).best().unwrap().id, 0);
    }

    /// numpy: l = [1, 2, 3, 4]; e = exp(l - 4); e / e.sum()
    #[test]
    fn softmax_by_formula() {
        let mut c = of(&[1.0, 2.0, 3.0, 4.0]);
        c.softmax();
        let want = [0.032_058_604, 0.087_144_32, 0.236_882_82, 0.643_914_3];
        for (c, want) in c.as_slice().iter().zip(want) {
            assert!((c.p - want).abs() < 1e-7, "{} {want}", c.p);
        }
    }

    #[test]
    fn keep_mass_of_a_flat_vocabulary() {
        // 10,000 equal tokens: half the mass is 5,000 of them, the lowest ids, whatever the prefixes sorted first.
        let mut c = of(&vec![0.5; 10_000]);
        c.softmax();
        c.keep_mass(0.5, 0);
        let n = c.len();
        assert!((4999..=5001).contains(&n), "{n}");
        assert_eq!(ids(&c), (0..n as u32).collect::<Vec<_>>());
    }

    #[test]
    fn edit_restores_the_order_of_ids() {
        let mut c = of(&[1.0, 5.0, 3.0]);
        c.sort();
        assert_eq!(c.as_slice()[0].id, 1);
        c.edit()[0].logit = 9.0;
        assert_eq!(c.as_slice().iter().map(|c| c.id).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(c.best().unwrap().id, 0);
    }

    #[test]
    fn keep_positions_keeps_order_and_probabilities() {
        let mut c = of(&[0.0; 4]);
        c.softmax();
        c.keep_positions([1, 3].into_iter());
        assert_eq!(c.as_slice().iter().map(|c| (c.id, c.p)).collect::<Vec<_>>(), [(1, 0.25), (3, 0.25)]);
    }
}
