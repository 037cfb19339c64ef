//! How integers lie in the words of each format.

use std::ops::Range;

/// An order of integers in memory. Words are little-endian, and the first integer of a word is in its lowest bits unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// AWQ's `gemm`: words `[n_in, n_out / 8]` along the rows' numbers; nibble `i` is for row `8c + AWQ_ORDER[i]` of word `c`.
    AwqGemm,
    /// AWQ's `gemv_fast`: 16-bit words `[n_out / 4, n_in]`, see [`fast_place`].
    AwqGemvFast,
    /// Words `[n_out, n_in / 8]`: AWQ's `gemv` and compressed-tensors with 4 bits.
    Nibbles,
    /// Words `[n_out, n_in / 4]`: compressed-tensors with 8 bits.
    Bytes,
    /// Signed bytes `[n_out, n_in]`, which become unsigned by adding 128.
    SignedBytes,
    /// GPTQ with 4 bits: words `[n_in / 8, n_out]` along the columns' numbers.
    GptqNibbles,
    /// GPTQ with 8 bits: words `[n_in / 4, n_out]` along the columns' numbers.
    GptqBytes,
}

/// Of nibble `i`, the row's place among the eight of a word.
pub(super) const AWQ_ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// The words of a matrix `[n_out, n_in]`, whose length was checked.
pub(super) struct Words<'a> {
    pub(super) packing: Packing,
    pub(super) bytes: &'a [u8],
    pub(super) n_out: usize,
    pub(super) n_in: usize,
}

/// Words of a cache line.
const LINE: usize = 16;
/// Columns that are transposed at a time.
const COLUMNS: usize = 64;

impl Words<'_> {
    /// Writes the integers of `rows` to `out`, `[rows, n_in]`.
    pub(super) fn unpack(&self, rows: Range<usize>, out: &mut [u8]) {
        assert!(rows.start <= rows.end && rows.end <= self.n_out, "rows {rows:?} of {}", self.n_out);
        assert_eq!(out.len(), rows.len() * self.n_in);
        if out.is_empty() {
            return;
        }
        match self.packing {
            Packing::AwqGemm => self.unpack_awq_gemm(rows, out),
            Packing::AwqGemvFast => self.unpack_awq_gemv_fast(rows, out),
            Packing::Nibbles => {
                let source = &self.bytes[rows.start * self.n_in / 2..rows.end * self.n_in / 2];
                for (eight, word) in out.chunks_exact_mut(8).zip(source.chunks_exact(4)) {
                    eight.copy_from_slice(&nibbles(word));
                }
            }
            Packing::Bytes => {
                out.copy_from_slice(&self.bytes[rows.start * self.n_in..rows.end * self.n_in]);
            }
            Packing::SignedBytes => {
                let source = &self.bytes[rows.start * self.n_in..rows.end * self.n_in];
                for (q, byte) in out.iter_mut().zip(source) {
                    *q = byte ^ 0x80;
                }
            }
            Packing::GptqNibbles => self.unpack_gptq(rows, out, nibbles),
            Packing::GptqBytes => self.unpack_gptq(rows, out, |word| [word[0], word[1], word[2], word[3]]),
        }
    }

    /// Where the integers of `rows` are; none where those of a row lie across all words.
    pub(super) fn bytes_of(&self, rows: Range<usize>) -> Option<Range<usize>> {
        match self.packing {
            Packing::AwqGemm | Packing::GptqNibbles | Packing::GptqBytes => None,
            Packing::AwqGemvFast => {
                Some(rows.start / 4 * self.n_in * 2..rows.end.div_ceil(4) * self.n_in * 2)
            }
            Packing::Nibbles => Some(rows.start * self.n_in / 2..rows.end * self.n_in / 2),
            Packing::Bytes | Packing::SignedBytes => Some(rows.start * self.n_in..rows.end * self.n_in),
        }
    }

    /// Reads a cache line of every column at a time, so that each is read once.
    fn unpack_awq_gemm(&self, rows: Range<usize>, out: &mut [u8]) {
        let n_words = self.n_out / 8;
        let (mut word, last) = (rows.start / 8, rows.end.div_ceil(8));
        while word < last {
            let n_here = LINE.min(last - word);
            for column in (0..self.n_in).step_by(COLUMNS) {
                let n = COLUMNS.min(self.n_in - column);
                let mut words = [[0u32; COLUMNS]; LINE];
                for i in 0..n {
                    let line = &self.bytes[((column + i) * n_words + word) * 4..][..n_here * 4];
                    for (c, bytes) in line.chunks_exact(4).enumerate() {
                        words[c][i] = le_word(bytes);
                    }
                }
                for (c, words) in words[..n_here].iter().enumerate() {
                    for (nibble, in_word) in AWQ_ORDER.iter().enumerate() {
                        let row = (word + c) * 8 + in_word;
                        if rows.contains(&row) {
                            let out = &mut out[(row - rows.start) * self.n_in + column..][..n];
                            for (q, w) in out.iter_mut().zip(words) {
                                *q = (w >> (4 * nibble)) as u8 & 15;
                            }
                        }
                    }
                }
            }
            word += n_here;
        }
    }

    fn unpack_awq_gemv_fast(&self, rows: Range<usize>, out: &mut [u8]) {
        for (row, out) in rows.zip(out.chunks_exact_mut(self.n_in)) {
            let four = &self.bytes[row / 4 * self.n_in * 2..][..self.n_in * 2];
            for (column, q) in out.iter_mut().enumerate() {
                let (word, nibble) = fast_place(row % 4, column);
                let word = u16::from_le_bytes([four[2 * word], four[2 * word + 1]]);
                *q = (word >> (4 * nibble)) as u8 & 15;
            }
        }
    }

    /// `integers` gives the columns of a word.
    fn unpack_gptq<const N: usize>(
        &self,
        rows: Range<usize>,
        out: &mut [u8],
        integers: impl Fn(&[u8]) -> [u8; N],
    ) {
        let n_word_rows = self.n_in / N;
        for first in rows.clone().step_by(LINE) {
            let n_here = LINE.min(rows.end - first);
            for word_row in 0..n_word_rows {
                let line = &self.bytes[(word_row * self.n_out + first) * 4..][..n_here * 4];
                for (i, word) in line.chunks_exact(4).enumerate() {
                    let row = first - rows.start + i;
                    out[row * self.n_in + word_row * N..][..N].copy_from_slice(&integers(word));
                }
            }
        }
    }
}

/// Where `gemv_fast` has the integer of row `row` of four and column `column`: the 16-bit word and the nibble in it.
///
/// Columns of 32 are put into the order 0 2 4 6 (of every pair's first), 1 3 5 7, in eights that take a pair from each quarter; 64 columns of four rows
/// then lie row after row, four to a word (AutoAWQ's `pack_intweight`).
fn fast_place(row: usize, column: usize) -> (usize, usize) {
    let (quarter, pair, second) = (column % 32 / 8, column % 8 / 2, column % 2);
    let in_32 = pair * 8 + second * 4 + quarter;
    let in_64 = column % 64 / 32 * 32 + in_32;
    (column / 64 * 64 + row * 16 + in_64 / 4, in_64 % 4)
}

/// A little-endian word of 4 bytes.
pub(super) fn le_word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The nibbles of a word, the lowest first.
fn nibbles(word: &[u8]) -> [u8; 8] {
    let w = u64::from(le_word(word));
    let w = (w | w << 16) & 0x0000_ffff_0000_ffff;
    let w = (w | w << 8) & 0x00ff_00ff_00ff_00ff;
    let w = (w | w << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    w.to_le_bytes()
}
