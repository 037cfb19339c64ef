//! The derivative of the root mean square norm.

use crate::ops::{LeF32, load, store};
use crate::simd::lanes::{LANES, Lanes};

/// With `y = x·r·w` and `r = 1/√(mean(x²) + eps)`: `dx += r·(g − x·r²·mean(g·x))`, where `g = dy·w`.
#[inline(always)]
pub(crate) fn rms_norm_backward<S: Lanes>(
    s: S,
    x: &[f32],
    weight: LeF32<'_>,
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
) {
    let (mut squares, mut products) = (s.splat(0.0), s.splat(0.0));
    for i in (0..x.len()).step_by(LANES) {
        let x = load(s, x, i);
        squares = s.fma(x, x, squares);
        products = s.fma(s.mul(load(s, dy, i), weight.load(s, i)), x, products);
    }
    let n = x.len() as f32;
    let inverse = 1.0 / (s.sum(squares) / n + eps).sqrt();
    let factor = s.splat(-(inverse * inverse * (s.sum(products) / n)));
    let inverse = s.splat(inverse);
    for i in (0..x.len()).step_by(LANES) {
        let g = s.mul(load(s, dy, i), weight.load(s, i));
        let d = s.fma(factor, load(s, x, i), g);
        store(s, s.fma(inverse, d, load(s, dx, i)), dx, i);
    }
}
