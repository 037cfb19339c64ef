//! The random numbers: xoshiro256++ 1.0 (Blackman and Vigna, <https://prng.di.unimi.it/xoshiro256plusplus.c>),
//! its state filled by SplitMix64 from a 64-bit seed, as its authors advise.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A small seedable generator. Not for cryptography.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The generator of `seed`; the same numbers on every machine.
    pub fn new(seed: u64) -> Self {
        let mut counter = seed;
        Self { state: std::array::from_fn(|_| split_mix(&mut counter)) }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in [0, 1): 53 random bits, so that every value is a multiple of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

/// A seed that differs from run to run, from the randomness the standard library gives its hash maps.
pub(super) fn random_seed() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

/// One step of SplitMix64 (Steele, Lea and Flood; <https://prng.di.unimi.it/splitmix64.c>).
fn split_mix(counter: &mut u64) -> u64 {
    *counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *counter;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outputs of the reference C code for the seed 1234567.
    #[test]
    fn split_mix_matches_the_reference() {
        let mut counter = 1234567;
        let got: Vec<u64> = (0..3).map(|_| split_mix(&mut counter)).collect();
        assert_eq!(got, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    /// The outputs of the reference C code for the state 1, 2, 3, 4.
    #[test]
    fn xoshiro_matches_the_reference() {
        let mut rng = Rng { state: [1, 2, 3, 4] };
        let got: Vec<u64> = (0..4).map(|_| rng.next_u64()).collect();
        assert_eq!(got, [41943041, 58720359, 3588806011781223, 3591011842654386]);
    }

    #[test]
    fn unit_fills_the_half_open_interval() {
        let mut rng = Rng::new(7);
        let draws: Vec<f64> = (0..20_000).map(|_| rng.unit()).collect();
        assert!(draws.iter().all(|x| (0.0..1.0).contains(x)));
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        // Six standard deviations of a mean of 20,000 uniform draws: 6·√(1/12/20000) = 0.0122.
        assert!((mean - 0.5).abs() < 0.0122, "mean {mean}");
        assert!(draws.iter().any(|&x| x < 0.001) && draws.iter().any(|&x| x > 0.999));
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(Rng::new(1).next_u64(), Rng::new(2).next_u64());
        assert_eq!(Rng::new(3), Rng::new(3));
    }
}
