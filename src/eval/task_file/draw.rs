//! How llama-perplexity draws questions: with `std::mt19937(1)`.

use super::super::mersenne_twister::MersenneTwister;

/// All of `items` in a random order, or the first `n` of that, one after the other with libstdc++'s `std::uniform_int_distribution`.
pub fn shuffled<T>(mut items: Vec<T>, n: usize) -> Vec<T> {
    let mut random = MersenneTwister::new(1);
    let n = n.min(items.len());
    (0..n).map(|_| items.remove(uniform(&mut random, items.len() as u32) as usize)).collect()
}

/// A number below `n`: Daniel Lemire, "Fast Random Integer Generation in an Interval", ACM TOMACS 29 (2019).
fn uniform(random: &mut MersenneTwister, n: u32) -> u32 {
    let mut product = u64::from(random.next_u32()) * u64::from(n);
    if (product as u32) < n {
        let threshold = n.wrapping_neg() % n;
        while (product as u32) < threshold {
            product = u64::from(random.next_u32()) * u64::from(n);
        }
    }
    (product >> 32) as u32
}

/// The places of `n` of `total`, drawn with a factor in single precision; all in order where `n` is 0 or not smaller.
pub fn drawn(total: usize, n: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..total).collect();
    if n == 0 || n >= total {
        return left;
    }
    let mut random = MersenneTwister::new(1);
    let scale = 1.0 / (1.0 + u32::MAX as f32);
    (0..n)
        .map(|_| {
            let at = (scale * random.next_u32() as f32 * left.len() as f32) as usize;
            // The factor may be rounded up to 1.
            left.swap_remove(at.min(left.len() - 1))
        })
        .collect()
}
