//! Activations as the products take them: f32, or 8 bits with an f32 scale a block.

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

/// `m` rows of `k` activations in 8 bits: `x ≈ scale · q`, with `q` in `[−127, 127]`.
///
/// Row `t`, block `b`: `qs[t·k + b·B..]`, `scales[t·k/B + b]`, and `sums[(t·k + i)/S]` is the sum of the `S` values from `i` on,
/// where `B` is [`ActivationKind::block_len`] and `S` is [`ActivationKind::sum_len`].
#[derive(Clone, Copy, Debug)]
pub struct QuantizedRows<'a> {
    /// `Q8_0` or `Q8K`.
    pub kind: ActivationKind,
    /// Rows.
    pub m: usize,
    /// Values in a row, a multiple of the block.
    pub k: usize,
    /// `[m, k]`
    pub qs: &'a [i8],
    /// `[m, k / B]`
    pub scales: &'a [f32],
    /// `[m, k / S]`
    pub sums: &'a [i16],
}

impl<'a> QuantizedRows<'a> {
    /// Rows `first..first + n` alone.
    ///
    /// # Panics
    /// Where they are not all there.
    pub fn rows(&self, first: usize, n: usize) -> QuantizedRows<'a> {
        let (kb, ks) = (self.k / self.kind.block_len(), self.k / self.kind.sum_len());
        QuantizedRows {
            m: n,
            qs: &self.qs[first * self.k..][..n * self.k],
            scales: &self.scales[first * kb..][..n * kb],
            sums: &self.sums[first * ks..][..n * ks],
            ..*self
        }
    }
}

/// The input of a product.
#[derive(Clone, Copy, Debug)]
pub enum Activations<'a> {
    /// `[m, k]` as they are.
    F32 {
        /// Rows.
        m: usize,
        /// Values in a row.
        k: usize,
        /// `[m, k]`
        x: &'a [f32],
    },
    /// In 8 bits.
    Quantized(QuantizedRows<'a>),
}

impl Activations<'_> {
    /// The form they have.
    pub fn kind(&self) -> ActivationKind {
        match self {
            Activations::F32 { .. } => ActivationKind::F32,
            Activations::Quantized(q) => q.kind,
        }
    }

    /// Rows.
    pub fn m(&self) -> usize {
        match self {
            Activations::F32 { m, .. } => *m,
            Activations::Quantized(q) => q.m,
        }
    }

    /// Values in a row.
    pub fn k(&self) -> usize {
        match self {
            Activations::F32 { k, .. } => *k,
            Activations::Quantized(q) => q.k,
        }
    }
}
