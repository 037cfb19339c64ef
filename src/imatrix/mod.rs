//! Importance matrices: how large the inputs of each weight matrix are, column by column, over a text.
//!
//! A [`Collector`] sums them while a model reads; [`Imatrix`] is what it found, and what files hold. Files are those of llama.cpp's `llama-imatrix`: GGUF with `NAME.in_sum2` and `NAME.counts`, and the older `.dat`.

mod add;
mod collect;
mod error;
mod legacy;
mod read;
mod write;

use std::collections::BTreeMap;

pub use collect::Collector;
pub use error::ImatrixError;

/// Sums over the inputs of one matrix, or of the experts' matrices of one layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// Sums of squares, `[n_experts · k]`.
    pub sum_squares: Vec<f64>,
    /// Plain sums, `[n_experts · k]`; empty where they are not known.
    pub sums: Vec<f64>,
    /// Rows that each expert's sums are over, `[n_experts]`.
    pub counts: Vec<u64>,
}

impl Entry {
    /// Columns of one expert's matrix.
    fn k(&self) -> usize {
        self.sum_squares.len() / self.counts.len().max(1)
    }

    /// The mean square of each column; 1 for the columns of an expert that nothing is known of.
    pub fn mean_squares(&self) -> Vec<f32> {
        let means = self.sum_squares.chunks(self.k().max(1)).zip(&self.counts).flat_map(|(sums, count)| {
            let mean = |sum: &f64| if *count == 0 { 1.0 } else { (*sum / *count as f64) as f32 };
            sums.iter().map(mean)
        });
        means.collect()
    }
}

/// An importance matrix.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Imatrix {
    /// By the name of the tensor, as in `blk.0.attn_q.weight`.
    pub entries: BTreeMap<String, Entry>,
    /// The texts.
    pub datasets: Vec<String>,
    /// Chunks of them.
    pub n_chunks: u32,
    /// Tokens of a chunk; 0 where that is not known, as in the older format.
    pub chunk_len: u32,
    /// The counts are numbers of chunks and the sums those of their means, as in the older format.
    pub counts_chunks: bool,
}
