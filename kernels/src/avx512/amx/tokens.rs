use std::marker::PhantomData;

use super::tiles::TILE_ROWS;
use crate::activation_tile::carve;
use crate::activations::QuantizedRows;

/// Tokens that meet a few rows of weights one tile after the other: the weights stay in the first cache.
pub(super) const PASS_TOKENS: usize = 64;
const PASS_TILES: usize = PASS_TOKENS / TILE_ROWS;

/// The values of up to [`PASS_TOKENS`] tokens, sixteen a tile.
///
/// They are loaded where they lie, but for a last tile that is not full: it is a copy, zeros standing for the missing tokens.
pub(super) struct Tokens<'a> {
    /// Tokens.
    pub n: usize,
    /// Of each tile: its first token's values, and the bytes from there to the next token's.
    tiles: [(*const u8, usize); PASS_TILES],
    _values: PhantomData<&'a [i8]>,
}

impl<'a> Tokens<'a> {
    /// Bytes of room for tokens of `k` values.
    pub const fn room_bytes(k: usize) -> usize {
        TILE_ROWS * k + 64
    }

    /// Values `first..first + n` of each row of `x`.
    pub fn new(room: &mut &'a mut [u8], x: &QuantizedRows<'a>, first: usize, n: usize) -> Tokens<'a> {
        let values = |t: usize| &x.qs[t * x.k + first..][..n];
        let mut tiles = [(std::ptr::null(), x.k); PASS_TILES];
        let (n_full, rest) = (x.m / TILE_ROWS, x.m % TILE_ROWS);
        for (i, tile) in tiles[..n_full].iter_mut().enumerate() {
            tile.0 = values(i * TILE_ROWS).as_ptr().cast();
        }
        if rest > 0 {
            let copy = carve::<i8>(room, TILE_ROWS * n);
            let (tokens, missing) = copy.split_at_mut(rest * n);
            for (t, copy) in tokens.chunks_exact_mut(n).enumerate() {
                copy.copy_from_slice(values(n_full * TILE_ROWS + t));
            }
            missing.fill(0);
            tiles[n_full] = (copy.as_ptr().cast(), n);
        }
        Tokens { n: x.m, tiles, _values: PhantomData }
    }

    /// Tiles.
    pub fn n_tiles(&self) -> usize {
        self.n.div_ceil(TILE_ROWS)
    }

    /// Tokens of tile `i`.
    pub fn len(&self, i: usize) -> usize {
        TILE_ROWS.min(self.n - i * TILE_ROWS)
    }

    /// The values of tile `i` from `at` on: sixteen rows, and the bytes from one to the next.
    #[inline(always)]
    pub fn at(&self, i: usize, at: usize) -> (*const u8, usize) {
        let (p, stride) = self.tiles[i];
        (p.wrapping_add(at), stride)
    }
}
