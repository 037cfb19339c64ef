//! Text to tokens and back, by the vocabulary that a GGUF file carries.
//!
//! Two families exist. **SentencePiece** BPE (`tokenizer.ggml.model` = `llama`; Mistral v1 to v7) merges characters
//! whose concatenation has the best score, and spells what it does not know in bytes. **Byte-level** BPE (`gpt2`;
//! tekken, Llama 3, SmolLM) splits text into words by an expression and merges bytes by a list. Both run inside the
//! [`tokenizers`] crate, as a model of our own: see `bpe.rs` for why. Ids equal those of `sentencepiece` and
//! `mistral_common` (`tests/golden_tokens`).
//!
//! Around them stands what belongs to a file and not to an algorithm: control tokens, which are found in text only
//! where the caller allows it, beginning and end of text, and the space that SentencePiece puts before text. That space
//! goes in at the start and after every control token, as in llama.cpp. User-defined tokens are part of the text around
//! them, as in SentencePiece (llama.cpp puts a space after those too).

mod bpe;
mod byte_level;
mod decode;
mod error;
mod infill;
mod lexicon;
mod merge;
mod names;
mod sentence_piece;
mod special;
mod split;
mod vocabulary;

pub use decode::StreamDecoder;
pub use error::TokenizerError;
pub use vocabulary::{Algorithm, TokenType, Vocabulary};

use crate::gguf::Metadata;
use bpe::Bpe;
use byte_level::ByteLevel;
use names::Named;
use sentence_piece::SentencePiece;
use special::Matcher;
use split::SplitRule;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use tokenizers::normalizers::replace::Replace;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{DecoderWrapper, Model as _, PostProcessorWrapper, TokenizerImpl};

/// A vocabulary, ready to use. Cheap to clone: clones share everything.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pipeline: TokenizerImpl<Bpe, Replace, Sequence, PostProcessorWrapper, DecoderWrapper>,
    types: Vec<TokenType>,
    /// Tokens at which generation stops.
    ends: Vec<bool>,
    /// Control tokens, and for byte-level vocabularies user-defined ones. (SentencePiece finds its own.)
    special: Option<Matcher>,
    /// The same tokens by their text.
    special_ids: HashMap<Vec<u8>, u32>,
    ids: Ids,
    add_bos: bool,
    add_eos: bool,
    add_space_prefix: bool,
    remove_extra_whitespaces: bool,
}

/// The tokens with a role.
#[derive(Debug)]
struct Ids {
    bos: Option<u32>,
    eos: Option<u32>,
    unk: Option<u32>,
    eot: Option<u32>,
    eom: Option<u32>,
    infill_prefix: Option<u32>,
    infill_suffix: Option<u32>,
    infill_middle: Option<u32>,
}

/// How to treat the control tokens of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Begin with BOS and end with EOS where the file says so. A BOS that the text itself starts with (and that is
    /// parsed) is not doubled.
    pub add_special: bool,
    /// Text like `[INST]` becomes the control token; otherwise it is text like any other. User-defined tokens are
    /// found in both cases.
    pub parse_special: bool,
}

/// A part of a prompt, by who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment<'a> {
    /// Written by the template: control tokens are parsed.
    Template(&'a str),
    /// Written by somebody else: never becomes a control token, whatever it holds.
    Content(&'a str),
}

impl Tokenizer {
    /// Builds the tokenizer that a file describes.
    ///
    /// # Errors
    ///
    /// As for [`Vocabulary::from_metadata`] and [`Tokenizer::new`]; the message names the file.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TokenizerError> {
        Self::new(Vocabulary::from_metadata(metadata)?).map_err(|error| match error {
            TokenizerError::Key { key, found, expected } => metadata.error(key, found, expected).into(),
            error => error,
        })
    }

    /// Builds the tokenizer of a vocabulary.
    ///
    /// # Errors
    ///
    /// If the vocabulary is empty, contradicts itself, or asks for a splitting rule that we do not know.
    pub fn new(mut vocabulary: Vocabulary) -> Result<Self, TokenizerError> {
        let mut types = vocabulary.validate()?;
        let named = Named::find(&vocabulary.tokens);
        for id in named.ids() {
            let kind = &mut types[id as usize];
            // Files often call these user-defined, but text must not be able to end a turn.
            if vocabulary.types.is_empty() || matches!(kind, TokenType::UserDefined | TokenType::Undefined) {
                *kind = TokenType::Control;
            }
        }
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
        let mut ends = vec![false; types.len()];
        let roles = [ids.eos, ids.eot, ids.eom].into_iter().flatten();
        named.all(names::END).chain(roles).for_each(|id| ends[id as usize] = true);

        let sentence_piece = vocabulary.algorithm == Algorithm::SentencePiece;
        let is_special = |kind| match kind {
            TokenType::Control | TokenType::Unknown => true,
            TokenType::UserDefined => !sentence_piece,
            _ => false,
        };
        let special: Vec<(u32, Vec<u8>)> = (0..)
            .zip(vocabulary.tokens.iter().zip(&types))
            .filter(|(_, (_, kind))| is_special(**kind))
            .map(|(id, (token, _))| (id, token.to_vec()))
            .collect();

        let pipeline = match &vocabulary.algorithm {
            Algorithm::SentencePiece => {
                let mut pipeline =
                    TokenizerImpl::new(Bpe::SentencePiece(SentencePiece::new(&vocabulary, &types)?));
                let spaces = Replace::new(" ", sentence_piece::SPACE).expect("a space is a valid pattern");
                pipeline.with_normalizer(Some(spaces)).expect("there are no added tokens to normalize again");
                pipeline
            }
            Algorithm::ByteLevel { pre } => {
                let rule = SplitRule::require(pre)?;
                let mut pipeline =
                    TokenizerImpl::new(Bpe::ByteLevel(ByteLevel::new(&vocabulary, &types, rule)?));
                pipeline.with_pre_tokenizer(Some(rule.pre_tokenizer()));
                pipeline
            }
        };
        let inner = Inner {
            pipeline,
            types,
            ends,
            special_ids: special.iter().map(|(id, text)| (text.clone(), *id)).collect(),
            special: Matcher::new(special)?,
            ids,
            add_bos: vocabulary.add_bos,
            add_eos: vocabulary.add_eos,
            add_space_prefix: vocabulary.add_space_prefix && sentence_piece,
            remove_extra_whitespaces: vocabulary.remove_extra_whitespaces && sentence_piece,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The tokens of `text`.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Vec<u32> {
        let whole = 0..text.len();
        let opaque = if options.parse_special { &[] } else { std::slice::from_ref(&whole) };
        self.encode_around(text, opaque, options.add_special)
    }

    /// The tokens of a prompt made of parts: one continuous text, in which no control token begins, ends or lies in a
    /// [`Segment::Content`]. With `add_special`, BOS and EOS as in [`EncodeOptions::add_special`].
    pub fn encode_segments(&self, segments: &[Segment<'_>], add_special: bool) -> Vec<u32> {
        let mut text = String::new();
        let mut opaque = Vec::new();
        for segment in segments {
            match segment {
                Segment::Template(part) => text.push_str(part),
                Segment::Content(part) => {
                    opaque.push(text.len()..text.len() + part.len());
                    text.push_str(part);
                }
            }
        }
        opaque.retain(|range| !range.is_empty());
        self.encode_around(&text, &opaque, add_special)
    }

    /// Encodes a text in which no control token touches the `opaque` ranges (in order, none empty or overlapping).
    fn encode_around(&self, text: &str, opaque: &[Range<usize>], add_special: bool) -> Vec<u32> {
        let Inner { types, special, ids, .. } = &*self.inner;
        let allowed = |id: u32, range: &Range<usize>| {
            types[id as usize] == TokenType::UserDefined || !special::overlaps(opaque, range)
        };
        let found = special.as_ref().map(|special| special.longest_first(text, allowed)).unwrap_or_default();

        let mut tokens = Vec::with_capacity(text.len() / 3 + 2);
        let starts_with_bos =
            found.first().is_some_and(|(range, id)| range.start == 0 && Some(*id) == ids.bos);
        if add_special && self.inner.add_bos && !starts_with_bos {
            tokens.extend(ids.bos);
        }
        let mut done = 0;
        for (range, id) in found {
            self.encode_text(&text[done..range.start], &mut tokens);
            tokens.push(id);
            done = range.end;
        }
        self.encode_text(&text[done..], &mut tokens);
        if add_special && self.inner.add_eos {
            tokens.extend(ids.eos);
        }
        tokens
    }

    /// Encodes text between control tokens, or between them and an end.
    fn encode_text(&self, text: &str, tokens: &mut Vec<u32>) {
        let mut text = Cow::Borrowed(text);
        if self.inner.remove_extra_whitespaces {
            let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
            text = Cow::Owned(words.join(" "));
        }
        if text.is_empty() {
            return;
        }
        if self.inner.add_space_prefix {
            text = Cow::Owned(format!(" {text}"));
        }
        let encoding = self.inner.pipeline.encode_fast(text, false);
        tokens.extend(encoding.expect("neither our model nor the steps around it can fail").get_ids());
    }

    /// The number of tokens.
    pub fn n_vocab(&self) -> usize {
        self.inner.types.len()
    }

    /// The bytes that a token stands for: text, possibly a part of a character. A control token is spelt out. Empty
    /// for an id outside of the vocabulary.
    pub fn piece(&self, id: u32) -> &[u8] {
        self.inner.pipeline.get_model().piece(id)
    }

    /// The token with this text: a control token, or the one token that these bytes are (in SentencePiece
    /// vocabularies with U+2581 for a space).
    pub fn id(&self, text: &str) -> Option<u32> {
        let special = self.inner.special_ids.get(text.as_bytes()).copied();
        special.or_else(|| self.inner.pipeline.get_model().token_to_id(text))
    }

    /// Beginning of text.
    pub fn bos(&self) -> Option<u32> {
        self.inner.ids.bos
    }

    /// End of text.
    pub fn eos(&self) -> Option<u32> {
        self.inner.ids.eos
    }

    /// What stands for the unsayable.
    pub fn unk(&self) -> Option<u32> {
        self.inner.ids.unk
    }

    /// End of a turn, as the file says or by name (`<|eot_id|>`, `<|im_end|>`).
    pub fn eot(&self) -> Option<u32> {
        self.inner.ids.eot
    }

    /// End of a message that awaits a tool.
    pub fn eom(&self) -> Option<u32> {
        self.inner.ids.eom
    }

    /// Fill in the middle: before what comes before the gap (`[PREFIX]`).
    pub fn infill_prefix(&self) -> Option<u32> {
        self.inner.ids.infill_prefix
    }

    /// Fill in the middle: before what comes after the gap (`[SUFFIX]`).
    pub fn infill_suffix(&self) -> Option<u32> {
        self.inner.ids.infill_suffix
    }

    /// Fill in the middle: before the answer (`[MIDDLE]`).
    pub fn infill_middle(&self) -> Option<u32> {
        self.inner.ids.infill_middle
    }

    /// Whether text starts with BOS.
    pub fn adds_bos(&self) -> bool {
        self.inner.add_bos
    }

    /// Whether text ends with EOS.
    pub fn adds_eos(&self) -> bool {
        self.inner.add_eos
    }

    /// Whether generation stops at this token: end of text, of a turn, of a message.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.inner.ends.get(id as usize).copied().unwrap_or(false)
    }

    /// Whether this is a control token: structure, not text.
    pub fn is_control(&self, id: u32) -> bool {
        self.token_type(id) == Some(TokenType::Control)
    }

    /// The kind of a token; `None` outside of the vocabulary.
    pub fn token_type(&self, id: u32) -> Option<TokenType> {
        self.inner.types.get(id as usize).copied()
    }

    /// Whether decoding leaves this token out.
    fn is_special(&self, id: u32) -> bool {
        matches!(self.token_type(id), Some(TokenType::Control | TokenType::Unknown))
    }

    /// Whether this stands for one byte that is not a piece of its own.
    fn is_byte(&self, id: u32) -> bool {
        self.token_type(id) == Some(TokenType::Byte)
    }

    /// Whether decoded text starts with a space that was not in the original.
    fn strips_space(&self) -> bool {
        self.inner.add_space_prefix
    }
}
