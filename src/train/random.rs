//! Random numbers that follow from a seed and what they are for, so that a run that goes on needs no state of a generator.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng};
use twox_hash::XxHash3_64;

/// The generator for one purpose.
pub(super) fn keyed(seed: u64, purpose: &str) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(key(seed, purpose))
}

/// A number for one purpose.
pub(super) fn key(seed: u64, purpose: &str) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, purpose.as_bytes())
}

/// A number below `n`, each as likely to within n/2⁶⁴ (Lemire, <https://arxiv.org/abs/1805.10941>).
pub(super) fn uniform_below(rng: &mut Xoshiro256PlusPlus, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// The first A of an adapter of `rank` for a matrix of `k` columns, `[rank, k]`: uniform in ±1/√k, as PEFT initialises it (`kaiming_uniform_` with
/// a = √5). B begins as zeros, so that the adapter changes nothing.
pub fn initial_a(seed: u64, matrix: &str, rank: usize, k: usize) -> Vec<f32> {
    let bound = 1.0 / (k as f64).sqrt();
    let mut rng = keyed(seed, matrix);
    let unit = |bits: u64| (bits >> 11) as f64 / (1u64 << 53) as f64;
    (0..rank * k).map(|_| ((2.0 * unit(rng.next_u64()) - 1.0) * bound) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_weights_are_uniform_below_the_bound_of_peft() {
        let a = initial_a(1, "blk.0.attn_q", 16, 256);
        assert!(a.iter().all(|x| x.abs() <= 1.0 / 16.0));
        let n = a.len() as f64;
        let mean = a.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let variance = a.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n;
        // A uniform distribution in ±b has the variance b²/3; five standard deviations of both.
        let expected = (1.0 / 16.0f64).powi(2) / 3.0;
        assert!(mean.abs() < 5.0 * (expected / n).sqrt(), "{mean}");
        assert!((variance / expected - 1.0).abs() < 5.0 * (0.8 / n).sqrt(), "{variance}");
        assert_eq!(a, initial_a(1, "blk.0.attn_q", 16, 256));
        assert_ne!(a, initial_a(2, "blk.0.attn_q", 16, 256));
        assert_ne!(a, initial_a(1, "blk.0.attn_k", 16, 256));
    }
}
