//! The random numbers: xoshiro256++ 1.0 (Blackman and Vigna, <https://prng.di.unimi.it/xoshiro256plusplus.c>),
//! its state filled by SplitMix64 from a 64-bit seed, as its authors advise.

use std::hash::{BuildHasher, Hasher, RandomState};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng};

/// A small seedable generator. Not for cryptography.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng {
    generator: Xoshiro256PlusPlus,
    n_drawn: u64,
}

impl Rng {
    /// A generator seeded with `seed`. It gives the same numbers on every machine.
    pub fn new(seed: u64) -> Self {
        Self { generator: Xoshiro256PlusPlus::seed_from_u64(seed), n_drawn: 0 }
    }

    /// Numbers drawn so far.
    pub fn n_drawn(&self) -> u64 {
        self.n_drawn
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.n_drawn += 1;
        self.generator.next_u64()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Python, after the C code of SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>) and xoshiro256++: the first four outputs of the
    /// one for the seed 1234567 (6457827717110365317 is the first) are the state of the other.
    #[test]
    fn a_seed_gives_the_numbers_of_the_reference() {
        let mut rng = Rng::new(1234567);
        let got: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(got, [437095814655224680, 8127161015984454572, 18128670339019551454]);
    }

    /// The outputs of the reference C code for the state 1, 2, 3, 4.
    #[test]
    fn a_state_gives_the_numbers_of_the_reference() {
        let state: Vec<u8> = [1u64, 2, 3, 4].iter().flat_map(|word| word.to_le_bytes()).collect();
        let generator = Xoshiro256PlusPlus::from_seed(state.try_into().unwrap());
        let mut rng = Rng { generator, n_drawn: 0 };
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
