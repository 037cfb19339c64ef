//! The derivative of SwiGLU.

use crate::ops::{load, store};
use crate::simd::exp::exp;
use crate::simd::lanes::{LANES, Lanes};

/// With `y = silu(gate) · up`: `gate` becomes its gradient `dy · up · σ(gate)·(1 + gate·(1 − σ(gate)))`, and `up` becomes `dy · silu(gate)`.
#[inline(always)]
pub(crate) fn swiglu_backward<S: Lanes>(s: S, gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    for i in (0..gate.len()).step_by(LANES) {
        let (g, u, dy) = (load(s, gate, i), load(s, up, i), load(s, dy, i));
        let sigmoid = s.div(one, s.add(one, exp(s, s.sub(zero, g))));
        let slope = s.mul(sigmoid, s.fma(g, s.sub(one, sigmoid), one));
        store(s, s.mul(s.mul(dy, u), slope), gate, i);
        store(s, s.mul(dy, s.mul(g, sigmoid)), up, i);
    }
}
