//! The forms that activations take, and which of them a weight format asks for.

use crate::weights::format::Format;

/// The form in which activations enter a product; the weights' [`Format`](crate::Format) decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActivationKind {
    /// As they are (F32, F16 and BF16 weights).
    F32,
    /// Blocks of 32, one scale and one sum each (weights in blocks of 32).
    Q8_0,
    /// Blocks of 256, one scale, and a sum for every 16 (K-quants and IQ4_XS).
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
    /// The form in which activations meet this format in a product.
    pub const fn activation_kind(self) -> ActivationKind {
        match self.block_len() {
            1 => ActivationKind::F32,
            32 => ActivationKind::Q8_0,
            _ => ActivationKind::Q8K,
        }
    }
}
