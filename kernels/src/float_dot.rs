//! Products of f32 activations with weights that are floats themselves.
//!
//! Element `i` of a row goes to lane `i % 16`, by fused multiply-add in rising order; the lanes fold in the tree of
//! [`Lanes::sum`](crate::simd::lanes::Lanes::sum).

use bytemuck::Pod;

use crate::activation::rows::Activations;
use crate::matmul::strip::OutStrip;
use crate::simd::lanes::{LANES, Lanes};
use crate::weights::matrix::QuantMatrix;

/// How a weight is stored.
pub(crate) trait FloatFormat {
    /// Sixteen weights' bytes.
    type Bytes: Pod;
    /// Sixteen weights.
    fn load<S: Lanes>(s: S, bytes: &Self::Bytes) -> S::F;
}

/// IEEE single precision.
pub(crate) struct F32;
/// IEEE half precision.
pub(crate) struct F16;
/// The upper half of an IEEE single.
pub(crate) struct Bf16;

impl FloatFormat for F32 {
    type Bytes = [u8; 64];
    #[inline(always)]
    fn load<S: Lanes>(s: S, bytes: &[u8; 64]) -> S::F {
        s.f32_le(bytes)
    }
}

impl FloatFormat for F16 {
    type Bytes = [u8; 32];
    #[inline(always)]
    fn load<S: Lanes>(s: S, bytes: &[u8; 32]) -> S::F {
        s.f16_le(bytes)
    }
}

impl FloatFormat for Bf16 {
    type Bytes = [u8; 32];
    #[inline(always)]
    fn load<S: Lanes>(s: S, bytes: &[u8; 32]) -> S::F {
        s.bf16_le(bytes)
    }
}

/// `y[t][r] = w[r] · x[t]` in tiles of `R` weight rows by `T` activation rows.
#[inline(always)]
pub(crate) fn product<S: Lanes, W: FloatFormat, const R: usize, const T: usize>(
    s: S,
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    mut y: OutStrip<'_>,
) {
    let Activations::F32 { m, x, .. } = x else { unreachable!("checked by the table") };
    let mut t = 0;
    while t + T <= m {
        columns::<S, W, R, T>(s, w, x, &mut y, t);
        t += T;
    }
    if T > 1 {
        while t < m {
            columns::<S, W, R, 1>(s, w, x, &mut y, t);
            t += 1;
        }
    }
}

/// All weight rows by activation rows `t..t + T`.
#[inline(always)]
fn columns<S: Lanes, W: FloatFormat, const R: usize, const T: usize>(
    s: S,
    w: QuantMatrix<'_>,
    x: &[f32],
    y: &mut OutStrip<'_>,
    t: usize,
) {
    let mut r = 0;
    while r + R <= w.n_rows() {
        cell::<S, W, R, T>(s, w, x, y, r, t);
        r += R;
    }
    if R > 1 {
        while r < w.n_rows() {
            cell::<S, W, 1, T>(s, w, x, y, r, t);
            r += 1;
        }
    }
}

/// Weight rows `r..r + R` by activation rows `t..t + T`.
#[inline(always)]
fn cell<S: Lanes, W: FloatFormat, const R: usize, const T: usize>(
    s: S,
    w: QuantMatrix<'_>,
    x: &[f32],
    y: &mut OutStrip<'_>,
    r: usize,
    t: usize,
) {
    let k = w.k();
    let n = k / LANES;
    let chunk = size_of::<W::Bytes>();
    let mut ws: [&[W::Bytes]; R] = [&[]; R];
    let mut xs: [&[[f32; 16]]; T] = [&[]; T];
    for (i, ws) in ws.iter_mut().enumerate() {
        *ws = bytemuck::cast_slice(&w.row(r + i)[..n * chunk]);
    }
    for (j, xs) in xs.iter_mut().enumerate() {
        *xs = &x[(t + j) * k..][..k].as_chunks().0[..n];
    }
    let mut acc = [[s.splat(0.0); T]; R];
    for c in 0..n {
        let mut xc = [s.splat(0.0); T];
        for j in 0..T {
            xc[j] = s.load(&xs[j][c]);
        }
        for i in 0..R {
            let wc = W::load(s, &ws[i][c]);
            for j in 0..T {
                acc[i][j] = s.fma(wc, xc[j], acc[i][j]);
            }
        }
    }
    if k > n * LANES {
        for i in 0..R {
            let mut last: W::Bytes = bytemuck::Zeroable::zeroed();
            let bytes = &w.row(r + i)[n * chunk..];
            bytemuck::bytes_of_mut(&mut last)[..bytes.len()].copy_from_slice(bytes);
            let wc = W::load(s, &last);
            for j in 0..T {
                let xc = s.load_part(&x[(t + j) * k + n * LANES..(t + j + 1) * k]);
                acc[i][j] = s.fma(wc, xc, acc[i][j]);
            }
        }
    }
    for j in 0..T {
        let y = y.row(t + j);
        for i in 0..R {
            y[r + i] = s.sum(acc[i][j]);
        }
    }
}
