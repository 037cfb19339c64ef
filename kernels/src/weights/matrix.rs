//! A matrix of quantized weights: bytes that were checked once.

use crate::weights::block::Block;
use crate::weights::format::Format;

/// Why bytes are not the matrix they were said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A row is not a whole number of blocks.
    #[error("a row of {k} weights is not a whole number of {format} blocks of {}", format.block_len())]
    Row {
        /// The format.
        format: Format,
        /// Weights in a row.
        k: usize,
    },
    /// The bytes do not fit the shape.
    #[error("{format} of {n_rows} rows of {k} takes {expected} bytes, found {found}")]
    Bytes {
        /// The format.
        format: Format,
        /// Rows.
        n_rows: usize,
        /// Weights in a row.
        k: usize,
        /// Bytes the shape takes.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
}

/// A borrowed matrix `[n_rows, k]` of quantized weights: checked once, then taken apart without checks on sizes. Any alignment.
#[derive(Clone, Copy, Debug)]
pub struct QuantMatrix<'a> {
    bytes: &'a [u8],
    format: Format,
    n_rows: usize,
    k: usize,
    row_bytes: usize,
}

impl<'a> QuantMatrix<'a> {
    /// Views `bytes` as `n_rows` rows of `k` weights.
    ///
    /// # Errors
    /// Where `k` is no whole number of blocks, or the length of `bytes` is not that of the shape.
    pub fn new(bytes: &'a [u8], format: Format, n_rows: usize, k: usize) -> Result<Self, ShapeError> {
        let row_bytes = format.row_bytes(k).ok_or(ShapeError::Row { format, k })?;
        let expected = row_bytes.saturating_mul(n_rows);
        if bytes.len() != expected {
            return Err(ShapeError::Bytes { format, n_rows, k, expected, found: bytes.len() });
        }
        Ok(QuantMatrix { bytes, format, n_rows, k, row_bytes })
    }

    /// The format of its blocks.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Rows (outputs of a product).
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Weights in a row (inputs of a product).
    pub fn k(&self) -> usize {
        self.k
    }

    /// Bytes in a row.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// All rows' bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes of row `r`.
    ///
    /// # Panics
    /// Where `r` is no row.
    pub fn row(&self, r: usize) -> &'a [u8] {
        &self.bytes[r * self.row_bytes..][..self.row_bytes]
    }

    /// The blocks of row `r`.
    ///
    /// # Panics
    /// Where `r` is no row, or `B` is not the block of this format.
    #[inline(always)]
    pub fn row_blocks<B: Block>(&self, r: usize) -> &'a [B] {
        assert_eq!(B::FORMAT, self.format, "blocks of another format");
        bytemuck::cast_slice(self.row(r))
    }

    /// Rows `first..first + n` as a matrix of their own.
    ///
    /// # Panics
    /// Where they are not all there.
    pub fn rows(&self, first: usize, n: usize) -> QuantMatrix<'a> {
        let bytes = &self.bytes[first * self.row_bytes..][..n * self.row_bytes];
        QuantMatrix { bytes, n_rows: n, ..*self }
    }
}
