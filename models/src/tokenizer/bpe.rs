//! One interface to the two algorithms.

use super::byte_level::ByteLevel;
use super::lexicon::Lexicon;
use super::sentence_piece::SentencePiece;

/// Texts above this are tokenized in parts, because places in a text are 32 bits wide.
const MAX_TEXT: usize = 1 << 30;

/// A vocabulary that turns text without control tokens into tokens.
#[derive(Debug)]
pub(super) enum Bpe {
    SentencePiece(SentencePiece),
    ByteLevel(ByteLevel),
}

impl Bpe {
    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, mut text: &str, tokens: &mut Vec<u32>) {
        while !text.is_empty() {
            let (part, rest) = text.split_at(text.floor_char_boundary(MAX_TEXT));
            match self {
                Self::SentencePiece(model) => model.encode(part, tokens),
                Self::ByteLevel(model) => model.encode(part, tokens),
            }
            text = rest;
        }
    }

    /// The one token that `text` is, among those that text can become.
    pub(super) fn id(&self, text: &[u8]) -> Option<u32> {
        match self {
            Self::SentencePiece(model) => model.id(text),
            Self::ByteLevel(model) => model.lexicon().get(text),
        }
    }

    /// Heap memory in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::SentencePiece(model) => model.heap_bytes(),
            Self::ByteLevel(model) => model.heap_bytes(),
        }
    }

    /// The bytes that each token stands for.
    pub(super) fn lexicon(&self) -> &Lexicon {
        match self {
            Self::SentencePiece(model) => model.lexicon(),
            Self::ByteLevel(model) => model.lexicon(),
        }
    }
}
