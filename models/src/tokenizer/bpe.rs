//! The two algorithms as a model of the `tokenizers` crate, which splits and normalizes text around them.
//!
//! The crate's own BPE ranks pairs of tokens. SentencePiece ranks what they become, and several pieces may share a
//! score (Mistral's runs of spaces all have −10⁹), so pair ranks cannot express it.

use super::byte_level::ByteLevel;
use super::sentence_piece::SentencePiece;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::{Model, Token};

/// A vocabulary that turns one normalized word into tokens.
#[derive(Debug, Clone)]
pub(super) enum Bpe {
    SentencePiece(SentencePiece),
    ByteLevel(ByteLevel),
}

impl Model for Bpe {
    type Trainer = BpeTrainer;

    fn tokenize(&self, word: &str) -> tokenizers::Result<Vec<Token>> {
        let tokens = match self {
            Self::SentencePiece(model) => model.tokenize(word),
            Self::ByteLevel(model) => model.tokenize(word.as_bytes()),
        };
        let token = |(id, range): (u32, std::ops::Range<usize>)| {
            let value = String::from_utf8_lossy(&word.as_bytes()[range.clone()]).into_owned();
            Token::new(id, value, (range.start, range.end))
        };
        Ok(tokens.into_iter().map(token).collect())
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        match self {
            Self::SentencePiece(model) => model.id(token.as_bytes()),
            Self::ByteLevel(model) => model.id(token.as_bytes()),
        }
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        ((id as usize) < self.get_vocab_size())
            .then(|| String::from_utf8_lossy(self.lexicon().string(id)).into_owned())
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        (0..self.get_vocab_size() as u32).filter_map(|id| Some((self.id_to_token(id)?, id))).collect()
    }

    fn get_vocab_size(&self) -> usize {
        self.lexicon().len()
    }

    fn save(&self, _: &Path, _: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("a vocabulary read from a GGUF file is saved by writing a GGUF file".into())
    }

    fn get_trainer(&self) -> BpeTrainer {
        BpeTrainer::default()
    }
}

impl Bpe {
    /// The bytes that a token stands for; empty outside of the vocabulary.
    pub(super) fn piece(&self, id: u32) -> &[u8] {
        match self {
            Self::SentencePiece(model) => model.surface(id),
            Self::ByteLevel(model) => model.lexicon().string(id),
        }
    }

    fn lexicon(&self) -> &super::lexicon::Lexicon {
        match self {
            Self::SentencePiece(model) => model.lexicon(),
            Self::ByteLevel(model) => model.lexicon(),
        }
    }
}
