//! The plain content of a GGUF vocabulary, before anything is built from it.

use super::TokenizerError;

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Algorithm {
    /// `tokenizer.ggml.model` = `llama`: SentencePiece BPE, pieces with scores, unknown characters as bytes.
    SentencePiece,
    /// `tokenizer.ggml.model` = `gpt2`: BPE over bytes, with a list of merges; `pre` names the splitting rule
    /// (`tokenizer.ggml.pre`).
    ByteLevel {
        /// The name of the rule that splits text into words, as the file gives it.
        pre: String,
    },
}

/// The kind of a token, as GGUF numbers them (`tokenizer.ggml.token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenType {
    /// 0: an old file that does not say; taken as text.
    Undefined = 0,
    /// 1: text.
    Normal = 1,
    /// 2: stands for what the vocabulary cannot say.
    Unknown = 2,
    /// 3: structure, such as `<s>` or `[INST]`; never made from plain text.
    Control = 3,
    /// 4: text that is always one token, whatever surrounds it.
    UserDefined = 4,
    /// 5: a place that is not used.
    Unused = 5,
    /// 6: one byte, written `<0x0A>`.
    Byte = 6,
}

impl TokenType {
    /// The type with this number in a GGUF file.
    pub fn from_gguf(number: i32) -> Option<Self> {
        Some(match number {
            0 => Self::Undefined,
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// A vocabulary as a file describes it; [`Tokenizer::new`](super::Tokenizer::new) checks it.
///
/// Ids are positions in `tokens`. Absent ids are `None`; absent arrays are empty.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    /// SentencePiece or byte-level.
    pub algorithm: Algorithm,
    /// The text of each token as the file spells it (`▁the`, `Ġthe`, `<0x0A>`, `[INST]`).
    pub tokens: Vec<Vec<u8>>,
    /// SentencePiece: the score of each token, higher merges first. Unused by byte-level vocabularies.
    pub scores: Vec<f32>,
    /// The GGUF number of each token's [`TokenType`]; when empty, every token is normal.
    pub types: Vec<i32>,
    /// Byte-level: pairs in order of priority, `"Ġt he"`. Unused by SentencePiece.
    pub merges: Vec<Vec<u8>>,
    /// Beginning of text.
    pub bos: Option<u32>,
    /// End of text.
    pub eos: Option<u32>,
    /// Stands for what cannot be said.
    pub unk: Option<u32>,
    /// End of a turn.
    pub eot: Option<u32>,
    /// End of a message that awaits a tool.
    pub eom: Option<u32>,
    /// Fill in the middle: before what comes before the gap.
    pub infill_prefix: Option<u32>,
    /// Fill in the middle: before what comes after the gap.
    pub infill_suffix: Option<u32>,
    /// Fill in the middle: before the answer.
    pub infill_middle: Option<u32>,
    /// Whether text starts with `bos`.
    pub add_bos: bool,
    /// Whether text ends with `eos`.
    pub add_eos: bool,
    /// SentencePiece: whether a space is put before text, and again after every control token.
    pub add_space_prefix: bool,
    /// SentencePiece: whether runs of spaces become one, and those at both ends none.
    pub remove_extra_whitespaces: bool,
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
            Algorithm::ByteLevel { pre } => {
                super::split::SplitRule::by_name(pre).is_some_and(|rule| rule.add_bos)
            }
        };
        Self {
            algorithm,
            tokens: Vec::new(),
            scores: Vec::new(),
            types: Vec::new(),
            merges: Vec::new(),
            bos: sentence_piece.then_some(1),
            eos: sentence_piece.then_some(2),
            unk: sentence_piece.then_some(0),
            eot: None,
            eom: None,
            infill_prefix: None,
            infill_suffix: None,
            infill_middle: None,
            add_bos,
            add_eos: false,
            add_space_prefix: sentence_piece,
            remove_extra_whitespaces: false,
        }
    }

    /// Checks lengths, types, scores and ids; returns the type of each token.
    pub(super) fn validate(&self) -> Result<Vec<TokenType>, TokenizerError> {
        let n_vocab = self.tokens.len();
        if n_vocab == 0 {
            return Err(TokenizerError::EmptyVocabulary);
        }
        if u32::try_from(n_vocab).is_err() {
            return Err(TokenizerError::TooLarge { found: n_vocab, unit: "tokens" });
        }
        let same_length = |key, found: usize| match found == n_vocab {
            true => Ok(()),
            false => Err(TokenizerError::LengthMismatch { key, found, expected: n_vocab }),
        };
        if self.algorithm == Algorithm::SentencePiece {
            same_length("tokenizer.ggml.scores", self.scores.len())?;
            if let Some(index) = self.scores.iter().position(|score| !score.is_finite()) {
                return Err(TokenizerError::BadScore { index, found: self.scores[index].to_string() });
            }
        } else if self.merges.is_empty() {
            return Err(TokenizerError::MissingKey {
                key: "tokenizer.ggml.merges",
                expected: "the merges of a byte-level vocabulary",
            });
        }
        for (key, id) in [
            ("tokenizer.ggml.bos_token_id", self.bos),
            ("tokenizer.ggml.eos_token_id", self.eos),
            ("tokenizer.ggml.unknown_token_id", self.unk),
            ("tokenizer.ggml.eot_token_id", self.eot),
            ("tokenizer.ggml.eom_token_id", self.eom),
            ("tokenizer.ggml.fim_pre_token_id", self.infill_prefix),
            ("tokenizer.ggml.fim_suf_token_id", self.infill_suffix),
            ("tokenizer.ggml.fim_mid_token_id", self.infill_middle),
        ] {
            if let Some(found) = id.filter(|&id| id as usize >= n_vocab) {
                return Err(TokenizerError::IdOutOfRange { key, found, n_vocab });
            }
        }
        if self.types.is_empty() {
            return Ok(vec![TokenType::Normal; n_vocab]);
        }
        same_length("tokenizer.ggml.token_type", self.types.len())?;
        let typed = |(index, &found): (usize, &i32)| {
            TokenType::from_gguf(found).ok_or(TokenizerError::BadType { index, found })
        };
        self.types.iter().enumerate().map(typed).collect()
    }
}
