//! The searches for scales: of all that are tried, the one whose weighted squared error is least.
//!
//! Formulas and ranges are those of llama.cpp's `ggml-quants.c` (`make_qx_quants`, `make_qkx3_quants`, `make_qp_quants`, `make_q3_quants`),
//! summed in the order of the weights, so that what is found here is what it finds. Sixteen groups are searched side by side, one a lane.

use super::vector::Vector;
use crate::simd::lanes::Lanes;

/// A group whose largest magnitude is below this counts as zero.
const ZERO: f32 = 1e-15;

/// The values of a group, each for sixteen groups.
pub(super) type Group<'a> = &'a [[f32; 16]];

/// A scale, and its inverse as it was tried: levels are those nearest to `x · inverse`.
#[derive(Clone, Copy)]
pub(super) struct Scale<S: Lanes> {
    pub scale: Vector<S>,
    pub inverse: Vector<S>,
}

/// A scale and a minimum (which is subtracted).
#[derive(Clone, Copy)]
pub(super) struct ScaleMin<S: Lanes> {
    pub scale: Vector<S>,
    pub min: Vector<S>,
}

/// The value of largest magnitude (the first of equals), with its sign.
#[inline(always)]
pub(super) fn extreme<S: Lanes>(s: S, x: Group<'_>) -> Vector<S> {
    let mut extreme = Vector::splat(s, 0.0);
    let mut largest = extreme;
    for x in x {
        let x = Vector::load(s, x);
        extreme = largest.if_less(x.abs(), x, extreme);
        largest = largest.max(x.abs());
    }
    extreme
}

/// `extreme` of values in registers.
#[inline(always)]
pub(super) fn extreme_of<S: Lanes>(x: &[Vector<S>]) -> Vector<S> {
    let mut extreme = x[0].zero();
    for x in x {
        extreme = extreme.abs().if_less(x.abs(), *x, extreme);
    }
    extreme
}

/// The least and the largest value.
#[inline(always)]
pub(super) fn range<S: Lanes>(s: S, x: Group<'_>) -> (Vector<S>, Vector<S>) {
    let (mut min, mut max) = (Vector::load(s, &x[0]), Vector::load(s, &x[0]));
    for x in &x[1..] {
        let x = Vector::load(s, x);
        // Of equals (zeros of either sign) the first is kept.
        (min, max) = (x.min(min), x.max(max));
    }
    (min, max)
}

/// `x ≈ scale · l`, `−top ≤ l < top`: the largest value goes near `−top`, and 19 scales around that are tried.
#[inline(always)]
pub(super) fn fit_scale<S: Lanes>(s: S, x: Group<'_>, w: Group<'_>, top: f32) -> Scale<S> {
    let extreme = extreme(s, x);
    let zero = Vector::splat(s, 0.0);
    let (mut found, mut best) = (Scale { scale: zero, inverse: zero }, zero);
    // The scale that is not shifted comes first, and of equals the first is kept.
    let shifts = std::iter::once(0).chain((-9..=9).filter(|shift| *shift != 0));
    for shift in shifts {
        let inverse = Vector::splat(s, -(top + 0.1 * shift as f32)) / extreme;
        let (mut sum_xl, mut sum_l2) = (zero, zero);
        for (x, w) in x.iter().zip(w) {
            let (x, w) = (Vector::load(s, x), Vector::load(s, w));
            let l = (inverse * x).round().clamp(-top, top - 1.0);
            sum_xl += w * x * l;
            sum_l2 += w * l * l;
        }
        let scale = sum_xl / sum_l2;
        macro_rules! better {
            ($new:expr, $old:expr) => {
                zero.if_less(sum_l2, (best * sum_l2).if_less(sum_xl * sum_xl, $new, $old), $old)
            };
        }
        let new =
            (better!(scale, found.scale), better!(inverse, found.inverse), better!(scale * sum_xl, best));
        (found.scale, found.inverse, best) = new;
    }
    let is_zero = Vector::splat(s, ZERO);
    Scale {
        scale: extreme.abs().if_less(is_zero, zero, found.scale),
        inverse: extreme.abs().if_less(is_zero, zero, found.inverse),
    }
}

/// What [`fit_scale_min`] tries: `steps + 1` scales, the first `(max − min) / (top + first)`, and so on by `delta`.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    pub first: f32,
    pub delta: f32,
    pub steps: usize,
    /// The error of a weight is its magnitude, not its square.
    pub absolute: bool,
}

impl Steps {
    /// Where the importance of the weights is known.
    pub const WITH_IMPORTANCE: Steps = Steps { first: -0.9, delta: 0.05, steps: 36, absolute: false };
}

/// `x ≈ scale · l − min`, `0 ≤ l ≤ top`: for levels that a scale gives, the scale and minimum of least error follow by least squares.
#[inline(always)]
pub(super) fn fit_scale_min<S: Lanes>(
    s: S,
    x: Group<'_>,
    w: Group<'_>,
    top: f32,
    tried: Steps,
) -> ScaleMin<S> {
    let zero = Vector::splat(s, 0.0);
    let highest = Vector::splat(s, top);
    let (lowest, max) = range(s, x);
    let (mut sum_w, mut sum_x) = (zero, zero);
    for (x, w) in x.iter().zip(w) {
        let (x, w) = (Vector::load(s, x), Vector::load(s, w));
        sum_w += w;
        sum_x += w * x;
    }
    let mut min = lowest.min(zero);
    let has_range = max - min;
    let first = highest / has_range;
    let mut scale = Vector::splat(s, 1.0) / first;
    let mut levels = [[0.0; 16]; 32];
    let levels = &mut levels[..x.len()];

    macro_rules! find_levels {
        ($inverse:expr, |$x:ident, $w:ident, $l:ident| $each:expr) => {
            for ((x, w), level) in x.iter().zip(w).zip(&mut *levels) {
                let ($x, $w) = (Vector::load(s, x), Vector::load(s, w));
                let v = $inverse * ($x - min);
                let $l = zero.if_less(v, v.min(highest).round(), zero);
                $l.store(level);
                $each
            }
        };
    }
    macro_rules! error {
        ($scale:expr, $min:expr) => {{
            let mut sum = zero;
            for ((x, w), level) in x.iter().zip(w).zip(&*levels) {
                let (x, w) = (Vector::load(s, x), Vector::load(s, w));
                let difference = $scale * Vector::load(s, level) + $min - x;
                sum += w * if tried.absolute { difference.abs() } else { difference * difference };
            }
            sum
        }};
    }

    find_levels!(first, |x, _w, _l| ());
    let mut best = error!(scale, min);
    for step in 0..=tried.steps {
        let inverse = Vector::splat(s, tried.first + tried.delta * step as f32 + top) / (max - min);
        let (mut sum_l, mut sum_l2, mut sum_xl) = (zero, zero, zero);
        find_levels!(inverse, |x, w, l| {
            sum_l += w * l;
            sum_l2 += w * l * l;
            sum_xl += w * l * x;
        });
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        let mut new_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
        let mut new_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
        new_scale = zero.if_less(new_min, sum_xl / sum_l2, new_scale);
        new_min = zero.if_less(new_min, zero, new_min);
        let error = error!(new_scale, new_min);
        // An error that is not less than itself is never less than the best.
        let error = zero.if_less(determinant, error, best);
        scale = error.if_less(best, new_scale, scale);
        min = error.if_less(best, new_min, min);
        best = error.if_less(best, error, best);
    }
    ScaleMin {
        scale: zero.if_less(has_range, scale, zero),
        min: zero.if_less(has_range, -min, -lowest.min(zero)),
    }
}

/// `x ≈ scale · l`, `0 ≤ l ≤ top`, for values that are not negative; returns the scale and the levels.
///
/// The scale of the nine that are tried is improved by moving one level at a time, as long as the error falls.
#[inline(always)]
pub(super) fn fit_positive<S: Lanes, const N: usize>(
    s: S,
    x: &[Vector<S>; N],
    w: &[Vector<S>; N],
    top: f32,
) -> (Vector<S>, [Vector<S>; N]) {
    let zero = Vector::splat(s, 0.0);
    let mut max = zero;
    for x in x {
        max = max.max(*x);
    }
    let (mut inverse, mut best) = (zero, zero);
    for shift in std::iter::once(0).chain((-4..=4).filter(|shift| *shift != 0)) {
        let tried = Vector::splat(s, 0.1 * shift as f32 + top) / max;
        let scale = Vector::splat(s, 1.0) / tried;
        let mut error = zero;
        for (x, w) in x.iter().zip(w) {
            let difference = *x - scale * (tried * *x).round().clamp(0.0, top);
            error += *w * difference * difference;
        }
        if shift == 0 {
            (inverse, best) = (tried, error);
        } else {
            inverse = error.if_less(best, tried, inverse);
            best = error.if_less(best, error, best);
        }
    }
    let mut levels = [zero; N];
    let (mut sum_xl, mut sum_l2) = (zero, zero);
    for i in 0..N {
        levels[i] = (inverse * x[i]).round().clamp(0.0, top);
        sum_xl += w[i] * x[i] * levels[i];
        sum_l2 += w[i] * levels[i] * levels[i];
    }
    for _ in 0..5 {
        for i in 0..N {
            let (x, w, l) = (x[i], w[i], levels[i]);
            let (rest_xl, rest_l2) = (sum_xl - w * x * l, sum_l2 - w * l * l);
            let new = (x * rest_l2 / rest_xl).round().clamp(0.0, top);
            let new_xl = rest_xl + w * x * new;
            let new_l2 = rest_l2 + w * new * new;
            let less = sum_xl * sum_xl * new_l2;
            macro_rules! moved {
                ($to:expr, $from:expr) => {{
                    let better = less.if_less(new_xl * new_xl * sum_l2, $to, $from);
                    let better = zero.if_less(rest_l2, better, $from);
                    let better = zero.if_less(rest_xl, better, $from);
                    // The same level again is no move, whatever rounding says.
                    zero.if_less((new - l).abs(), better, $from)
                }};
            }
            let moved = (moved!(new, l), moved!(new_xl, sum_xl), moved!(new_l2, sum_l2));
            (levels[i], sum_xl, sum_l2) = moved;
        }
    }
    let is_zero = Vector::splat(s, ZERO);
    for level in &mut levels {
        *level = max.if_less(is_zero, zero, *level);
    }
    let scale = zero.if_less(sum_l2, sum_xl / sum_l2, zero);
    (max.if_less(is_zero, zero, scale), levels)
}

/// `x ≈ scale · l`, `−top ≤ l < top`, with `x²` for weights: the levels that the extreme gives, improved one at a time.
#[inline(always)]
pub(super) fn fit_scale_by_moves<S: Lanes>(s: S, x: Group<'_>, top: f32) -> Vector<S> {
    let zero = Vector::splat(s, 0.0);
    let extreme = extreme(s, x);
    let inverse = Vector::splat(s, -top) / extreme;
    let mut levels = [[0.0; 16]; 16];
    let (mut sum_xl, mut sum_l2) = (zero, zero);
    for (x, level) in x.iter().zip(&mut levels) {
        let x = Vector::load(s, x);
        let (l, w) = ((inverse * x).round().clamp(-top, top - 1.0), x * x);
        l.store(level);
        sum_xl += w * x * l;
        sum_l2 += w * l * l;
    }
    for _ in 0..5 {
        for (x, level) in x.iter().zip(&mut levels) {
            let (x, l) = (Vector::load(s, x), Vector::load(s, level));
            let w = x * x;
            let rest_xl = sum_xl - w * x * l;
            let rest_l2 = sum_l2 - w * l * l;
            let new = (x * rest_l2 / rest_xl).round().clamp(-top, top - 1.0);
            let new_xl = rest_xl + w * x * new;
            let new_l2 = rest_l2 + w * new * new;
            let less = sum_xl * sum_xl * new_l2;
            macro_rules! moved {
                ($to:expr, $from:expr) => {{
                    let better = less.if_less(new_xl * new_xl * sum_l2, $to, $from);
                    let better = zero.if_less(new_l2, better, $from);
                    let better = zero.if_less(rest_xl, better, $from);
                    zero.if_less((new - l).abs(), better, $from)
                }};
            }
            let moved = (moved!(new, l), moved!(new_xl, sum_xl), moved!(new_l2, sum_l2));
            moved.0.store(level);
            (sum_xl, sum_l2) = (moved.1, moved.2);
        }
    }
    let scale = zero.if_less(sum_l2, sum_xl / sum_l2, zero);
    extreme.abs().if_less(Vector::splat(s, ZERO), zero, scale)
}
