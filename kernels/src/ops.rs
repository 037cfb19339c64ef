//! The small operations between products.

use crate::aligned::CacheLine;
use crate::simd::exp::exp;
use crate::simd::lanes::{LANES, Lanes};

/// Little-endian f32 at any alignment, as a file holds the weights of a norm.
#[derive(Clone, Copy, Debug)]
pub struct LeF32<'a>(&'a [[u8; 4]]);

impl<'a> LeF32<'a> {
    /// Views bytes, or `None` where they are not a whole number of f32.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (values, rest) = bytes.as_chunks();
        rest.is_empty().then_some(LeF32(values))
    }

    /// Values.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values one by one.
    pub fn iter(&self) -> impl Iterator<Item = f32> + 'a {
        self.0.iter().map(|bytes| f32::from_le_bytes(*bytes))
    }

    /// Up to sixteen values from `i` on, then zeros.
    #[inline(always)]
    pub(crate) fn load<S: Lanes>(&self, s: S, i: usize) -> S::F {
        let rest = self.0[i..].as_flattened();
        match rest.first_chunk() {
            Some(chunk) => s.f32_le(chunk),
            None => {
                let mut chunk = [0; 64];
                chunk[..rest.len()].copy_from_slice(rest);
                s.f32_le(&chunk)
            }
        }
    }
}

/// Sixteen values from `i` on, or as many as there are, then zeros.
#[inline(always)]
pub(crate) fn load<S: Lanes>(s: S, x: &[f32], i: usize) -> S::F {
    match x[i..].first_chunk() {
        Some(chunk) => s.load(chunk),
        None => s.load_part(&x[i..]),
    }
}

/// Prefetches the cache lines of `bytes`.
#[inline(always)]
pub(crate) fn prefetch<S: Lanes>(s: S, bytes: &[u8]) {
    bytes.iter().step_by(size_of::<CacheLine>()).for_each(|x| s.prefetch(x));
}

/// Writes the first lanes to `out` from `i` on, as many as there is room for, sixteen at most.
#[inline(always)]
pub(crate) fn store<S: Lanes>(s: S, x: S::F, out: &mut [f32], i: usize) {
    match out[i..].first_chunk_mut() {
        Some(chunk) => s.store(x, chunk),
        None => s.store_part(x, &mut out[i..]),
    }
}

#[inline(always)]
pub(crate) fn rms_norm<S: Lanes>(s: S, x: &[f32], weight: LeF32<'_>, eps: f32, out: &mut [f32]) -> bool {
    let mut squares = s.splat(0.0);
    for i in (0..x.len()).step_by(LANES) {
        let x = load(s, x, i);
        squares = s.fma(x, x, squares);
    }
    let sum = s.sum(squares);
    if !sum.is_finite() {
        return false;
    }
    let inverse = s.splat(1.0 / (sum / x.len() as f32 + eps).sqrt());
    for i in (0..x.len()).step_by(LANES) {
        store(s, s.mul(s.mul(load(s, x, i), inverse), weight.load(s, i)), out, i);
    }
    true
}

#[inline(always)]
pub(crate) fn swiglu<S: Lanes>(s: S, gate: &mut [f32], up: &[f32]) {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    for i in (0..gate.len()).step_by(LANES) {
        let g = load(s, gate, i);
        let silu = s.div(g, s.add(one, exp(s, s.sub(zero, g))));
        store(s, s.mul(silu, load(s, up, i)), gate, i);
    }
}

#[inline(always)]
pub(crate) fn add_scaled<S: Lanes>(s: S, y: &mut [f32], x: &[f32], factor: f32) {
    let factor = s.splat(factor);
    for i in (0..y.len()).step_by(LANES) {
        store(s, s.fma(load(s, x, i), factor, load(s, y, i)), y, i);
    }
}

#[inline(always)]
pub(crate) fn scale<S: Lanes>(s: S, x: &mut [f32], factor: f32) {
    let factor = s.splat(factor);
    for i in (0..x.len()).step_by(LANES) {
        store(s, s.mul(load(s, x, i), factor), x, i);
    }
}

#[inline(always)]
pub(crate) fn softmax<S: Lanes>(s: S, x: &mut [f32]) {
    let largest = s.splat(x.iter().fold(f32::NEG_INFINITY, |max, x| if *x > max { *x } else { max }));
    let mut sums = s.splat(0.0);
    for i in (0..x.len()).step_by(LANES) {
        store(s, exp(s, s.sub(load(s, x, i), largest)), x, i);
        // What lies past the end adds nothing.
        sums = s.add(sums, load(s, x, i));
    }
    let sum = s.splat(s.sum(sums));
    for i in (0..x.len()).step_by(LANES) {
        store(s, s.div(load(s, x, i), sum), x, i);
    }
}
