//! The steps between the products of attention.

use crate::ops::{load, store};
use crate::simd::exp::exp;
use crate::simd::lanes::{LANES, Lanes};

/// Takes up a block of scores of one query, of which the unseen are −∞ and one at least is not: they become `e^(score − largest)`, with
/// the largest so far. `sums`, the weighted values of the blocks before, are scaled to it. Returns the largest and the sum of all exponentials.
#[inline(always)]
pub(crate) fn softmax_step<S: Lanes>(
    s: S,
    scores: &mut [f32],
    (largest, sum): (f32, f32),
    sums: &mut [f32],
) -> (f32, f32) {
    let new = scores.iter().fold(largest, |max, x| if *x > max { *x } else { max });
    let new_lanes = s.splat(new);
    let mut exponentials = s.splat(0.0);
    let (whole, rest) = scores.as_chunks_mut();
    for scores in whole {
        let e = exp(s, s.sub(s.load(scores), new_lanes));
        exponentials = s.add(exponentials, e);
        s.store(e, scores);
    }
    if !rest.is_empty() {
        let mut last = [f32::NEG_INFINITY; LANES];
        last[..rest.len()].copy_from_slice(rest);
        let e = exp(s, s.sub(s.load(&last), new_lanes));
        exponentials = s.add(exponentials, e);
        s.store_part(e, rest);
    }
    let mut factor = [0.0; LANES];
    s.store(exp(s, s.splat(largest - new)), &mut factor);
    if largest != new {
        let factor = s.splat(factor[0]);
        for i in (0..sums.len()).step_by(LANES) {
            store(s, s.mul(load(s, sums, i), factor), sums, i);
        }
    }
    (new, sum.mul_add(factor[0], s.sum(exponentials)))
}

/// Scores become probabilities `p = e^(score − log_sum)`, and the gradients `dp` of these become those of the scores, `p · (dp − delta)`.
/// Unseen scores are −∞.
#[inline(always)]
pub(crate) fn score_gradients<S: Lanes>(
    s: S,
    scores: &mut [f32],
    gradients: &mut [f32],
    log_sum: f32,
    delta: f32,
) {
    let (log_sum, delta) = (s.splat(log_sum), s.splat(delta));
    for i in (0..scores.len()).step_by(LANES) {
        let p = exp(s, s.sub(load(s, scores, i), log_sum));
        store(s, p, scores, i);
        store(s, s.mul(p, s.sub(load(s, gradients, i), delta)), gradients, i);
    }
}

/// `Σ a · b`
#[inline(always)]
pub(crate) fn dot<S: Lanes>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sums = s.splat(0.0);
    for i in (0..a.len()).step_by(LANES) {
        sums = s.fma(load(s, a, i), load(s, b, i), sums);
    }
    s.sum(sums)
}
