//! Buffers of the loop over columns.

/// Buffers of [`KernelTable::quantize_with_feedback`](crate::KernelTable::quantize_with_feedback), for one thread.
#[derive(Debug, Default)]
pub struct FeedbackScratch {
    /// Weights, and errors once they are rounded, column by column: `[k, rows]`.
    pub(crate) columns: Vec<f32>,
    pub(crate) corrections: Vec<f32>,
    pub(crate) coefficients: Vec<f32>,
    pub(crate) packed: Vec<f32>,
}
