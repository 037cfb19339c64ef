//! Activations laid out for register tiles, once for all matrices that they meet: what one step of a tile reads lies together.
//!
//! A step multiplies a few weights of each row with the same few activations of every token of the tile. In rows of `k` bytes, tokens
//! would meet in the same few sets of the first cache, and each would lie in a page of its own; here they follow one another.

/// Tokens of a tile: enough to pay for loading a step's weights, few enough for their sums to stay in the first cache.
pub const TILE_TOKENS: usize = 32;

/// Activation rows from which unpacking weights pays.
pub const TILE_MIN_ROWS: usize = 5;

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

impl TileK {
    /// The sums of token `t` over sub-blocks of 16 or 32.
    #[inline(always)]
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn pairs(&self, t: usize, sub_len: usize) -> &[i32] {
        if sub_len == 16 { &self.sums[t][..8] } else { &self.sums[t][8..] }
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
