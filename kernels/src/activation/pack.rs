//! Packs activations for the panels of x86, once for all matrices that they are multiplied with.

use crate::activation::kind::ActivationKind;
use crate::activation::packed::{PACK_TOKENS, Packed, Packed32, PackedK, sums_of_32};
use crate::activation::rows::QuantizedRows;
use crate::aligned::CacheLine;
use crate::team::Team;

/// Packs groups of 32 tokens: a [`PackFn`](crate::table::PackFn).
pub(crate) fn pack_groups<'a>(team: &Team, x: &QuantizedRows<'_>, room: &'a mut [CacheLine]) -> Packed<'a> {
    let n_groups = x.m.div_ceil(PACK_TOKENS);
    if x.kind == ActivationKind::Q8K {
        let n_blocks = x.k / 256;
        let groups: &mut [PackedK] = front(room, n_groups * n_blocks);
        team.for_each_chunk(groups, 1, |i, packed| {
            packed[0].pack(x, i / n_blocks * PACK_TOKENS, i % n_blocks)
        });
        Packed::K(groups)
    } else {
        let n_pairs = x.k.div_ceil(64);
        let groups: &mut [Packed32] = front(room, n_groups * n_pairs);
        team.for_each_chunk(groups, 4, |i, groups| {
            for (j, packed) in groups.iter_mut().enumerate() {
                let i = 4 * i + j;
                packed.pack(x, i / n_pairs * PACK_TOKENS, i % n_pairs);
            }
        });
        Packed::Of32(groups)
    }
}

fn front<T: bytemuck::Pod>(room: &mut [CacheLine], n: usize) -> &mut [T] {
    bytemuck::cast_slice_mut(&mut room[..n * size_of::<T>() / size_of::<CacheLine>()])
}

impl PackedK {
    /// Block `b` of the tokens from `first` on.
    fn pack(&mut self, x: &QuantizedRows<'_>, first: usize, b: usize) {
        let n = PACK_TOKENS.min(x.m - first);
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

impl Packed32 {
    /// Blocks `2·pair` and `2·pair + 1` of the tokens from `first` on.
    fn pack(&mut self, x: &QuantizedRows<'_>, first: usize, pair: usize) {
        let n = PACK_TOKENS.min(x.m - first);
        for t in 0..n {
            let halves: &mut [[i32; 8]; 2] = bytemuck::cast_mut(&mut self.qs[t]);
            for (half, block) in self.blocks.iter_mut().enumerate() {
                let b = 2 * pair + half;
                if 32 * b >= x.k {
                    halves[half] = [0; 8];
                    continue;
                }
                let at = (first + t) * (x.k / 32) + b;
                halves[half] = bytemuck::cast(x.qs.as_chunks::<32>().0[at]);
                let sum = x.sums[at];
                block.scales[t] = x.scales[at];
                (block.sums[t], block.starts[t]) = (sum as f32, -128 * sum as i32);
            }
        }
        self.qs[n..].fill([0; 16]);
    }
}
