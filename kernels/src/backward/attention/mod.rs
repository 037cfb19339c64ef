//! Attention in f32 over whole sequences, and its derivative in the manner of FlashAttention-2 (<https://arxiv.org/abs/2307.08691>):
//! probabilities are computed again from the logarithms of their sums, block by block.

mod gradients;
mod output;
mod shape;
pub(super) mod softmax;

pub use gradients::{AttentionGradients, AttentionInputs};
pub use shape::AttentionShape;
