//! Activations laid out for the register tiles of x86: what one step of a tile reads lies together.
//!
//! A step multiplies 32 weights of each row with the same 32 activations of every token of the tile. In rows of `k` bytes, tokens would
//! meet in the same few sets of the first cache; here they follow one another.

use crate::activations::QuantizedRows;

/// Tokens of a tile: enough to pay for loading a step's weights, few enough for their sums to stay in the first cache.
pub(crate) const TILE_TOKENS: usize = 32;

/// Weights of a row that are unpacked at a time, so that a strip of 64 rows stays in the second cache however long its rows are.
pub(crate) const TILE_CHUNK: usize = 4096;

/// A tile of activations for weights in blocks of 256. `n` tokens; steps of 32 values, eight to a block.
pub(crate) struct TileK<'a> {
    /// Tokens.
    pub n: usize,
    /// `[step][token]`: the values, four to a dword.
    pub qs: &'a [[i32; 8]],
    /// `[step][token]`: where the products start, `-offset · Σ x` over each 16 of the step, or over all 32 in the first; empty where
    /// the offset is 0.
    pub starts: &'a [[i32; 2]],
    /// `[block][token]`
    pub scales: &'a [f32],
    /// `[block][token]`: see [`pairs_of_sums`]; empty where the format has no mins.
    pub pairs: &'a [[i32; 8]],
}

impl<'a> TileK<'a> {
    /// Packs blocks `first..first + n_blocks` of every row of `x` into `room`, for weights that are stored with `offset` added and
    /// have a scale for each `sub_len` of them. Inlined, so that it moves as many bytes at once as its caller may.
    #[inline(always)]
    pub fn pack(
        mut room: &'a mut [u8],
        x: &QuantizedRows<'_>,
        first: usize,
        n_blocks: usize,
        offset: u8,
        sub_len: usize,
        has_mins: bool,
    ) -> TileK<'a> {
        let n = x.m;
        let qs = carve::<[i32; 8]>(&mut room, 8 * n_blocks * n);
        let starts = carve::<[i32; 2]>(&mut room, if offset != 0 { 8 * n_blocks * n } else { 0 });
        let scales = carve::<f32>(&mut room, n_blocks * n);
        let pairs = carve::<[i32; 8]>(&mut room, if has_mins { n_blocks * n } else { 0 });
        let row_blocks = x.k / 256;
        for b in 0..n_blocks {
            for t in 0..n {
                let at = t * row_blocks + first + b;
                let values = &x.qs.as_chunks::<256>().0[at];
                prefetch_after(values);
                for (step, values) in values.as_chunks::<32>().0.iter().enumerate() {
                    qs[(8 * b + step) * n + t] = bytemuck::cast(*values);
                }
                scales[b * n + t] = x.scales[at];
                let sums = &x.sums.as_chunks::<16>().0[at];
                if offset != 0 {
                    let offset = -(offset as i32);
                    for step in 0..8 {
                        let (one, two) = (sums[2 * step] as i32, sums[2 * step + 1] as i32);
                        starts[(8 * b + step) * n + t] = if sub_len == 16 {
                            [offset * one, offset * two]
                        } else {
                            [offset * (one + two), 0]
                        };
                    }
                }
                if has_mins {
                    pairs[b * n + t] = pairs_of_sums(sums, sub_len);
                }
            }
        }
        TileK { n, qs, starts, scales, pairs }
    }
}

/// Asks for the 256 values that follow these in a row: a row is too far from the next for the hardware to see them coming.
#[inline(always)]
fn prefetch_after(values: &[i8; 256]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for line in 4..8 {
        // SAFETY: a hint, for any address; every x86-64 has the instruction.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(64 * line)) };
    }
}

/// A tile of activations for weights in blocks of 32; a step is a block.
pub(crate) struct Tile32<'a> {
    /// Tokens.
    pub n: usize,
    /// `[block][token]`: the values, four to a dword.
    pub qs: &'a [[i32; 8]],
    /// `[block][token]`: what a step needs besides them.
    pub heads: &'a [Head32],
}

/// The scale and sum of 32 activations.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
pub(crate) struct Head32 {
    /// Scale.
    pub scale: f32,
    /// Sum.
    pub sum: f32,
    /// Where the products start, `-offset · sum`.
    pub start: i32,
}

impl<'a> Tile32<'a> {
    /// Packs blocks `first..first + n_blocks` of every row of `x` into `room`, for weights that are stored with `offset` added.
    #[inline(always)]
    pub fn pack(
        mut room: &'a mut [u8],
        x: &QuantizedRows<'_>,
        first: usize,
        n_blocks: usize,
        offset: u8,
    ) -> Tile32<'a> {
        let n = x.m;
        let qs = carve::<[i32; 8]>(&mut room, n_blocks * n);
        let heads = carve::<Head32>(&mut room, n_blocks * n);
        let row_blocks = x.k / 32;
        for eight in (0..n_blocks).step_by(8) {
            for t in 0..n {
                for b in eight..n_blocks.min(eight + 8) {
                    let at = t * row_blocks + first + b;
                    qs[b * n + t] = bytemuck::cast(x.qs.as_chunks::<32>().0[at]);
                    let sum = x.sums[at];
                    heads[b * n + t] =
                        Head32 { scale: x.scales[at], sum: sum as f32, start: -(offset as i32) * sum as i32 };
                }
            }
        }
        Tile32 { n, qs, heads }
    }
}

/// The sums of a block of 256 activations over sub-blocks of 16 or 32, two to a dword, as `vpdpwssd` and `vpmaddwd` multiply them with
/// pairs of mins. `sums` are over 16 values each; for sub-blocks of 32 the last four dwords are 0.
#[inline(always)]
pub(crate) fn pairs_of_sums(sums: &[i16; 16], sub_len: usize) -> [i32; 8] {
    let pair = |a: i16, b: i16| a as u16 as i32 | (b as i32) << 16;
    let mut pairs = [0; 8];
    if sub_len == 16 {
        for (j, out) in pairs.iter_mut().enumerate() {
            *out = pair(sums[2 * j], sums[2 * j + 1]);
        }
    } else {
        let sum = |j: usize| sums[2 * j] + sums[2 * j + 1];
        for (j, out) in pairs.iter_mut().enumerate().take(4) {
            *out = pair(sum(2 * j), sum(2 * j + 1));
        }
    }
    pairs
}

/// Takes `n` values off the front of `room`, which is and stays aligned to 64 bytes.
///
/// # Panics
/// Where there is not enough.
pub(crate) fn carve<'a, T: bytemuck::Pod>(room: &mut &'a mut [u8], n: usize) -> &'a mut [T] {
    let bytes = n * size_of::<T>();
    let (front, rest) = std::mem::take(room).split_at_mut(bytes.next_multiple_of(64));
    *room = rest;
    bytemuck::cast_slice_mut(&mut front[..bytes])
}
