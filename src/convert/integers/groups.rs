//! Scales and zero points, one of each for a group of a row.

use bise_kernels::weights::block::F16Le;

use super::parts::Part;
use super::words::{AWQ_ORDER, le_word};
use crate::convert::ConvertError;

/// How scales are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScaleType {
    F16,
    BF16,
    F32,
}

/// A scale for every group of every row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scales<'a> {
    scale_type: ScaleType,
    bytes: &'a [u8],
    row_stride: usize,
    group_stride: usize,
}

impl<'a> Scales<'a> {
    /// The scales of `part`, whose shape the caller has checked: that of `row` and `group` is element
    /// `row · row_stride + group · group_stride`.
    pub(super) fn new(
        part: &Part<'a>,
        row_stride: usize,
        group_stride: usize,
    ) -> Result<Scales<'a>, ConvertError> {
        let (scale_type, n_bytes) = match part.tensor.dtype {
            "BF16" => (ScaleType::BF16, 2),
            "F32" => (ScaleType::F32, 4),
            _ => (ScaleType::F16, 2),
        };
        part.check_dtype(&["F16", "BF16", "F32"], n_bytes)?;
        Ok(Scales { scale_type, bytes: part.tensor.bytes, row_stride, group_stride })
    }

    pub(super) fn get(&self, row: usize, group: usize) -> f32 {
        let at = row * self.row_stride + group * self.group_stride;
        match self.scale_type {
            ScaleType::F16 => F16Le([self.bytes[2 * at], self.bytes[2 * at + 1]]).to_f32(),
            ScaleType::BF16 => f32::from_le_bytes([0, 0, self.bytes[2 * at], self.bytes[2 * at + 1]]),
            ScaleType::F32 => f32::from_bits(le_word(&self.bytes[4 * at..][..4])),
        }
    }
}

/// The integer that stands for zero, for every group of every row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Zeros<'a> {
    /// The same for all: formats that are symmetric store none.
    All(u16),
    /// Words `[n_groups, n_out / 8]`, nibbles in AWQ's order.
    AwqGemm { words: &'a [u8], n_out: usize },
    /// Words `[n_out, row_words]`, eight groups to a word.
    AwqGemv { words: &'a [u8], row_words: usize },
    /// Halves `[n_groups, n_out]`: `−z · s`.
    AwqGemvFast { halves: &'a [u8], n_out: usize, scales: Scales<'a> },
    /// Words `[n_groups, n_out / (32 / n_bits)]`.
    Gptq { words: &'a [u8], n_out: usize, n_bits: u32, offset: GptqOffset },
    /// Words `[⌈n_out / (32 / n_bits)⌉, n_groups]`: compressed-tensors packs along the rows' numbers.
    Rows { words: &'a [u8], n_groups: usize, n_bits: u32 },
    /// Signed bytes `[n_out, n_groups]`, which become unsigned by adding `middle`: early versions of compressed-tensors.
    SignedBytes { bytes: &'a [u8], n_groups: usize, middle: i16 },
}

/// What GPTQ's stored zero points lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GptqOffset {
    /// Nothing: `gptq_v2`.
    None,
    /// One each: `gptq`.
    One,
    /// One each, which was subtracted from whole words, so that a zero point of 0 has borrowed from its neighbour: `gptq` as GPTQModel writes it.
    OneInWords,
}

impl Zeros<'_> {
    /// The zero point; none where a stored half is no multiple of its scale.
    pub(super) fn get(&self, row: usize, group: usize) -> Option<u16> {
        let word = |words: &[u8], at: usize| le_word(&words[4 * at..][..4]);
        let field =
            |word: u32, n_bits: u32, i: usize| ((word >> (n_bits as usize * i)) & ((1 << n_bits) - 1)) as u16;
        Some(match *self {
            Zeros::All(zero) => zero,
            Zeros::AwqGemm { words, n_out } => {
                let nibble = AWQ_ORDER.iter().position(|in_word| *in_word == row % 8)?;
                field(word(words, group * (n_out / 8) + row / 8), 4, nibble)
            }
            Zeros::AwqGemv { words, row_words } => {
                field(word(words, row * row_words + group / 8), 4, group % 8)
            }
            Zeros::AwqGemvFast { halves, n_out, scales } => {
                let at = group * n_out + row;
                let stored = F16Le([halves[2 * at], halves[2 * at + 1]]).to_f32();
                let scale = scales.get(row, group);
                (0..16).find(|z| F16Le::from_f32(-f32::from(*z) * scale).to_f32() == stored)?
            }
            Zeros::Gptq { words, n_out, n_bits, offset } => {
                let in_word = 32 / n_bits as usize;
                let word = word(words, group * (n_out / in_word) + row / in_word);
                match offset {
                    GptqOffset::None => field(word, n_bits, row % in_word),
                    GptqOffset::One => field(word, n_bits, row % in_word) + 1,
                    GptqOffset::OneInWords => {
                        let ones = if n_bits == 4 { 0x1111_1111 } else { 0x0101_0101 };
                        field(word.wrapping_add(ones), n_bits, row % in_word)
                    }
                }
            }
            Zeros::Rows { words, n_groups, n_bits } => {
                let in_word = 32 / n_bits as usize;
                field(word(words, row / in_word * n_groups + group), n_bits, row % in_word)
            }
            Zeros::SignedBytes { bytes, n_groups, middle } => {
                let zero = i16::from(bytes[row * n_groups + group] as i8) + middle;
                u16::try_from(zero).ok().filter(|zero| *zero < 2 * middle as u16)?
            }
        })
    }
}
