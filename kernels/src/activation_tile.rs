//! Activations laid out for register tiles, once for all matrices that they meet: what one step of a tile reads lies together.
//!
//! A step multiplies a few weights of each row with the same few activations of every token of the tile. In rows of `k` bytes, tokens
//! would meet in the same few sets of the first cache, and each would lie in a page of its own; here they follow one another.

use crate::activations::{ActivationKind, QuantizedRows};
use crate::{CacheLine, Team};

/// Tokens of a tile: enough to pay for loading a step's weights, few enough for their sums to stay in the first cache.
pub const TILE_TOKENS: usize = 32;

/// Weights of a row that are unpacked at a time, so that a strip of 64 rows stays in the second cache however long its rows are.
#[cfg(target_arch = "x86_64")]
pub(crate) const TILE_CHUNK: usize = 4096;

/// A block of 256 activations of each token of a tile. Missing tokens of a last tile have zeros for values.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, bytemuck::Zeroable, bytemuck::Pod)]
pub struct TileK {
    /// `[step][token]`: 64 values, four to a dword.
    pub qs: [[[i32; 16]; TILE_TOKENS]; 4],
    /// `[token]`
    pub scales: [f32; TILE_TOKENS],
    /// `[token]`: eight dwords of two sums over 16 values each, as `vpdpwssd` and `vpmaddwd` multiply them, then four of sums over 32.
    pub sums: [[i32; 12]; TILE_TOKENS],
}

/// Two blocks of 32 activations of each token of a tile (the second zeros where a row ends with the first).
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, bytemuck::Zeroable, bytemuck::Pod)]
pub struct Tile32 {
    /// `[token]`: 64 values, four to a dword.
    pub qs: [[i32; 16]; TILE_TOKENS],
    /// What a product needs besides them, for each block.
    pub heads: [Heads32; 2],
}

/// Scales and sums of a block, `[token]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Zeroable, bytemuck::Pod)]
pub struct Heads32 {
    /// Scales.
    pub scales: [f32; TILE_TOKENS],
    /// Sums of the values.
    pub sums: [f32; TILE_TOKENS],
    /// Where products with weights that are stored with 128 added start: `-128 · sum`.
    pub starts: [i32; TILE_TOKENS],
}

/// Rows of activations as tiles, `[tile][k / 256]` or `[tile][⌈k / 64⌉]`.
#[derive(Clone, Copy, Debug)]
pub enum Tiles<'a> {
    /// Not laid out.
    None,
    /// For weights in blocks of 256.
    K(&'a [TileK]),
    /// For weights in blocks of 32.
    Of32(&'a [Tile32]),
}

/// Bytes of the tiles of `m` rows of `k` values.
pub const fn tiles_bytes(m: usize, k: usize) -> usize {
    let k_quants = k.div_ceil(256) * size_of::<TileK>();
    let of_32 = k.div_ceil(64) * size_of::<Tile32>();
    m.div_ceil(TILE_TOKENS) * if k_quants > of_32 { k_quants } else { of_32 }
}

impl<'a> Tiles<'a> {
    /// Lays out the rows of `x` in `room`, at least [`tiles_bytes`] large.
    ///
    /// # Panics
    /// Where it is smaller.
    pub fn pack(team: &Team, x: &QuantizedRows<'_>, room: &'a mut [CacheLine]) -> Tiles<'a> {
        let n_tiles = x.m.div_ceil(TILE_TOKENS);
        if x.kind == ActivationKind::Q8K {
            let n_blocks = x.k / 256;
            let tiles: &mut [TileK] = front(room, n_tiles * n_blocks);
            team.for_each_chunk(tiles, 1, |i, tile| {
                tile[0].pack(x, i / n_blocks * TILE_TOKENS, i % n_blocks)
            });
            Tiles::K(tiles)
        } else {
            let n_pairs = x.k.div_ceil(64);
            let tiles: &mut [Tile32] = front(room, n_tiles * n_pairs);
            team.for_each_chunk(tiles, 4, |i, tiles| {
                for (j, tile) in tiles.iter_mut().enumerate() {
                    let i = 4 * i + j;
                    tile.pack(x, i / n_pairs * TILE_TOKENS, i % n_pairs);
                }
            });
            Tiles::Of32(tiles)
        }
    }
}

fn front<T: bytemuck::Pod>(room: &mut [CacheLine], n: usize) -> &mut [T] {
    bytemuck::cast_slice_mut(&mut room[..n * size_of::<T>() / size_of::<CacheLine>()])
}

impl TileK {
    /// The sums of token `t` over sub-blocks of 16 or 32.
    #[inline(always)]
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn pairs(&self, t: usize, sub_len: usize) -> &[i32] {
        if sub_len == 16 { &self.sums[t][..8] } else { &self.sums[t][8..] }
    }

    /// Block `b` of the tokens from `first` on.
    fn pack(&mut self, x: &QuantizedRows<'_>, first: usize, b: usize) {
        let n = TILE_TOKENS.min(x.m - first);
        for t in 0..n {
            let at = (first + t) * (x.k / 256) + b;
            let values: &[[i8; 64]; 4] =
                x.qs.as_chunks::<64>().0[4 * at..].first_chunk().expect("four times 64");
            for (step, values) in values.iter().enumerate() {
                self.qs[step][t] = bytemuck::cast(*values);
            }
            self.scales[t] = x.scales[at];
            let sums = &x.sums.as_chunks::<16>().0[at];
            self.sums[t][..8].copy_from_slice(&bytemuck::cast::<[i16; 16], [i32; 8]>(*sums));
            self.sums[t][8..].copy_from_slice(&sums_of_32(sums));
        }
        for step in &mut self.qs {
            step[n..].fill([0; 16]);
        }
    }
}

impl Tile32 {
    /// Blocks `2·pair` and `2·pair + 1` of the tokens from `first` on.
    fn pack(&mut self, x: &QuantizedRows<'_>, first: usize, pair: usize) {
        let n = TILE_TOKENS.min(x.m - first);
        for t in 0..n {
            let halves: &mut [[i32; 8]; 2] = bytemuck::cast_mut(&mut self.qs[t]);
            for (half, heads) in self.heads.iter_mut().enumerate() {
                let b = 2 * pair + half;
                if 32 * b >= x.k {
                    halves[half] = [0; 8];
                    continue;
                }
                let at = (first + t) * (x.k / 32) + b;
                halves[half] = bytemuck::cast(x.qs.as_chunks::<32>().0[at]);
                let sum = x.sums[at];
                heads.scales[t] = x.scales[at];
                (heads.sums[t], heads.starts[t]) = (sum as f32, -128 * sum as i32);
            }
        }
        self.qs[n..].fill([0; 16]);
    }
}

/// Sums over 32 values, two to a dword, from those over 16.
#[inline(always)]
pub(crate) fn sums_of_32(sums: &[i16; 16]) -> [i32; 4] {
    let sum = |j: usize| sums[2 * j] + sums[2 * j + 1];
    std::array::from_fn(|j| sum(2 * j) as u16 as i32 | (sum(2 * j + 1) as i32) << 16)
}

/// The sums of a block of 256 activations over sub-blocks of 16 or 32, two to a dword; for sub-blocks of 32 the last four are 0.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
pub(crate) fn pairs_of_sums(sums: &[i16; 16], sub_len: usize) -> [i32; 8] {
    if sub_len == 16 {
        return bytemuck::cast(*sums);
    }
    let [a, b, c, d] = sums_of_32(sums);
    [a, b, c, d, 0, 0, 0, 0]
}

/// Takes `n` values off the front of `room`, which is and stays aligned to 64 bytes.
///
/// # Panics
/// Where there is not enough.
#[cfg(target_arch = "x86_64")]
pub(crate) fn carve<'a, T: bytemuck::Pod>(room: &mut &'a mut [u8], n: usize) -> &'a mut [T] {
    let bytes = n * size_of::<T>();
    let (front, rest) = std::mem::take(room).split_at_mut(bytes.next_multiple_of(64));
    *room = rest;
    bytemuck::cast_slice_mut(&mut front[..bytes])
}
