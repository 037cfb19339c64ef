//! The types of activations, and which of them each weight format is multiplied with.

use crate::weights::format::Format;

/// The type of the activations in a product. It follows from the weights' [`Format`](crate::Format).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActivationKind {
    /// f32, for F32, F16 and BF16 weights.
    F32,
    /// Blocks of 32 with a scale and a sum each, for weights in blocks of 32.
    Q8_0,
    /// Blocks of 256 with a scale and a sum for every 16 values, for K-quants and IQ4_XS.
    Q8K,
}

impl ActivationKind {
    /// Values that share a scale (0 for f32).
    pub const fn block_len(self) -> usize {
        match self {
            ActivationKind::F32 => 0,
            ActivationKind::Q8_0 => 32,
            ActivationKind::Q8K => 256,
        }
    }

    /// Values that share a sum (0 for f32).
    pub const fn sum_len(self) -> usize {
        match self {
            ActivationKind::F32 => 0,
            ActivationKind::Q8_0 => 32,
            ActivationKind::Q8K => 16,
        }
    }
}

impl Format {
    /// The type of the activations that this format is multiplied with.
    pub const fn activation_kind(self) -> ActivationKind {
        match self.block_len() {
            1 => ActivationKind::F32,
            32 => ActivationKind::Q8_0,
            _ => ActivationKind::Q8K,
        }
    }
}
