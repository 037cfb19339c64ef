//! Activations packed for [`panel_32`] and [`panel_k`].

use super::panel::PackTokens;
use super::products::Tile;
use super::{panel_32, panel_k};
use crate::activation::kind::ActivationKind;
use crate::activation::packed::Packed;
use crate::activation::rows::QuantizedRows;
use crate::aligned::CacheLine;
use crate::simd::neon::registers::four;
use crate::team::Team;

/// Packs activations, `[⌈m / 8⌉][blocks]` of eight tokens each; those past the last one repeat it.
pub(crate) fn pack<'a, T: Tile>(team: &Team, x: &QuantizedRows<'_>, room: &'a mut [CacheLine]) -> Packed<'a> {
    let bytes = bytemuck::cast_slice_mut(room);
    Packed::Eights(match x.kind {
        ActivationKind::Q8K => pack_as::<panel_k::Tokens, T>(team, x, bytes),
        _ => pack_as::<panel_32::Tokens, T>(team, x, bytes),
    })
}

fn pack_as<'a, P: PackTokens, T: Tile>(team: &Team, x: &QuantizedRows<'_>, room: &'a mut [u8]) -> &'a [u8] {
    let n_blocks = x.k / x.kind.block_len();
    let room = &mut room[..x.m.div_ceil(8) * n_blocks * size_of::<[P; 2]>()];
    let packed = bytemuck::cast_slice_mut::<u8, [P; 2]>(room);
    team.for_each_chunk(packed, 4, |i, packed| {
        for (j, fours) in packed.iter_mut().enumerate() {
            let (eight, b) = ((4 * i + j) / n_blocks, (4 * i + j) % n_blocks);
            for (q, four) in fours.iter_mut().enumerate() {
                four.pack::<T>(x, four!(|i| (8 * eight + 4 * q + i).min(x.m - 1)), b);
            }
        }
    });
    room
}
