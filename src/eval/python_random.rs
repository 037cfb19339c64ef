//! Python's `random.Random`, as far as drawing examples needs it: the Mersenne Twister MT19937, seeded with an integer, and CPython's
//! `sample`. The same seed draws the same places as in Python 3.9 and later.

use super::mersenne_twister::MersenneTwister;

/// `random.Random(seed)`.
pub struct PythonRandom(MersenneTwister);

impl PythonRandom {
    /// `random.Random(seed)`. Python seeds the generator with the integer's 32-bit words, the lowest first.
    pub fn new(seed: u64) -> PythonRandom {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key: &[u32] = if high == 0 { &[low] } else { &[low, high] };
        PythonRandom(MersenneTwister::from_key(key))
    }

    /// A number below `n`, which is not 0.
    fn below(&mut self, n: u32) -> u32 {
        let n_bits = u32::BITS - n.leading_zeros();
        loop {
            let drawn = self.0.next_u32() >> (u32::BITS - n_bits);
            if drawn < n {
                return drawn;
            }
        }
    }

    /// `sample(range(n), k)`: `k` different places of `n`, in the order in which they are drawn.
    ///
    /// # Panics
    /// If `k` is larger than `n`, or `n` takes more than 32 bits.
    pub fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        assert!(k <= n, "{k} of {n}");
        let n = u32::try_from(n).expect("a list of fewer than 2^32");
        // CPython keeps a list of what is left where that takes less memory than a set of what was drawn.
        let mut set_size = 21;
        if k > 5 {
            let mut table = 1;
            while table < 3 * k {
                table *= 4;
            }
            set_size += table;
        }
        if n as usize <= set_size {
            let mut left: Vec<u32> = (0..n).collect();
            (0..k as u32)
                .map(|i| {
                    let j = self.below(n - i) as usize;
                    let last = left[(n - i - 1) as usize];
                    std::mem::replace(&mut left[j], last) as usize
                })
                .collect()
        } else {
            let mut drawn = Vec::with_capacity(k);
            while drawn.len() < k {
                let place = self.below(n) as usize;
                if !drawn.contains(&place) {
                    drawn.push(place);
                }
            }
            drawn
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// python3: `r = random.Random(SEED); r.sample(range(N), K)`
    #[test]
    fn samples_are_those_of_python() {
        let mut random = PythonRandom::new(1_234);
        assert_eq!(random.sample(9, 3), [7, 1, 0]);
        assert_eq!(random.sample(100, 6), [11, 74, 4, 85, 88, 10]);
        assert_eq!(random.sample(21, 5), [3, 11, 7, 0, 17]);
        assert_eq!(random.sample(22, 5), [0, 11, 20, 19, 15]);
        assert_eq!(random.sample(138384, 5), [121516, 38942, 23930, 47996, 29992]);
        assert_eq!(random.sample(277, 6), [7, 257, 249, 127, 33, 238]);
        assert_eq!(random.sample(278, 6), [35, 45, 263, 23, 138, 32]);
        assert_eq!(
            random.sample(39905, 11),
            [19819, 31525, 23280, 17462, 16328, 13109, 29713, 34744, 1264, 33298, 4626]
        );
        assert_eq!(random.sample(5, 5), [0, 2, 4, 1, 3]);
        assert_eq!(random.sample(64, 1), [21]);
        assert_eq!(random.sample(1, 1), [0]);
        assert!(random.sample(10, 0).is_empty());
        (0..400).for_each(|_| drop(random.sample(1000, 6)));
        assert_eq!(random.sample(1000, 6), [447, 331, 30, 552, 214, 789]);
        let mut random = PythonRandom::new(0);
        assert_eq!(random.sample(9, 3), [6, 8, 0]);
        assert_eq!(random.sample(100, 6), [33, 65, 62, 51, 38, 61]);
        assert_eq!(random.sample(21, 5), [11, 18, 6, 16, 4]);
        assert_eq!(random.sample(22, 5), [9, 4, 3, 19, 8]);
        assert_eq!(random.sample(138384, 5), [38525, 81303, 25890, 19331, 86559]);
        assert_eq!(random.sample(277, 6), [241, 51, 181, 222, 161, 104]);
        assert_eq!(random.sample(278, 6), [244, 226, 266, 133, 31, 7]);
        assert_eq!(
            random.sample(39905, 11),
            [6112, 26137, 74, 32347, 21832, 15984, 21312, 4127, 12521, 37192, 14529]
        );
        assert_eq!(random.sample(5, 5), [1, 4, 2, 3, 0]);
        assert_eq!(random.sample(64, 1), [10]);
        assert_eq!(random.sample(1, 1), [0]);
        assert!(random.sample(10, 0).is_empty());
        (0..400).for_each(|_| drop(random.sample(1000, 6)));
        assert_eq!(random.sample(1000, 6), [245, 660, 492, 406, 942, 595]);
        let mut random = PythonRandom::new(1_099_511_627_783);
        assert_eq!(random.sample(9, 3), [7, 4, 8]);
        assert_eq!(random.sample(100, 6), [16, 66, 48, 92, 46, 50]);
        assert_eq!(random.sample(21, 5), [14, 20, 11, 7, 19]);
        assert_eq!(random.sample(22, 5), [19, 5, 4, 16, 18]);
        assert_eq!(random.sample(138384, 5), [42705, 8249, 66249, 19862, 96374]);
        assert_eq!(random.sample(277, 6), [68, 66, 15, 77, 26, 178]);
        assert_eq!(random.sample(278, 6), [149, 244, 14, 195, 179, 133]);
        assert_eq!(
            random.sample(39905, 11),
            [31149, 22559, 16039, 37018, 37593, 32544, 12569, 13888, 10306, 30993, 3321]
        );
        assert_eq!(random.sample(5, 5), [1, 3, 4, 0, 2]);
        assert_eq!(random.sample(64, 1), [44]);
        assert_eq!(random.sample(1, 1), [0]);
        assert!(random.sample(10, 0).is_empty());
        (0..400).for_each(|_| drop(random.sample(1000, 6)));
        assert_eq!(random.sample(1000, 6), [401, 424, 28, 229, 559, 389]);
    }
}
