//! A set of tokens.

/// A set of tokens of one vocabulary, one bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u64>,
    n_vocab: usize,
}

impl TokenMask {
    /// The empty set, for a vocabulary of `n_vocab` tokens.
    pub fn new(n_vocab: usize) -> Self {
        Self { words: vec![0; n_vocab.div_ceil(64)], n_vocab }
    }

    /// Adds a token; one outside the vocabulary is not added.
    pub fn insert(&mut self, token: u32) {
        let token = token as usize;
        if token < self.n_vocab {
            self.words[token / 64] |= 1 << (token % 64);
        }
    }

    /// Removes a token.
    pub fn remove(&mut self, token: u32) {
        let token = token as usize;
        if token < self.n_vocab {
            self.words[token / 64] &= !(1 << (token % 64));
        }
    }

    /// Whether the token is in the set.
    pub fn contains(&self, token: u32) -> bool {
        let token = token as usize;
        token < self.n_vocab && self.words[token / 64] >> (token % 64) & 1 == 1
    }

    /// Whether no token is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Number of tokens in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Removes every token.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Adds every token.
    pub fn fill(&mut self) {
        self.words.fill(u64::MAX);
        self.trim();
    }

    /// Removes what is past the vocabulary, behind a change of whole [words](Self::words_mut).
    pub fn trim(&mut self) {
        let past = self.n_vocab % 64;
        if let Some(last) = self.words.last_mut().filter(|_| past > 0) {
            *last &= (1 << past) - 1;
        }
    }

    /// The words of the set: token `t` is bit `t % 64` of word `t / 64`.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The words, for a constraint that computes whole ones. Bits past the vocabulary have to stay 0: see [`Self::trim`].
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_kept_apart() {
        for n_vocab in [1, 63, 64, 65, 1000] {
            let mut mask = TokenMask::new(n_vocab);
            assert!(mask.is_empty());
            let last = n_vocab as u32 - 1;
            for token in [0, last, last + 1, 70_000] {
                mask.insert(token);
            }
            let want: Vec<u32> = if n_vocab == 1 { vec![0] } else { vec![0, last] };
            assert_eq!((0..2000).filter(|token| mask.contains(*token)).collect::<Vec<_>>(), want);
            assert_eq!(mask.len(), want.len());
            mask.fill();
            assert_eq!(mask.len(), n_vocab);
            mask.remove(last);
            mask.remove(last + 1);
            assert!(!mask.contains(last));
            assert_eq!(mask.len(), n_vocab - 1);
            mask.clear();
            assert!(mask.is_empty());
        }
    }
}
