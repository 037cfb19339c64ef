//! A layer's weights, whatever packed them.

use std::ops::Range;

use bise_kernels::Format;
use bise_kernels::weights::block::F16Le;
use bise_models::printable::printable;

use super::blocks::Group;
use super::groups::{Scales, Zeros};
use super::parts::Part;
use super::words::Words;
use crate::convert::ConvertError;

/// The weights of a linear layer, `[n_out, n_in]`, as integers, scales and zero points. It borrows all of them from the file.
pub struct PackedLinear<'a> {
    layer: String,
    n_bits: u32,
    words: Words<'a>,
    group_len: usize,
    scales: Scales<'a>,
    zeros: Zeros<'a>,
}

/// Why blocks do not hold a layer's integers and scales.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("layer '{layer}': {reason}")]
pub struct NotHeld {
    layer: String,
    reason: String,
}

impl NotHeld {
    /// The error of a layer.
    pub fn new(layer: &str, reason: impl Into<String>) -> NotHeld {
        NotHeld { layer: printable(layer.as_bytes()), reason: reason.into() }
    }
}

/// What a format says of a layer.
pub(super) struct Layout<'a> {
    pub(super) n_bits: u32,
    pub(super) words: Words<'a>,
    pub(super) group_len: usize,
    pub(super) scales: Scales<'a>,
    pub(super) zeros: Zeros<'a>,
    /// The tensor of the zero points, if there is one.
    pub(super) zeros_part: Option<Part<'a>>,
}

/// Rows that are unpacked at a time.
const ROWS: usize = 64;

impl<'a> PackedLinear<'a> {
    /// Reads all scales and zero points once, to refuse those that mean nothing.
    pub(super) fn new(
        layer: &str,
        scales: &Part<'a>,
        layout: Layout<'a>,
    ) -> Result<PackedLinear<'a>, ConvertError> {
        let linear = PackedLinear {
            layer: layer.to_owned(),
            n_bits: layout.n_bits,
            words: layout.words,
            group_len: layout.group_len,
            scales: layout.scales,
            zeros: layout.zeros,
        };
        if let Some((row, group)) = linear.find_group(|_, scale| !scale.is_finite()) {
            let found = format!("{} in {}", linear.scales.get(row, group), place(row, group));
            return Err(scales.invalid(found, "finite scales".to_owned()));
        }
        if let Some(part) = layout.zeros_part {
            let groups = linear.groups();
            if let Some((row, group)) =
                groups.into_iter().find(|(row, group)| linear.zeros.get(*row, *group).is_none())
            {
                let expected = match linear.zeros {
                    Zeros::AwqGemvFast { .. } => "minus the scale times a whole number from 0 to 15",
                    _ => "zero points in the range of the integers",
                };
                let found = format!("another value in {}", place(row, group));
                return Err(part.invalid(found, expected.to_owned()));
            }
        }
        Ok(linear)
    }

    /// The layer's name, without `.weight`.
    pub fn name(&self) -> &str {
        &self.layer
    }

    /// Rows.
    pub fn n_out(&self) -> usize {
        self.words.n_out
    }

    /// Columns: a multiple of 32.
    pub fn n_in(&self) -> usize {
        self.words.n_in
    }

    /// Bits of an integer: 4 or 8.
    pub fn n_bits(&self) -> u32 {
        self.n_bits
    }

    /// Weights of a row that share a scale: a multiple of 32 that divides the columns.
    pub fn group_len(&self) -> usize {
        self.group_len
    }

    /// The scale of a group.
    ///
    /// # Panics
    /// Where there is no such group.
    pub fn scale(&self, row: usize, group: usize) -> f32 {
        self.check_group(row, group);
        self.scales.get(row, group)
    }

    /// The integer that stands for 0 in a group.
    ///
    /// # Panics
    /// Where there is no such group.
    pub fn zero_point(&self, row: usize, group: usize) -> u16 {
        self.check_group(row, group);
        self.zeros.get(row, group).unwrap_or_default()
    }

    /// Writes the integers of `rows`, unsigned and before the zero point is subtracted, to `out`, `[rows, n_in]`.
    ///
    /// # Panics
    /// Where there are no such rows, or `out` has not their length.
    pub fn integers(&self, rows: Range<usize>, out: &mut [u8]) {
        self.words.unpack(rows, out);
    }

    /// Where the integers of `rows` are in their tensor; none where those of a row lie across all of it.
    pub fn integer_bytes(&self, rows: Range<usize>) -> Option<Range<usize>> {
        self.words.bytes_of(rows)
    }

    /// The smallest type whose blocks hold these weights exactly: Q4_0, Q5_0 or Q8_0.
    ///
    /// # Errors
    /// Where no block can: a scale is not exactly a half, or integers of 8 bits have zero points other than 128.
    pub fn exact_format(&self) -> Result<Format, NotHeld> {
        let format = match self.n_bits {
            4 if self.other_zero_point().is_none() => Format::Q4_0,
            4 => Format::Q5_0,
            _ => Format::Q8_0,
        };
        self.check_format(format)?;
        Ok(format)
    }

    /// Whether the blocks of `format` hold the integers and the scales of these weights.
    ///
    /// # Errors
    /// Where they do not, for what reason.
    pub fn check_format(&self, format: Format) -> Result<(), NotHeld> {
        let not_held = |reason: String| Err(NotHeld::new(&self.layer, reason));
        let any_zero_point = matches!(format, Format::Q4_1 | Format::Q5_0 | Format::Q8_0);
        match (format, self.n_bits) {
            (Format::Q4_0, 4) | (Format::Q8_0, 8) => {
                if let Some((row, group)) = self.other_zero_point() {
                    let (found, has) = (self.zero_point(row, group), self.middle());
                    let place = place(row, group);
                    return not_held(format!(
                        "{place} has the zero point {found}; {format} is for {has} alone"
                    ));
                }
            }
            (_, 4) if any_zero_point => {}
            (_, n_bits) => return not_held(format!("{format} has no blocks for integers of {n_bits} bits")),
        }
        if let Some((row, group)) = self.find_group(|_, scale| !is_half(scale)) {
            let (scale, place) = (self.scale(row, group), place(row, group));
            return match F16Le::from_f32(scale).to_f32().is_infinite() {
                true => {
                    not_held(format!("the scale {scale:e} of {place} is out of the range of a half (65504)"))
                }
                false => not_held(format!("the scale {scale:e} of {place} is not exactly a half")),
            };
        }
        let too_large = |zero, scale| !min(zero, scale).to_f32().is_finite();
        match (format, self.find_group(too_large)) {
            (Format::Q4_1, Some((row, group))) => {
                not_held(format!("the min of {} is out of the range of a half (65504)", place(row, group)))
            }
            _ => Ok(()),
        }
    }

    /// The largest difference between a weight and what Q4_1 holds of it, which is how much `−z · s` is rounded: at most `|z · s| · 2⁻¹¹`, or 2⁻²⁵
    /// where that is more.
    pub fn largest_q4_1_error(&self) -> f32 {
        self.groups().fold(0.0, |largest, (row, group)| {
            let (zero, scale) = (self.zero_point(row, group), self.scale(row, group));
            largest.max((min(zero, scale).to_f32() + f32::from(zero) * scale).abs())
        })
    }

    /// Writes `rows` as blocks of `format` to `out`.
    ///
    /// # Panics
    /// Where [`check_format`](PackedLinear::check_format) would fail, there are no such rows, or `out` has not their length.
    pub fn encode(&self, rows: Range<usize>, format: Format, out: &mut [u8]) {
        let row_bytes = format.row_bytes(self.n_in()).expect("rows are multiples of 32 weights");
        assert_eq!(out.len(), rows.len() * row_bytes, "bytes of rows {rows:?} in {format}");
        assert!(self.n_bits == 4 || format == Format::Q8_0, "{} bits in {format}", self.n_bits);
        let (block_bytes, blocks_a_group) = (format.block_bytes(), self.group_len / 32);
        self.for_each_row(rows.clone(), |row, q| {
            let out = &mut out[(row - rows.start) * row_bytes..][..row_bytes];
            let groups =
                q.chunks_exact(self.group_len).zip(out.chunks_exact_mut(blocks_a_group * block_bytes));
            for (group, (q, out)) in groups.enumerate() {
                let (zero, scale) = (self.zero_point(row, group), self.scales.get(row, group));
                let d = F16Le::from_f32(scale);
                for (q, out) in q.as_chunks::<32>().0.iter().zip(out.chunks_exact_mut(block_bytes)) {
                    let group = Group { q, zero, d };
                    match format {
                        Format::Q4_0 => out.copy_from_slice(bytemuck::bytes_of(&group.q4_0())),
                        Format::Q4_1 => {
                            out.copy_from_slice(bytemuck::bytes_of(&group.q4_1(min(zero, scale))))
                        }
                        Format::Q5_0 => out.copy_from_slice(bytemuck::bytes_of(&group.q5_0())),
                        Format::Q8_0 => out.copy_from_slice(bytemuck::bytes_of(&group.q8_0())),
                        _ => panic!("{format} holds no such integers"),
                    }
                }
            }
        });
    }

    /// Writes the weights of `rows`, `(q − z) · s`, to `out`, `[rows, n_in]`. They are exact where scales are halves or bf16.
    ///
    /// # Panics
    /// Where there are no such rows, or `out` has not their length.
    pub fn dequantize(&self, rows: Range<usize>, out: &mut [f32]) {
        assert_eq!(out.len(), rows.len() * self.n_in(), "weights of rows {rows:?}");
        self.for_each_row(rows.clone(), |row, q| {
            let out = &mut out[(row - rows.start) * self.n_in()..][..self.n_in()];
            let groups = q.chunks_exact(self.group_len).zip(out.chunks_exact_mut(self.group_len));
            for (group, (q, out)) in groups.enumerate() {
                let (zero, scale) = (i32::from(self.zero_point(row, group)), self.scales.get(row, group));
                for (x, q) in out.iter_mut().zip(q) {
                    *x = (i32::from(*q) - zero) as f32 * scale;
                }
            }
        });
    }

    /// Passes the integers of each of `rows` on.
    fn for_each_row(&self, rows: Range<usize>, mut pass: impl FnMut(usize, &[u8])) {
        let mut q = vec![0; ROWS.min(rows.len()) * self.n_in()];
        let mut first = rows.start;
        while first < rows.end {
            // Tiles begin at multiples of their length, so that words are not divided.
            let tile = first..((first / ROWS + 1) * ROWS).min(rows.end);
            let q = &mut q[..tile.len() * self.n_in()];
            self.words.unpack(tile.clone(), q);
            first = tile.end;
            tile.zip(q.chunks_exact(self.n_in())).for_each(|(row, q)| pass(row, q));
        }
    }

    fn n_groups(&self) -> usize {
        self.n_in() / self.group_len
    }

    /// The zero point of integers that are symmetric.
    fn middle(&self) -> u16 {
        1 << (self.n_bits - 1)
    }

    fn groups(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let n_groups = self.n_groups();
        (0..self.n_out()).flat_map(move |row| (0..n_groups).map(move |group| (row, group)))
    }

    /// The first group whose zero point and scale are so.
    fn find_group(&self, so: impl Fn(u16, f32) -> bool) -> Option<(usize, usize)> {
        let is_so = |&(row, group): &(usize, usize)| {
            so(self.zeros.get(row, group).unwrap_or_default(), self.scales.get(row, group))
        };
        self.groups().find(is_so)
    }

    fn other_zero_point(&self) -> Option<(usize, usize)> {
        if let Zeros::All(zero) = self.zeros {
            return (zero != self.middle()).then_some((0, 0));
        }
        self.find_group(|zero, _| zero != self.middle())
    }

    fn check_group(&self, row: usize, group: usize) {
        assert!(
            row < self.n_out() && group < self.n_groups(),
            "group {group} of row {row} in [{}, {}] groups",
            self.n_out(),
            self.n_groups()
        );
    }
}

fn place(row: usize, group: usize) -> String {
    format!("row {row}, group {group}")
}

/// The min of Q4_1.
fn min(zero: u16, scale: f32) -> F16Le {
    F16Le::from_f32(-f32::from(zero) * scale)
}

/// Whether a half holds `x`.
fn is_half(x: f32) -> bool {
    F16Le::from_f32(x).to_f32() == x
}
