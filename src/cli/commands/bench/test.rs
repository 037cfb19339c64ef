//! One test of `bise bench`.

/// Prefill of `n_prompt` tokens and decode of `n_gen`, with `n_depth` tokens already in the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    pub n_prompt: usize,
    pub n_gen: usize,
    pub n_depth: usize,
}

impl Test {
    /// Tokens in the context at its end.
    pub fn n_ctx(&self) -> usize {
        self.n_prompt + self.n_gen + self.n_depth
    }

    /// `pp512`, `tg128 @ d4096`, with `x4` for four sequences decoded together.
    pub fn name(&self, n_parallel: usize) -> String {
        let mut name = match (self.n_prompt, self.n_gen) {
            (pp, 0) => format!("pp{pp}"),
            (0, tg) => format!("tg{tg}"),
            (pp, tg) => format!("pp{pp}+tg{tg}"),
        };
        if n_parallel > 1 {
            name += &format!(" x{n_parallel}");
        }
        if self.n_depth > 0 {
            name += &format!(" @ d{}", self.n_depth);
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_have_llama_benchs_names() {
        let name = |n_prompt, n_gen, n_depth, n_parallel| Test { n_prompt, n_gen, n_depth }.name(n_parallel);
        assert_eq!(name(512, 0, 0, 1), "pp512");
        assert_eq!(name(0, 128, 4096, 1), "tg128 @ d4096");
        assert_eq!(name(16, 8, 0, 4), "pp16+tg8 x4");
    }
}
