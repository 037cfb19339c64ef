//! Dropout by counting: whether an element is kept depends on a key and its column alone, so that a mask is never stored.

use crate::simd::lanes::{LANES, Lanes};

/// SplitMix64's step between states (<https://prng.di.unimi.it/splitmix64.c>).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's output for a state.
#[inline(always)]
const fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The key of a row: of the example's seed, a number of the matrix whose input it is, and its position in the example.
pub const fn dropout_key(seed: u64, site: u64, position: u64) -> u64 {
    let key = mix(seed.wrapping_add(GOLDEN));
    let key = mix((key ^ site).wrapping_add(GOLDEN));
    mix((key ^ position).wrapping_add(GOLDEN))
}

/// The share of elements that are dropped; the others grow by `1 / (1 − p)`.
///
/// Columns `2i` and `2i + 1` of a row are dropped where the lower and the upper half of the `i`-th output of SplitMix64, seeded with the
/// row's [key](dropout_key), lie below `p · 2³²`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    pub(super) threshold: u32,
    pub(super) scale: f32,
}

impl Dropout {
    /// Drops a share `p`; `None` unless `0 ≤ p < 1`.
    pub fn new(p: f32) -> Option<Dropout> {
        let threshold = (f64::from(p) * 2f64.powi(32)).round() as u32;
        (0.0..1.0).contains(&p).then_some(Dropout { threshold, scale: 1.0 / (1.0 - p) })
    }

    /// Whether nothing is dropped.
    pub fn is_none(self) -> bool {
        self.threshold == 0
    }
}

/// What the columns of chunk `i` of a row are multiplied with.
#[inline(always)]
fn factors(key: u64, threshold: u32, scale: f32, i: usize) -> [f32; LANES] {
    let mut factors = [0.0; LANES];
    for j in 0..LANES / 2 {
        let counter = (i * (LANES / 2) + j + 1) as u64;
        let z = mix(key.wrapping_add(GOLDEN.wrapping_mul(counter)));
        factors[2 * j] = if (z as u32) < threshold { 0.0 } else { scale };
        factors[2 * j + 1] = if ((z >> 32) as u32) < threshold { 0.0 } else { scale };
    }
    factors
}

/// `out = x · factors`
#[inline(always)]
pub(crate) fn drop_row<S: Lanes>(_: S, key: u64, threshold: u32, scale: f32, x: &[f32], out: &mut [f32]) {
    for (i, (x, out)) in x.chunks(LANES).zip(out.chunks_mut(LANES)).enumerate() {
        let factors = factors(key, threshold, scale, i);
        for ((out, x), factor) in out.iter_mut().zip(x).zip(factors) {
            *out = x * factor;
        }
    }
}

/// `out += x · factors`, each rounded.
#[inline(always)]
pub(crate) fn add_dropped<S: Lanes>(_: S, key: u64, threshold: u32, scale: f32, x: &[f32], out: &mut [f32]) {
    for (i, (x, out)) in x.chunks(LANES).zip(out.chunks_mut(LANES)).enumerate() {
        let factors = factors(key, threshold, scale, i);
        for ((out, x), factor) in out.iter_mut().zip(x).zip(factors) {
            *out += x * factor;
        }
    }
}
