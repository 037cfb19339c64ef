//! The plain content of a GGUF vocabulary, before anything is built from it.

use super::error::{TokenizerError, keys, quoted};
use super::split::SplitRule;
use super::token_type::TokenType;

use crate::gguf::{GgufError, Metadata, StrArray, Value};
use std::borrow::Cow;

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Algorithm {
    /// `tokenizer.ggml.model` = `llama`: SentencePiece BPE, pieces with scores, unknown characters as bytes.
    SentencePiece,
    /// `tokenizer.ggml.model` = `gpt2`: BPE over bytes, with a list of merges.
    ByteLevel {
        /// The name of the rule that splits text into words (`tokenizer.ggml.pre`).
        pre: String,
    },
}

/// A vocabulary as a file describes it; [`Tokenizer::new`](super::Tokenizer::new) checks it.
///
/// A token's id is its position in `tokens`. Absent ids are `None`, absent arrays are empty.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    /// SentencePiece or byte-level.
    pub algorithm: Algorithm,
    /// The text of each token as the file spells it (`▁the`, `Ġthe`, `<0x0A>`, `[INST]`).
    pub tokens: StrArray,
    /// SentencePiece: the score of each token, higher merges first; when empty, lower ids merge first. Byte-level
    /// vocabularies do not use scores.
    pub scores: Vec<f32>,
    /// The GGUF number of each token's [`TokenType`]. When empty, types follow from the tokens' texts and from the ids
    /// below.
    pub types: Vec<i32>,
    /// Byte-level: pairs in order of priority, `Ġt he`. SentencePiece does not use merges.
    pub merges: StrArray,
    /// Beginning of text.
    pub bos: Option<u32>,
    /// End of text.
    pub eos: Option<u32>,
    /// Stands for text that the vocabulary cannot represent.
    pub unk: Option<u32>,
    /// End of a turn.
    pub eot: Option<u32>,
    /// End of a message that calls a tool.
    pub eom: Option<u32>,
    /// Fill in the middle: goes before the text before the gap.
    pub infill_prefix: Option<u32>,
    /// Fill in the middle: goes before the text after the gap.
    pub infill_suffix: Option<u32>,
    /// Fill in the middle: goes before the answer.
    pub infill_middle: Option<u32>,
    /// More tokens at which generation stops, beside `eos`, `eot` and `eom`.
    pub more_ends: Vec<u32>,
    /// Whether text starts with `bos`.
    pub add_bos: bool,
    /// Whether the model was trained on texts that end with `eos`.
    pub add_eos: bool,
    /// SentencePiece: whether a space is put before text, and again after every control or user-defined token.
    pub add_space_prefix: bool,
    /// SentencePiece: whether runs of spaces are collapsed into one, and those at either end dropped.
    pub remove_extra_whitespaces: bool,
}

/// The roles of tokens, and the keys that may give them; the first that is there counts.
const BOS: &[&str] = &["tokenizer.ggml.bos_token_id"];
const EOS: &[&str] = &["tokenizer.ggml.eos_token_id"];
const UNK: &[&str] = &["tokenizer.ggml.unknown_token_id"];
const EOT: &[&str] = &["tokenizer.ggml.eot_token_id"];
const EOM: &[&str] = &["tokenizer.ggml.eom_token_id"];
/// Ollama's converter writes all of a model's ends here where it has several.
const MORE_ENDS: &str = "tokenizer.ggml.eos_token_ids";
const INFILL_PREFIX: &[&str] = &["tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id"];
const INFILL_SUFFIX: &[&str] = &["tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id"];
const INFILL_MIDDLE: &[&str] = &["tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"];

/// The scores of a file: floats, or the integers that some converters write.
fn scores(metadata: &Metadata) -> Result<Vec<f32>, GgufError> {
    match (metadata.f32_array(keys::SCORES), metadata.i32_array(keys::SCORES)) {
        (Err(_), Ok(Some(integers))) => Ok(integers.into_iter().map(|score| score as f32).collect()),
        (floats, _) => Ok(floats?.map(Cow::into_owned).unwrap_or_default()),
    }
}

impl Vocabulary {
    /// An empty vocabulary with the defaults that the format gives to this algorithm.
    ///
    /// SentencePiece: `<unk>`, `<s>`, `</s>` are 0, 1 and 2, text starts with `<s>` and a space. Byte-level: no ids;
    /// `tekken` and `llama-bpe` add the beginning of text. (Defaults as in llama.cpp's `llama-vocab.cpp`.)
    pub fn with_defaults(algorithm: Algorithm) -> Self {
        let sentence_piece = algorithm == Algorithm::SentencePiece;
        let add_bos = match &algorithm {
            Algorithm::SentencePiece => true,
            Algorithm::ByteLevel { pre } => SplitRule::by_name(pre).is_some_and(|rule| rule.add_bos),
        };
        Self {
            algorithm,
            tokens: StrArray::default(),
            scores: Vec::new(),
            types: Vec::new(),
            merges: StrArray::default(),
            bos: sentence_piece.then_some(1),
            eos: sentence_piece.then_some(2),
            unk: sentence_piece.then_some(0),
            eot: None,
            eom: None,
            infill_prefix: None,
            infill_suffix: None,
            infill_middle: None,
            more_ends: Vec::new(),
            add_bos,
            add_eos: false,
            add_space_prefix: sentence_piece,
            remove_extra_whitespaces: false,
        }
    }

    /// Reads the `tokenizer.ggml.*` keys of a file.
    ///
    /// # Errors
    ///
    /// If a key that the algorithm needs is missing, one has the wrong type, or the algorithm is not one of ours.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let algorithm = match metadata.require::<&str>(keys::MODEL)? {
            "llama" => Algorithm::SentencePiece,
            "gpt2" => {
                let pre = match metadata.str(keys::PRE)?.unwrap_or("default") {
                    // Ollama's converter writes no better for Mistral 3, whose vocabulary is tekken.
                    "default" if metadata.str("general.architecture")? == Some("mistral3") => "tekken",
                    pre => pre,
                };
                Algorithm::ByteLevel { pre: pre.to_owned() }
            }
            other => {
                let expected = "\"llama\" (SentencePiece BPE) or \"gpt2\" (byte-level BPE)";
                return Err(metadata.error(keys::MODEL, quoted(other.as_bytes()), expected).into());
            }
        };
        let charsmap = "tokenizer.ggml.precompiled_charsmap";
        if let Some(value) = metadata.get(charsmap).filter(|_| algorithm == Algorithm::SentencePiece) {
            let expected = "no such key: text that is normalized by a table is not supported";
            return Err(metadata.error(charsmap, value.describe(), expected).into());
        }
        let mut vocabulary = Self::with_defaults(algorithm);
        vocabulary.tokens = metadata.require::<&StrArray>(keys::TOKENS)?.clone();
        vocabulary.types = metadata.i32_array(keys::TYPES)?.unwrap_or_default();
        match vocabulary.algorithm {
            Algorithm::SentencePiece => {
                vocabulary.scores = scores(metadata)?;
            }
            Algorithm::ByteLevel { .. } => {
                vocabulary.merges = metadata.require::<&StrArray>(keys::MERGES)?.clone();
            }
        }
        for (id, names, _) in vocabulary.roles() {
            for key in names.iter().rev() {
                match metadata.get(key) {
                    // Converters write "none" as −1.
                    Some(Value::I32(-1) | Value::I64(-1) | Value::U32(u32::MAX)) => *id = None,
                    _ => *id = metadata.u32(key)?.or(*id),
                }
            }
        }
        let more_ends = metadata.i32_array(MORE_ENDS)?.unwrap_or_default();
        vocabulary.more_ends = more_ends.into_iter().filter_map(|id| u32::try_from(id).ok()).collect();
        for (flag, key) in [
            (&mut vocabulary.add_bos, "tokenizer.ggml.add_bos_token"),
            (&mut vocabulary.add_eos, "tokenizer.ggml.add_eos_token"),
            (&mut vocabulary.add_space_prefix, "tokenizer.ggml.add_space_prefix"),
            (&mut vocabulary.remove_extra_whitespaces, "tokenizer.ggml.remove_extra_whitespaces"),
        ] {
            *flag = metadata.bool(key)?.unwrap_or(*flag);
        }
        Ok(vocabulary)
    }

    /// The ids with a role, the keys that give them, and the type of such a token where the file gives no types.
    fn roles(&mut self) -> [(&mut Option<u32>, &'static [&'static str], TokenType); 8] {
        [
            (&mut self.bos, BOS, TokenType::Control),
            (&mut self.eos, EOS, TokenType::Control),
            (&mut self.unk, UNK, TokenType::Unknown),
            (&mut self.eot, EOT, TokenType::Control),
            (&mut self.eom, EOM, TokenType::Control),
            (&mut self.infill_prefix, INFILL_PREFIX, TokenType::Control),
            (&mut self.infill_suffix, INFILL_SUFFIX, TokenType::Control),
            (&mut self.infill_middle, INFILL_MIDDLE, TokenType::Control),
        ]
    }

    /// Checks lengths, scores and ids; returns the ids that have a role, with the types that go with them.
    pub(super) fn validate(&mut self) -> Result<Vec<(u32, TokenType)>, TokenizerError> {
        let n_vocab = self.tokens.len();
        if n_vocab == 0 {
            return Err(TokenizerError::key(keys::TOKENS, "an empty array", "at least one token"));
        }
        if u32::try_from(n_vocab).is_err() {
            return Err(TokenizerError::key(keys::TOKENS, format!("{n_vocab} tokens"), "fewer than 2^32"));
        }
        let same_length = |key, found: usize| match found == 0 || found == n_vocab {
            true => Ok(()),
            false => Err(TokenizerError::key(
                key,
                format!("{found} entries"),
                format!("{n_vocab}, one for each of 'tokenizer.ggml.tokens'"),
            )),
        };
        same_length(keys::TYPES, self.types.len())?;
        if self.algorithm == Algorithm::SentencePiece {
            same_length(keys::SCORES, self.scores.len())?;
            if let Some(index) = self.scores.iter().position(|score| !score.is_finite()) {
                let found = format!("{} at index {index}", self.scores[index]);
                return Err(TokenizerError::key(keys::SCORES, found, "a finite number"));
            }
        }
        let mut by_role = Vec::new();
        let more_ends = self.more_ends.clone();
        let more_ends = more_ends.into_iter().map(|id| (Some(id), MORE_ENDS, TokenType::Control));
        let roles = self.roles().map(|(id, names, kind)| (*id, names[0], kind));
        for (id, key, kind) in roles.into_iter().chain(more_ends) {
            let Some(id) = id else { continue };
            if id as usize >= n_vocab {
                let expected = format!("an id below {n_vocab}, the number of tokens");
                return Err(TokenizerError::key(key, id.to_string(), expected));
            }
            by_role.push((id, kind));
        }
        Ok(by_role)
    }
}
