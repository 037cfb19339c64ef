//! IQ4_NL, and what IQ4_XS has in common with it.

use super::batch::{Batch, Quantize, to_u8};
use super::half_scale::to_half;
use super::pack::{nibbles, spread};
use super::search::{Group, extreme};
use super::vector::Vector;
use crate::simd::lanes::Lanes;
use crate::weights::block::{BlockIQ4NL, KVALUES_IQ4};

pub(crate) struct Iq4Nl;

impl Quantize<32> for Iq4Nl {
    type Block = BlockIQ4NL;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, batch: &mut Batch<32>, out: &mut [BlockIQ4NL; 16]) {
        let has_importance = batch.importance().is_some();
        match has_importance {
            true => {
                let square = batch.sum_of_squares(s, 0, 32) * Vector::splat(s, 2.0 / 32.0);
                batch.weigh_by_importance(s, 0, 32, square);
            }
            false => batch.weigh_by_squares(s, 0, 32),
        }
        let scale = fit_codebook(s, &batch.x, &batch.weights);
        let (d, d_half) = to_half(s, scale);
        nearest_codes(s, batch, 0, if has_importance { d_half } else { scale });
        for (block, d) in out.iter_mut().zip(d) {
            block.d = d;
        }
        spread!(nibbles(&batch.levels) => out.qs);
    }
}

/// Shifts of the scale that are tried, up and down.
const SHIFTS: i32 = 7;

/// `x ≈ scale · KVALUES_IQ4[l]`: the largest value goes near the lowest of the levels, and 16 scales around that are tried.
#[inline(always)]
pub(super) fn fit_codebook<S: Lanes>(s: S, x: Group<'_>, w: Group<'_>) -> Vector<S> {
    let lowest = f32::from(KVALUES_IQ4[0]);
    let (extreme, zero) = (extreme(s, x), Vector::splat(s, 0.0));
    let (mut found, mut best) = (zero, zero);
    let plain = Vector::splat(s, 1.0) / (-extreme / Vector::splat(s, lowest));
    for shift in -SHIFTS - 1..=SHIFTS {
        let is_plain = shift < -SHIFTS;
        let inverse = if is_plain { plain } else { Vector::splat(s, shift as f32 + lowest) / extreme };
        let (mut sum_xq, mut sum_q2) = (zero, zero);
        for (x, w) in x.iter().zip(w) {
            let (x, w) = (Vector::load(s, x), Vector::load(s, w));
            let q = nearest_value(s, inverse * x);
            sum_xq += w * q * x;
            sum_q2 += w * q * q;
        }
        let scale = sum_xq / sum_q2;
        macro_rules! better {
            ($new:expr, $old:expr) => {
                zero.if_less(sum_q2, (best * sum_q2).if_less(sum_xq * sum_xq, $new, $old), $old)
            };
        }
        (found, best) = (better!(scale, found), better!(scale * sum_xq, best));
    }
    extreme.abs().if_less(Vector::splat(s, 1e-15), zero, found)
}

/// The value of the codebook that is nearest to `x`.
#[inline(always)]
fn nearest_value<S: Lanes>(s: S, x: Vector<S>) -> Vector<S> {
    let mut value = Vector::splat(s, f32::from(KVALUES_IQ4[0]));
    for i in 1..16 {
        let (lower, upper) = (f32::from(KVALUES_IQ4[i - 1]), f32::from(KVALUES_IQ4[i]));
        value = x.if_less(Vector::splat(s, 0.5 * (lower + upper)), value, Vector::splat(s, upper));
    }
    value
}

/// Sets 32 levels from `first` to those that are nearest under `scale`.
#[inline(always)]
pub(super) fn nearest_codes<S: Lanes, const N: usize>(
    s: S,
    batch: &mut Batch<N>,
    first: usize,
    scale: Vector<S>,
) {
    let inverse = scale.inverse_or_zero();
    for i in first..first + 32 {
        let x = inverse * Vector::load(s, &batch.x[i]);
        let mut level = Vector::splat(s, 0.0);
        for i in 1..16 {
            let middle = 0.5 * (f32::from(KVALUES_IQ4[i - 1]) + f32::from(KVALUES_IQ4[i]));
            level = x.if_less(Vector::splat(s, middle), level, Vector::splat(s, i as f32));
        }
        batch.levels[i] = to_u8(level);
    }
}
