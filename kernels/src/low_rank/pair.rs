//! The two matrices, laid out for the kernels.

use std::collections::TryReserveError;
use std::ops::Range;

use half::{bf16, f16};

use crate::aligned::{CacheLine, try_zeros};
use crate::simd::lanes::LANES;
use crate::weights::dequantize::dequantize_row;
use crate::weights::format::Format;
use crate::weights::matrix::QuantMatrix;

/// `A [rank, k]` and `B [n_rows, rank]`. Each is stored in 16 bits where that loses nothing, as it was trained or written in that format:
/// decoding is as slow as the memory it reads.
pub struct LowRankPair {
    rank: usize,
    k: usize,
    n_rows: usize,
    a: Floats,
    /// Tiles of 16 rows: the first number of each, then the second of each and so on. Rows that fill up the last tile are zeros.
    b: Floats,
}

impl LowRankPair {
    /// Lays out `a` and `b`, row-major.
    ///
    /// # Errors
    /// Where there is no memory.
    ///
    /// # Panics
    /// Where `rank` is 0, or the lengths are no whole number of rows.
    pub fn try_new(rank: usize, a: &[f32], b: &[f32]) -> Result<LowRankPair, TryReserveError> {
        assert!(
            rank > 0 && a.len().is_multiple_of(rank) && b.len().is_multiple_of(rank),
            "shapes of rank {rank}"
        );
        let (k, n_rows) = (a.len() / rank, b.len() / rank);
        let mut stored_a = Floats::try_new(a, a.len())?;
        a.iter().enumerate().for_each(|(i, value)| stored_a.set(i, *value));
        let mut stored_b = Floats::try_new(b, n_rows.next_multiple_of(LANES) * rank)?;
        for (row, values) in b.chunks_exact(rank).enumerate() {
            let tile = row / LANES * LANES * rank;
            values
                .iter()
                .enumerate()
                .for_each(|(j, value)| stored_b.set(tile + j * LANES + row % LANES, *value));
        }
        Ok(LowRankPair { rank, k, n_rows, a: stored_a, b: stored_b })
    }

    /// Rows of A.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Columns of A: inputs of the product.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Rows of B: outputs of the product.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Bytes of both.
    pub fn n_bytes(&self) -> usize {
        self.a.bytes().len() + self.b.bytes().len()
    }

    /// The formats and bytes of A and of B as they are kept, for hashing. The same bytes are other numbers in another format.
    pub fn stored(&self) -> [(Format, &[u8]); 2] {
        [&self.a, &self.b].map(|floats| (floats.format, floats.bytes()))
    }

    /// A as a weight matrix.
    pub fn a(&self) -> QuantMatrix<'_> {
        QuantMatrix::new(self.a.bytes(), self.a.format, self.rank, self.k).expect("stored as such")
    }

    /// A's numbers, row-major.
    pub fn to_a(&self) -> Vec<f32> {
        self.a.to_vec()
    }

    /// B's numbers, row-major.
    pub fn to_b(&self) -> Vec<f32> {
        let tiles = self.b.to_vec();
        let number = |i: usize| {
            let (row, j) = (i / self.rank, i % self.rank);
            tiles[row / LANES * LANES * self.rank + j * LANES + row % LANES]
        };
        (0..self.n_rows * self.rank).map(number).collect()
    }

    /// How B is stored.
    pub(crate) fn b_format(&self) -> Format {
        self.b.format
    }

    /// The tiles of some rows of B.
    ///
    /// # Panics
    /// Where the first is no multiple of 16, or they are not all there.
    pub(crate) fn b_tiles(&self, rows: Range<usize>) -> &[u8] {
        assert!(
            rows.start.is_multiple_of(LANES) && rows.end <= self.n_rows,
            "rows {rows:?} of {}",
            self.n_rows
        );
        let row_bytes = self.rank * self.b.format.block_bytes();
        &self.b.bytes()[rows.start * row_bytes..rows.end.next_multiple_of(LANES) * row_bytes]
    }
}

/// Numbers in the smallest of three formats that holds them exactly.
struct Floats {
    format: Format,
    n_bytes: usize,
    lines: Vec<CacheLine>,
}

impl Floats {
    /// `n` zeros in a format that holds `values`.
    fn try_new(values: &[f32], n: usize) -> Result<Floats, TryReserveError> {
        let is_same = |x: f32, value: &f32| x.to_bits() == value.to_bits();
        let format = if values.iter().all(|value| is_same(f16::from_f32(*value).to_f32(), value)) {
            Format::F16
        } else if values.iter().all(|value| is_same(bf16::from_f32(*value).to_f32(), value)) {
            Format::BF16
        } else {
            Format::F32
        };
        let n_bytes = n * format.block_bytes();
        Ok(Floats { format, n_bytes, lines: try_zeros(n_bytes)? })
    }

    fn set(&mut self, i: usize, value: f32) {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.lines);
        match self.format {
            Format::F16 => bytes[2 * i..2 * i + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes()),
            Format::BF16 => bytes[2 * i..2 * i + 2].copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
            _ => bytes[4 * i..4 * i + 4].copy_from_slice(&value.to_le_bytes()),
        }
    }

    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.n_bytes]
    }

    fn to_vec(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.n_bytes / self.format.block_bytes()];
        dequantize_row(self.format, self.bytes(), &mut values);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_they_were_in_the_smallest_format_that_holds_them() {
        let halves = [1.0, -0.0, 65504.0, 5.960_464_5e-8, 0.333_251_95, -2.5];
        let brains =
            [1.0, -0.0, 3.389_531_4e38, 9.183_55e-41, 1e10_f32, -2.5].map(|x| bf16::from_f32(x).to_f32());
        let singles = [1.0, 0.1, 1e-30, -0.0, f32::MAX, f32::MIN_POSITIVE];
        for (values, format) in [(halves, Format::F16), (brains, Format::BF16), (singles, Format::F32)] {
            // A is [2, 3], and then B is [3, 2].
            let pair = LowRankPair::try_new(2, &values, &values).unwrap();
            assert_eq!((pair.a().format(), pair.b_format(), pair.k(), pair.n_rows()), (format, format, 3, 3));
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!((bits(&pair.to_a()), bits(&pair.to_b())), (bits(&values), bits(&values)));
        }
    }

    #[test]
    fn tiles_hold_sixteen_rows() {
        let (rank, n_rows) = (3, 37);
        let b: Vec<f32> = (0..n_rows * rank).map(|i| i as f32).collect();
        let pair = LowRankPair::try_new(rank, &[1.0; 6], &b).unwrap();
        assert_eq!(pair.to_b(), b);
        let tiles = pair.b_tiles(32..37);
        let mut values = vec![0.0; 16 * rank];
        dequantize_row(pair.b_format(), tiles, &mut values);
        for (i, value) in values.iter().enumerate() {
            let (row, j) = (32 + i % 16, i / 16);
            assert_eq!(*value, if row < n_rows { (row * rank + j) as f32 } else { 0.0 });
        }
    }
}
