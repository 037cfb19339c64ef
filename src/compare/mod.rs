//! How far the predictions of one model are from those of another, over a text.
//!
//! The reference reads the text once and leaves a file of log-probabilities behind ([`BaseWriter`]); other models then read the same
//! tokens and are compared with it ([`compare_chunk`]), so that one model at a time is in memory. The file and the statistics are those of
//! llama-perplexity, `--kl-divergence-base` and `--kl-divergence`.

mod base;
mod divergence;
mod error;
mod row;
mod score;
mod statistics;

pub use base::{BaseReader, BaseWriter, Layout};
pub use divergence::{Divergence, RowDivergence};
pub use error::CompareError;
pub use row::{LogProbs, encode_row};
pub use score::{Batch, compare_chunk, score_chunk, write_chunk};
pub use statistics::{Distribution, Estimate, Running, Statistics};
