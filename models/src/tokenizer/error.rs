//! What can be wrong with the vocabulary of a file.

/// Why a vocabulary cannot be used. Every message names the GGUF key, what was found and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A key that every vocabulary needs is absent.
    #[error("key `{key}` is missing, expected {expected}")]
    MissingKey {
        /// The GGUF key.
        key: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// A key could not be read as the type it must have; the message is the reader's own.
    #[error("{0}")]
    Metadata(String),
    /// The algorithm is neither SentencePiece BPE nor byte-level BPE.
    #[error(
        "key `tokenizer.ggml.model` is `{found}`, expected `llama` (SentencePiece BPE) or `gpt2` (byte-level BPE)"
    )]
    UnsupportedModel {
        /// The value of the key.
        found: String,
    },
    /// The splitting rule of a byte-level vocabulary is not one we know.
    #[error("key `tokenizer.ggml.pre` is `{found}`, expected one of {expected}")]
    UnsupportedPreTokenizer {
        /// The value of the key.
        found: String,
        /// The names we know, separated by commas.
        expected: String,
    },
    /// There are no tokens.
    #[error("key `tokenizer.ggml.tokens` is empty, expected at least one token")]
    EmptyVocabulary,
    /// There are more tokens than an id of 32 bits can count, or their text does not fit 4 GB.
    #[error("key `tokenizer.ggml.tokens` holds {found} {unit}, expected fewer than 2^32")]
    TooLarge {
        /// How many there are.
        found: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// An array that runs along the tokens has another length.
    #[error("key `{key}` has {found} entries, expected {expected}, one per token")]
    LengthMismatch {
        /// The GGUF key.
        key: &'static str,
        /// Its length.
        found: usize,
        /// The number of tokens.
        expected: usize,
    },
    /// A special token points outside of the vocabulary.
    #[error("key `{key}` is {found}, expected an id below the {n_vocab} tokens of the vocabulary")]
    IdOutOfRange {
        /// The GGUF key.
        key: &'static str,
        /// The id found.
        found: u32,
        /// The number of tokens.
        n_vocab: usize,
    },
    /// A score is not a finite number.
    #[error("key `tokenizer.ggml.scores` has {found} at index {index}, expected a finite number")]
    BadScore {
        /// Which token.
        index: usize,
        /// Its score, as text.
        found: String,
    },
    /// A token type is not one of the format's.
    #[error("key `tokenizer.ggml.token_type` has {found} at index {index}, expected 0 to 6")]
    BadType {
        /// Which token.
        index: usize,
        /// Its type.
        found: i32,
    },
    /// A merge is not two tokens whose concatenation is a token.
    #[error("key `tokenizer.ggml.merges` has `{found}` at index {index}, expected {expected}")]
    BadMerge {
        /// Which merge.
        index: usize,
        /// Its text.
        found: String,
        /// What a merge must be.
        expected: &'static str,
    },
    /// The model was not trained to fill in the middle.
    #[error(
        "the vocabulary has no fill-in-the-middle tokens, expected `[PREFIX]` and `[SUFFIX]`, or `tokenizer.ggml.fim_pre_token_id` and its kind"
    )]
    NoInfill,
}
