//! The tokenizer itself: a vocabulary made ready for use, and what it says about its tokens.

use super::bpe::Bpe;
use super::byte_level::ByteLevel;
use super::corrections;
use super::error::{TokenizerError, keys};
use super::names::{self, Named};
use super::sentence_piece::SentencePiece;
use super::special::{self, SpecialTokens};
use super::split::{self, SplitRule};
use super::token_type::TokenType;
use super::vocabulary::{Algorithm, Vocabulary};
use crate::gguf::Metadata;
use std::sync::Arc;

/// A vocabulary, ready to use. Cheap to clone: clones share everything.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub bpe: Bpe,
    types: Vec<TokenType>,
    /// Control, unknown and user-defined tokens.
    pub special: SpecialTokens,
    /// User-defined tokens of SentencePiece that no space goes behind, in order.
    pub inline: Vec<u32>,
    /// Tokens at which generation stops, in order.
    ends: Vec<u32>,
    pub ids: Ids,
    pub add_bos: bool,
    add_eos: bool,
    pub add_space_prefix: bool,
    pub remove_extra_whitespaces: bool,
    warnings: Vec<String>,
}

/// The tokens with a role.
#[derive(Debug)]
pub(super) struct Ids {
    pub bos: Option<u32>,
    eos: Option<u32>,
    unk: Option<u32>,
    eot: Option<u32>,
    eom: Option<u32>,
    infill_prefix: Option<u32>,
    infill_suffix: Option<u32>,
    infill_middle: Option<u32>,
}

impl Tokenizer {
    /// Builds the tokenizer that a file describes.
    ///
    /// # Errors
    ///
    /// As for [`Vocabulary::from_metadata`] and [`Tokenizer::new`]; the message names the file.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let vocabulary = Vocabulary::from_metadata(metadata)?;
        let mut warnings = Vec::new();
        if matches!(&vocabulary.algorithm, Algorithm::ByteLevel { pre } if pre == "default")
            && metadata.get(keys::PRE).is_none()
        {
            warnings.push(format!(
                "'{}' is missing: text is split into words by the rule \"default\", which may not be the one that the \
                 model was trained with",
                keys::PRE
            ));
        }
        Self::build(vocabulary, warnings).map_err(|error| match error {
            TokenizerError::Key { key, found, expected } => metadata.error(key, found, expected).into(),
            error => error,
        })
    }

    /// Builds the tokenizer of a vocabulary.
    ///
    /// # Errors
    ///
    /// If the vocabulary is empty, contradicts itself, or asks for a splitting rule that we do not know.
    pub fn new(vocabulary: Vocabulary) -> Result<Self, TokenizerError> {
        Self::build(vocabulary, Vec::new())
    }

    fn build(mut vocabulary: Vocabulary, mut warnings: Vec<String>) -> Result<Self, TokenizerError> {
        let roles = vocabulary.validate()?;
        let named = Named::find(&vocabulary.tokens);
        let types = corrections::types(&vocabulary, &roles, &named, &mut warnings)?;
        let ids = Ids {
            bos: vocabulary.bos,
            eos: vocabulary.eos,
            unk: vocabulary.unk,
            eot: vocabulary.eot.or_else(|| named.first(names::END_OF_TURN)),
            eom: vocabulary.eom.or_else(|| named.first(names::END_OF_MESSAGE)),
            infill_prefix: vocabulary.infill_prefix.or_else(|| named.first(names::INFILL_PREFIX)),
            infill_suffix: vocabulary.infill_suffix.or_else(|| named.first(names::INFILL_SUFFIX)),
            infill_middle: vocabulary.infill_middle.or_else(|| named.first(names::INFILL_MIDDLE)),
        };
        let mut ends: Vec<u32> = named.all(names::END).collect();
        ends.extend([ids.eos, ids.eot, ids.eom].into_iter().flatten());
        ends.extend_from_slice(&vocabulary.more_ends);
        ends.sort_unstable();
        ends.dedup();

        let sentence_piece = vocabulary.algorithm == Algorithm::SentencePiece;
        let bpe = match &vocabulary.algorithm {
            Algorithm::SentencePiece => {
                Bpe::SentencePiece(SentencePiece::new(&vocabulary, &types, &mut warnings)?)
            }
            Algorithm::ByteLevel { pre } => {
                if pre == split::PIXTRAL {
                    warnings.push(format!(
                        "'{}' is \"{pre}\": text is split into words as Mistral's tekken does, where llama.cpp uses the \
                         expression of Llama 3 (--override-kv {}=str:llama-bpe does the same)",
                        keys::PRE,
                        keys::PRE
                    ));
                }
                Bpe::ByteLevel(ByteLevel::new(&vocabulary, &types, SplitRule::require(pre)?)?)
            }
        };
        let is_special =
            |kind| matches!(kind, TokenType::Control | TokenType::Unknown | TokenType::UserDefined);
        let special = (0..).zip(&types).filter(|(_, kind)| is_special(**kind)).map(|(id, _)| id);
        let texts = bpe.lexicon();
        let is_inline = |id: &u32| {
            sentence_piece
                && types[*id as usize] == TokenType::UserDefined
                && names::is_inline(texts.string(*id))
        };
        let inline = special.clone().filter(is_inline).collect();
        let n_long = special.clone().filter(|&id| texts.string(id).len() > special::MAX_BYTES).count();
        if n_long > 0 {
            warnings.push(format!(
                "{n_long} control or added tokens have more than {} bytes: they are not looked for in text",
                special::MAX_BYTES
            ));
        }
        let inner = Inner {
            special: SpecialTokens::new(special, texts),
            bpe,
            types,
            inline,
            ends,
            ids,
            add_bos: vocabulary.add_bos,
            add_eos: vocabulary.add_eos,
            add_space_prefix: vocabulary.add_space_prefix && sentence_piece,
            remove_extra_whitespaces: vocabulary.remove_extra_whitespaces && sentence_piece,
            warnings,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Mistakes in the file that were corrected, one line each, for the user to see.
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    /// Heap memory that this tokenizer and its clones share, in bytes. (The strings of the file itself stay in the
    /// file.)
    pub fn heap_bytes(&self) -> usize {
        let Inner { bpe, types, special, .. } = &*self.inner;
        size_of::<Inner>() + bpe.heap_bytes() + types.capacity() + special.heap_bytes()
    }

    /// The number of tokens.
    pub fn n_vocab(&self) -> usize {
        self.inner.types.len()
    }

    /// The bytes that a token stands for: text, possibly part of a character. A control token is spelled out. Empty for
    /// an id outside the vocabulary.
    pub fn piece(&self, id: u32) -> &[u8] {
        self.inner.bpe.lexicon().string(id)
    }

    /// The token with this text: a control or user-defined token, or a token that text can become. In SentencePiece
    /// vocabularies, U+2581 may be written for a space.
    pub fn id(&self, text: &str) -> Option<u32> {
        let Inner { special, bpe, .. } = &*self.inner;
        special.id(text.as_bytes(), bpe.lexicon()).or_else(|| bpe.id(text.as_bytes()))
    }

    /// Beginning of text.
    pub fn bos(&self) -> Option<u32> {
        self.inner.ids.bos
    }

    /// End of text.
    pub fn eos(&self) -> Option<u32> {
        self.inner.ids.eos
    }

    /// The token for text that the vocabulary cannot represent.
    pub fn unk(&self) -> Option<u32> {
        self.inner.ids.unk
    }

    /// End of a turn, as the file says or by name (`<|eot_id|>`, `<|im_end|>`).
    pub fn eot(&self) -> Option<u32> {
        self.inner.ids.eot
    }

    /// End of a message that calls a tool.
    pub fn eom(&self) -> Option<u32> {
        self.inner.ids.eom
    }

    /// Fill in the middle: goes before the text before the gap (`[PREFIX]`).
    pub fn infill_prefix(&self) -> Option<u32> {
        self.inner.ids.infill_prefix
    }

    /// Fill in the middle: goes before the text after the gap (`[SUFFIX]`).
    pub fn infill_suffix(&self) -> Option<u32> {
        self.inner.ids.infill_suffix
    }

    /// Fill in the middle: goes before the answer (`[MIDDLE]`).
    pub fn infill_middle(&self) -> Option<u32> {
        self.inner.ids.infill_middle
    }

    /// Whether text starts with BOS.
    pub fn adds_bos(&self) -> bool {
        self.inner.add_bos
    }

    /// Whether the model was trained on texts that end with EOS. [`encode`](Self::encode) does not add it: what is
    /// generated would begin a new text.
    pub fn adds_eos(&self) -> bool {
        self.inner.add_eos
    }

    /// Whether generation stops at this token: end of text, of a turn, of a message.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.inner.ends.binary_search(&id).is_ok()
    }

    /// Whether this is a control token: structure, not text.
    pub fn is_control(&self, id: u32) -> bool {
        self.token_type(id) == Some(TokenType::Control)
    }

    /// The kind of a token; `None` outside the vocabulary.
    pub fn token_type(&self, id: u32) -> Option<TokenType> {
        self.inner.types.get(id as usize).copied()
    }

    /// Whether decoding leaves this token out.
    pub(super) fn is_special(&self, id: u32) -> bool {
        matches!(self.token_type(id), Some(TokenType::Control | TokenType::Unknown))
    }

    /// Whether this is a byte piece, `<0x0A>`.
    pub(super) fn is_byte(&self, id: u32) -> bool {
        self.token_type(id) == Some(TokenType::Byte)
    }

    /// Whether this is user-defined and nothing but white space.
    pub(super) fn is_white_space(&self, id: u32) -> bool {
        self.token_type(id) == Some(TokenType::UserDefined)
            && std::str::from_utf8(self.piece(id)).is_ok_and(|text| text.trim().is_empty())
    }

    /// Whether decoded text starts with a space that was not in the original.
    pub fn strips_space(&self) -> bool {
        self.inner.add_space_prefix
    }
}
