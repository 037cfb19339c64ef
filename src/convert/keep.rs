//! What becomes of layers that come as integers.

use bise_kernels::Format;

/// Keeping the integers, scales and zero points of layers that AWQ, GPTQ or compressed-tensors have quantized: [`integers`](super::integers) says in
/// which blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lossless {
    /// In the type of the new file if its blocks hold integers (Q4_0, Q4_1, Q5_0, Q8_0), else in the smallest blocks that hold them exactly.
    Smallest,
    /// In these blocks. Q4_1 rounds mins.
    In(Format),
}

impl Lossless {
    /// The types that hold integers.
    pub const FORMATS: [Format; 4] = [Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q8_0];
}

/// What becomes of the integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// They become weights, which get the types of the new file.
    Nothing,
    /// They are kept in the smallest blocks; where those do not hold them exactly, they become weights.
    WherePossible,
    /// They are kept, in these blocks or in the smallest.
    All(Option<Format>),
}
