//! What Q2_K, Q4_K and Q5_K share: groups with a scale and a minimum each, integers under a scale of the scales and a scale of the mins.

use super::batch::{Batch, to_u8};
use super::half_scale::to_half;
use super::search::{ScaleMin, Steps, fit_positive, fit_scale_min};
use super::vector::Vector;
use crate::simd::lanes::Lanes;
use crate::weights::block::F16Le;

/// How errors are weighed where the importance of the weights is not known.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Plain {
    /// `|x|`
    Magnitude,
    /// `√(mean x² of the group) + |x|`
    MagnitudeAndMean,
}

/// What the format asks for.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// The highest level.
    pub top: f32,
    /// The highest scale and the highest minimum.
    pub scale_top: f32,
    pub plain: Plain,
    /// What is tried where the importance is not known.
    pub plain_steps: Steps,
    /// With importance, weights are `importance · √(share · mean x² + x²)`.
    pub share: f32,
}

/// Scales and mins of `G` groups.
pub(super) struct ScalesMins<const G: usize> {
    pub d: [F16Le; 16],
    pub dmin: [F16Le; 16],
    pub scales: [[u8; 16]; G],
    pub mins: [[u8; 16]; G],
}

/// Finds the scales and mins of sixteen blocks of 256 weights in `G` groups, and their levels.
#[inline(always)]
pub(super) fn fit_scales_mins<S: Lanes, const G: usize>(
    s: S,
    batch: &mut Batch<256>,
    shape: Shape,
) -> ScalesMins<G> {
    let len = 256 / G;
    let zero = Vector::splat(s, 0.0);
    let (mut scales, mut mins, mut weights) = ([zero; G], [zero; G], [zero; G]);
    let has_importance = batch.importance().is_some();
    let steps = if has_importance { Steps::WITH_IMPORTANCE } else { shape.plain_steps };
    let square = batch.sum_of_squares(s, 0, 256) * Vector::splat(s, shape.share) / Vector::splat(s, 256.0);
    for j in 0..G {
        if has_importance {
            batch.weigh_by_importance(s, len * j, len, square);
            weights[j] = batch.sum_of_weights(s, len);
        } else {
            let more = match shape.plain {
                Plain::Magnitude => zero,
                Plain::MagnitudeAndMean => {
                    (batch.sum_of_squares(s, len * j, len) / Vector::splat(s, len as f32)).sqrt()
                }
            };
            batch.weigh_by_magnitudes(s, len * j, len, more);
        }
        let group = &batch.x[len * j..][..len];
        let ScaleMin { scale, min } = fit_scale_min(s, group, &batch.weights[..len], shape.top, steps);
        (scales[j], mins[j]) = (scale, min);
    }
    let (d, scales) = to_integers(s, &scales, &weights, has_importance, shape.scale_top);
    let (dmin, mins) = to_integers(s, &mins, &weights, has_importance, shape.scale_top);
    let ((d, d_half), (dmin, dmin_half)) = (to_half(s, d), to_half(s, dmin));
    let mut found = ScalesMins { d, dmin, scales: [[0; 16]; G], mins: [[0; 16]; G] };
    for j in 0..G {
        found.scales[j] = to_u8(scales[j]);
        found.mins[j] = to_u8(mins[j]);
        batch.nearest_levels(s, len * j, len, (d_half * scales[j], dmin_half * mins[j]), (0.0, shape.top));
    }
    found
}

/// Scales as integers, and the scale of them.
#[inline(always)]
fn to_integers<S: Lanes, const G: usize>(
    s: S,
    x: &[Vector<S>; G],
    weights: &[Vector<S>; G],
    has_importance: bool,
    top: f32,
) -> (Vector<S>, [Vector<S>; G]) {
    if has_importance {
        return fit_positive(s, x, weights, top);
    }
    let zero = Vector::splat(s, 0.0);
    let mut max = zero;
    for x in x {
        max = max.max(*x);
    }
    let top_lanes = Vector::splat(s, top);
    let inverse = zero.if_less(max, top_lanes / max, zero);
    let mut levels = [zero; G];
    for j in 0..G {
        levels[j] = (inverse * x[j]).round().clamp(0.0, top);
    }
    (max / top_lanes, levels)
}
