//! Rotary embedding of adjacent pairs (GGML's NORM layout; converters permute Hugging Face's weights to it).

use crate::simd::lanes::{LANES, Lanes};

/// Writes the rotation of position `pos` for heads with `rope_dims = 2 · inv_freq.len()` rotated dimensions: `out [2 · rope_dims]`.
///
/// Pair `i` turns by the angle `f32(pos) · inv_freq[i]`, rounded to f32 as `transformers` does it; its sine and cosine are taken in
/// f64 by `libm`, the same code on every machine, rounded to f32 and multiplied by `mscale` (YaRN's magnitude; 1 otherwise).
///
/// The first half of `out` holds `cos, cos` for each pair, the second `−sin, sin`.
///
/// # Panics
/// Where `out` has another length.
pub fn fill_rope(pos: usize, inv_freq: &[f32], mscale: f32, out: &mut [f32]) {
    let rope_dims = 2 * inv_freq.len();
    assert_eq!(out.len(), 2 * rope_dims, "a rotation of {rope_dims} dimensions");
    let (cos, sin) = out.split_at_mut(rope_dims);
    for (i, inv_freq) in inv_freq.iter().enumerate() {
        let (s, c) = libm::sincos((pos as f32 * inv_freq) as f64);
        let (s, c) = (s as f32 * mscale, c as f32 * mscale);
        cos[2 * i..][..2].copy_from_slice(&[c, c]);
        sin[2 * i..][..2].copy_from_slice(&[-s, s]);
    }
}

/// Turns each head of `row`, or turns it back.
#[inline(always)]
pub(crate) fn apply_rope<S: Lanes, const BACK: bool>(
    s: S,
    row: &mut [f32],
    head_dim: usize,
    rope_dims: usize,
    rotation: &[f32],
) {
    let (cos, sin) = rotation.split_at(rope_dims);
    let ((cos, cos_rest), (sin, sin_rest)) = (cos.as_chunks(), sin.as_chunks());
    for head in row.chunks_exact_mut(head_dim) {
        let (x, x_rest) = head[..rope_dims].as_chunks_mut();
        for ((x, cos), sin) in x.iter_mut().zip(cos).zip(sin) {
            s.store(turn::<S, BACK>(s, s.load(x), s.load(cos), s.load(sin)), x);
        }
        if !rope_dims.is_multiple_of(LANES) {
            let turned =
                turn::<S, BACK>(s, s.load_part(x_rest), s.load_part(cos_rest), s.load_part(sin_rest));
            s.store_part(turned, x_rest);
        }
    }
}

#[inline(always)]
fn turn<S: Lanes, const BACK: bool>(s: S, x: S::F, cos: S::F, sin: S::F) -> S::F {
    let product = s.mul(s.swap_pairs(x), sin);
    s.fma(x, cos, if BACK { s.sub(s.splat(0.0), product) } else { product })
}
