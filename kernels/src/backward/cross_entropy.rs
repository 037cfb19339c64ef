//! The steps of the loss over a row of logits.

use crate::ops::{load, store};
use crate::simd::exp::exp;
use crate::simd::lanes::{LANES, Lanes};

/// Elements whose exponentials are summed in f32 before they are added to a sum in f64.
const CHUNK: usize = 1024;

/// `Σ e^(x − largest)`
#[inline(always)]
pub(crate) fn exp_sum<S: Lanes>(s: S, x: &[f32], largest: f32) -> f64 {
    let largest = s.splat(largest);
    let mut sum = 0.0;
    for x in x.chunks(CHUNK) {
        let (whole, rest) = x.as_chunks();
        let mut sums = s.splat(0.0);
        for x in whole {
            sums = s.add(sums, exp(s, s.sub(s.load(x), largest)));
        }
        if !rest.is_empty() {
            let mut last = [f32::NEG_INFINITY; LANES];
            last[..rest.len()].copy_from_slice(rest);
            sums = s.add(sums, exp(s, s.sub(s.load(&last), largest)));
        }
        sum += f64::from(s.sum(sums));
    }
    sum
}

/// `x = e^(x − largest) · inverse`
#[inline(always)]
pub(crate) fn normalize<S: Lanes>(s: S, x: &mut [f32], largest: f32, inverse: f32) {
    let (largest, inverse) = (s.splat(largest), s.splat(inverse));
    for i in (0..x.len()).step_by(LANES) {
        store(s, s.mul(exp(s, s.sub(load(s, x, i), largest)), inverse), x, i);
    }
}
