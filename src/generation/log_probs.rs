//! Log-probabilities of a row of logits.

/// `ln Σ exp(l_i)`, so that `l_i` less this is the natural logarithm of the probability of token `i`.
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(libm::expf(logit - max))).sum();
    (f64::from(max) + libm::log(sum)) as f32
}

/// Appends the `n` likeliest tokens and their log-probabilities, the likeliest first, the lower id first among equals.
pub fn push_top(logits: &[f32], log_sum: f32, n: usize, tops: &mut Vec<(u32, f32)>) {
    let start = tops.len();
    for (&logit, id) in logits.iter().zip(0u32..) {
        let found = &tops[start..];
        if found.len() == n && found.last().is_none_or(|(_, last)| logit <= *last) {
            continue;
        }
        let at = start + found.partition_point(|(_, other)| *other >= logit);
        if found.len() == n {
            tops.pop();
        }
        tops.insert(at, (id, logit));
    }
    tops[start..].iter_mut().for_each(|(_, logit)| *logit -= log_sum);
}

/// Appends the `n` likeliest of the tokens that one was drawn from, as [`push_top`] does, and returns the log-probability of `token`, which
/// is the one.
pub fn push_drawn(
    from: impl Iterator<Item = (u32, f32)>,
    token: u32,
    n: usize,
    tops: &mut Vec<(u32, f32)>,
) -> f32 {
    let start = tops.len();
    let mut log_prob = 0.0;
    for (id, p) in from {
        if id == token {
            log_prob = libm::logf(p);
        }
        let found = &tops[start..];
        if p == 0.0 || (found.len() == n && found.last().is_none_or(|(_, last)| p <= *last)) {
            continue;
        }
        let at = start + found.partition_point(|(_, other)| *other >= p);
        if found.len() == n {
            tops.pop();
        }
        tops.insert(at, (id, p));
    }
    tops[start..].iter_mut().for_each(|(_, p)| *p = libm::logf(*p));
    log_prob
}

#[cfg(test)]
mod tests {
    use super::*;

    /// numpy: l = [1, 2, 3, 4]; l - np.log(np.exp(l).sum())
    #[test]
    fn log_probs_by_formula() {
        let logits = [1.0, 2.0, 3.0, 4.0];
        let log_sum = log_sum_exp(&logits);
        assert!((log_sum - 4.440_19).abs() < 1e-6, "{log_sum}");
        let mut tops = vec![(9, 9.0)];
        push_top(&logits, log_sum, 2, &mut tops);
        assert_eq!(tops.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [9, 3, 2]);
        assert!((tops[1].1 + 0.440_190).abs() < 1e-6, "{tops:?}");
        // Far from 0 as well.
        assert!((log_sum_exp(&[1000.0, 1000.0]) - 1000.693).abs() < 1e-3);
        assert_eq!(log_sum_exp(&[f32::NEG_INFINITY, 5.0]), 5.0);
    }

    #[test]
    fn probabilities_after_sampling_are_those_drawn_with() {
        let mut tops = Vec::new();
        let from = [(7, 0.25), (3, 0.5), (9, 0.0), (4, 0.25)];
        assert_eq!(push_drawn(from.into_iter(), 4, 2, &mut tops), 0.25_f32.ln());
        assert_eq!(tops, [(3, 0.5_f32.ln()), (7, 0.25_f32.ln())]);
        tops.clear();
        assert_eq!(push_drawn([(5, 1.0)].into_iter(), 5, 10, &mut tops), 0.0);
        assert_eq!(tops, [(5, 0.0)]);
    }

    #[test]
    fn the_likeliest_are_those_of_a_sort() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 101) as f32).collect();
        let mut sorted: Vec<u32> = (0..1000).collect();
        sorted.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        for n in [0, 1, 5, 20, 999, 1000, 2000] {
            let mut tops = Vec::new();
            push_top(&logits, 0.0, n, &mut tops);
            assert_eq!(tops.iter().map(|(id, _)| *id).collect::<Vec<_>>(), sorted[..n.min(1000)], "{n}");
        }
    }
}
