//! Lays activations out as tiles, once for all matrices that they meet.

use crate::activation::kind::ActivationKind;
use crate::activation::panel::{TILE_TOKENS, Tile32, TileK, Tiles, sums_of_32};
use crate::activation::rows::QuantizedRows;
use crate::aligned::CacheLine;
use crate::team::Team;

/// Lays out the rows of `x` in `room`, at least [`tiles_bytes`](crate::activation::panel::tiles_bytes) large.
///
/// # Panics
/// Where it is smaller.
pub fn pack<'a>(team: &Team, x: &QuantizedRows<'_>, room: &'a mut [CacheLine]) -> Tiles<'a> {
    let n_tiles = x.m.div_ceil(TILE_TOKENS);
    if x.kind == ActivationKind::Q8K {
        let n_blocks = x.k / 256;
        let tiles: &mut [TileK] = front(room, n_tiles * n_blocks);
        team.for_each_chunk(tiles, 1, |i, tile| tile[0].pack(x, i / n_blocks * TILE_TOKENS, i % n_blocks));
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

fn front<T: bytemuck::Pod>(room: &mut [CacheLine], n: usize) -> &mut [T] {
    bytemuck::cast_slice_mut(&mut room[..n * size_of::<T>() / size_of::<CacheLine>()])
}

impl TileK {
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
