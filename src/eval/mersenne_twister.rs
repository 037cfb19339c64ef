//! The Mersenne Twister MT19937, which Python and C++ draw examples with.
//!
//! Makoto Matsumoto and Takuji Nishimura, "Mersenne Twister: a 623-dimensionally equidistributed uniform pseudo-random number generator",
//! ACM TOMACS 8 (1998).

const N: usize = 624;
const M: usize = 397;

/// MT19937.
pub struct MersenneTwister {
    state: [u32; N],
    /// The next word of `state` that is given out.
    at: usize,
}

impl MersenneTwister {
    /// Seeded with a number, as `std::mt19937(seed)`.
    pub fn new(seed: u32) -> MersenneTwister {
        let mut state = [0; N];
        state[0] = seed;
        for i in 1..N {
            state[i] = mixed(state[i - 1]).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        MersenneTwister { state, at: N }
    }

    /// Seeded with several words: the authors' `init_by_array`.
    pub fn from_key(key: &[u32]) -> MersenneTwister {
        let MersenneTwister { mut state, .. } = MersenneTwister::new(19_650_218);
        let mut i = 1;
        let next = |i: usize, state: &mut [u32; N]| {
            if i + 1 < N {
                return i + 1;
            }
            state[0] = state[N - 1];
            1
        };
        for k in 0..N.max(key.len()) {
            let j = k % key.len();
            let word = state[i] ^ mixed(state[i - 1]).wrapping_mul(1_664_525);
            state[i] = word.wrapping_add(key[j]).wrapping_add(j as u32);
            i = next(i, &mut state);
        }
        for _ in 1..N {
            let word = state[i] ^ mixed(state[i - 1]).wrapping_mul(1_566_083_941);
            state[i] = word.wrapping_sub(i as u32);
            i = next(i, &mut state);
        }
        state[0] = 0x8000_0000;
        MersenneTwister { state, at: N }
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.at == N {
            self.twist();
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        for k in 0..N {
            let y = (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[k] = self.state[(k + M) % N] ^ (y >> 1) ^ odd;
        }
        self.at = 0;
    }
}

fn mixed(word: u32) -> u32 {
    word ^ (word >> 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first words of the authors' `mt19937ar.out`, which `init_by_array({0x123, 0x234, 0x345, 0x456})` begins with.
    #[test]
    fn the_generator_is_that_of_its_authors() {
        let mut random = MersenneTwister::from_key(&[0x123, 0x234, 0x345, 0x456]);
        let first: Vec<u32> = (0..5).map(|_| random.next_u32()).collect();
        assert_eq!(first, [1_067_595_299, 955_945_823, 477_289_528, 4_107_218_783, 4_228_976_476]);
    }

    /// The C++ standard: the 10000th number of a default `std::mt19937`, whose seed is 5489.
    #[test]
    fn the_generator_is_that_of_cpp() {
        let mut random = MersenneTwister::new(5489);
        let last = (0..10_000).map(|_| random.next_u32()).last();
        assert_eq!(last, Some(4_123_659_995));
    }
}
