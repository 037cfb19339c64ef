//! Text to tokens and back, by the vocabulary that a GGUF file carries.
//!
//! There are two families. **SentencePiece** BPE (`tokenizer.ggml.model` = `llama`; Mistral v1 to v7) merges the
//! adjacent symbols whose concatenation has the best score, and falls back to bytes for unknown characters.
//! **Byte-level** BPE (`gpt2`; tekken, Llama 3, SmolLM) splits text into words with a regular expression and merges
//! bytes in the order of a list. Ids equal those of `sentencepiece`, `mistral_common` and Hugging Face's `tokenizers`
//! (`tests/golden_tokens`).
//!
//! Before either runs, text is cut at **control** tokens, where the caller allows it, and at **user-defined** tokens,
//! which fine-tunes add. The leftmost match wins, and of those the longest, as in `tokenizers`. SentencePiece's space is
//! put before the text and again after every cut, as in `tokenizers` (`legacy`) and llama.cpp. The exceptions are the
//! user-defined tokens of Mistral's own models (`[REFERENCE_DOC_1]`), which get no space, as in `mistral_common`. GGUF
//! has no place for the `lstrip` and `rstrip` of `tokenizers`, so there is none here.
//!
//! Time and memory to build a tokenizer are linear in the vocabulary, whatever it holds; encoding is `O(n log n)`.

mod bpe;
mod byte_level;
mod corrections;
mod decode;
mod encode;
mod error;
mod handle;
mod infill;
mod lexicon;
mod merge;
mod names;
mod sentence_piece;
mod special;
mod split;
mod token_type;
mod vocabulary;

pub use decode::StreamDecoder;
pub use encode::{EncodeOptions, Segment};
pub use error::TokenizerError;
pub use handle::Tokenizer;
pub use token_type::TokenType;
pub use vocabulary::{Algorithm, Vocabulary};
