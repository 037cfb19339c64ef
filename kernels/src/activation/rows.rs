//! Rows of activations as the products take them: f32, or 8 bits with an f32 scale a block.

use crate::activation::kind::ActivationKind;
use crate::activation::packed::Packed;
#[cfg(target_arch = "x86_64")]
use crate::activation::packed::{Packed32, PackedK};

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
    /// The same rows packed, for kernels whose [`KernelTable::takes_packed`](crate::KernelTable::takes_packed) says so.
    pub packed: Packed<'a>,
}

impl<'a> QuantizedRows<'a> {
    /// The packed blocks of 256.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn packed_k(&self) -> &'a [PackedK] {
        match self.packed {
            Packed::K(packed) => packed,
            _ => panic!("activations are not packed"),
        }
    }

    /// The packed blocks of 32.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn packed_32(&self) -> &'a [Packed32] {
        match self.packed {
            Packed::Of32(packed) => packed,
            _ => panic!("activations are not packed"),
        }
    }

    /// The packed groups of eight tokens.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn packed_eights(&self) -> &'a [u8] {
        match self.packed {
            Packed::Eights(packed) => packed,
            _ => panic!("activations are not packed"),
        }
    }

    /// Rows `first..first + n` alone, not packed.
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
            packed: Packed::None,
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

impl<'a> Activations<'a> {
    /// The quantized rows.
    ///
    /// # Panics
    /// Where they are f32; a table's methods have checked the kind before a kernel asks.
    #[inline(always)]
    pub(crate) fn quantized(self) -> QuantizedRows<'a> {
        let Activations::Quantized(q) = self else { unreachable!("checked by the table") };
        q
    }

    /// Their type.
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
