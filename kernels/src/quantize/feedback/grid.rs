//! What weights a block can hold once its scales are chosen.

use crate::quantize::batch::Quantize;
use crate::quantize::pack::{
    bits_k, crumbs, fifth_bits, nibbles, nibbles_iq4, nibbles_k, nibbles_q6, scales_iq4, scales_mins_k,
    scales_q3, spread,
};
use crate::quantize::{Iq4Nl, Iq4Xs, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
use crate::weights::block::Block;
use crate::weights::unpack::{Block32, BlockK, Unpacked32, UnpackedK};

/// A number for each of up to sixteen groups, of sixteen blocks.
pub(crate) type Lanes16 = [[f32; 16]; 16];

/// The scales of blocks, and the integers of their groups.
pub(crate) struct Integers {
    pub d: [f32; 16],
    pub dmin: [f32; 16],
    pub scales: Lanes16,
    pub mins: Lanes16,
}

impl Integers {
    pub const ZERO: Integers =
        Integers { d: [0.0; 16], dmin: [0.0; 16], scales: [[0.0; 16]; 16], mins: [[0.0; 16]; 16] };
}

/// Sixteen blocks of `N` weights: level `l` of a group stands for `scale · l + offset`, rounded twice.
pub(crate) trait Grid<const N: usize>: Quantize<N> {
    /// Weights in a group with a scale of its own.
    const GROUP: usize;
    /// The levels, or the codes of a codebook.
    const LOWEST: f32;
    /// The highest of them.
    const HIGHEST: f32;
    /// Whether levels are codes of [`KVALUES_IQ4`](crate::weights::block::KVALUES_IQ4).
    const CODES: bool;

    /// Whether the scales and mins of groups are integers, under a scale of the block.
    const HAS_INTEGERS: bool = false;
    /// The lowest and the highest of such scales.
    const SCALES: (f32, f32) = (0.0, 0.0);
    /// The highest of such mins.
    const HIGHEST_MIN: f32 = 0.0;

    /// The scale and the offset of each group of each block.
    fn scales(blocks: &[Self::Block; 16], scales: &mut Lanes16, offsets: &mut Lanes16);

    /// The integers, where there are some.
    fn integers(_: &[Self::Block; 16], _: &mut Integers) {}

    /// Replaces the integer scales and mins.
    fn store_integers(_: &Integers, _: &mut [Self::Block; 16]) {}

    /// Replaces the levels, which are stored from 0 on.
    fn store(levels: &[[u8; 16]; N], blocks: &mut [Self::Block; 16]);
}

#[inline(always)]
fn scales_32<B: Block32 + Block>(blocks: &[B; 16], _: usize, scales: &mut Lanes16, offsets: &mut Lanes16) {
    let mut u = Unpacked32::ZERO;
    for (b, block) in blocks.iter().enumerate() {
        block.unpack(&mut u);
        (scales[0][b], offsets[0][b]) = (u.d, u.m);
    }
}

#[inline(always)]
fn scales_k<B: BlockK + Block>(blocks: &[B; 16], group: usize, scales: &mut Lanes16, offsets: &mut Lanes16) {
    let mut u = UnpackedK::ZERO;
    for (b, block) in blocks.iter().enumerate() {
        block.unpack(&mut u);
        for g in 0..256 / group {
            let j = g * group / 16;
            (scales[g][b], offsets[g][b]) = (u.d * u.scales[j] as f32, -(u.dmin * u.mins[j] as f32));
        }
    }
}

#[inline(always)]
fn integers_k<B: BlockK + Block>(blocks: &[B; 16], group: usize, integers: &mut Integers) {
    let mut u = UnpackedK::ZERO;
    for (b, block) in blocks.iter().enumerate() {
        block.unpack(&mut u);
        (integers.d[b], integers.dmin[b]) = (u.d, u.dmin);
        for g in 0..256 / group {
            let j = g * group / 16;
            (integers.scales[g][b], integers.mins[g][b]) = (f32::from(u.scales[j]), f32::from(u.mins[j]));
        }
    }
}

/// Integers as they are stored, `shift` being stored as 0.
fn stored<const G: usize>(x: &Lanes16, shift: f32) -> [[u8; 16]; G] {
    std::array::from_fn(|g| x[g].map(|x| (x - shift) as i32 as u8))
}

macro_rules! grid {
    (
        $format:ident, $n:literal / $group:literal, $scales:ident, $levels:ident from $lowest:literal to $highest:literal,
        |$l:ident, $blocks:ident| $store:block
        $(, scales from $lowest_scale:literal to $highest_scale:literal, mins to $highest_min:literal,
        |$i:ident, $i_blocks:ident| $store_integers:block)?
    ) => {
        impl Grid<$n> for $format {
            const GROUP: usize = $group;
            const LOWEST: f32 = $lowest;
            const HIGHEST: f32 = $highest;
            const CODES: bool = stringify!($levels).len() == "codes".len();

            #[inline(always)]
            fn scales(blocks: &[Self::Block; 16], scales: &mut Lanes16, offsets: &mut Lanes16) {
                $scales(blocks, $group, scales, offsets)
            }

            #[inline(always)]
            fn store($l: &[[u8; 16]; $n], $blocks: &mut [Self::Block; 16]) $store

            $(
                const HAS_INTEGERS: bool = true;
                const SCALES: (f32, f32) = ($lowest_scale, $highest_scale);
                const HIGHEST_MIN: f32 = $highest_min;

                #[inline(always)]
                fn integers(blocks: &[Self::Block; 16], integers: &mut Integers) {
                    integers_k(blocks, $group, integers)
                }

                #[inline(always)]
                fn store_integers($i: &Integers, $i_blocks: &mut [Self::Block; 16]) $store_integers
            )?
        }
    };
}

grid!(Q8_0, 32 / 32, scales_32, levels from -127.0 to 127.0, |levels, blocks| {
    for (i, row) in levels.iter().enumerate() {
        for (block, level) in blocks.iter_mut().zip(row) {
            block.qs[i] = level.wrapping_sub(127) as i8;
        }
    }
});
grid!(Q4_0, 32 / 32, scales_32, levels from -8.0 to 7.0, |levels, blocks| {
    spread!(nibbles(levels) => blocks.qs);
});
grid!(Q4_1, 32 / 32, scales_32, levels from 0.0 to 15.0, |levels, blocks| {
    spread!(nibbles(levels) => blocks.qs);
});
grid!(Q5_0, 32 / 32, scales_32, levels from -16.0 to 15.0, |levels, blocks| {
    spread!(nibbles(levels) => blocks.qs);
    spread!(fifth_bits(levels) => blocks.qh);
});
grid!(Q5_1, 32 / 32, scales_32, levels from 0.0 to 31.0, |levels, blocks| {
    spread!(nibbles(levels) => blocks.qs);
    spread!(fifth_bits(levels) => blocks.qh);
});
grid!(Iq4Nl, 32 / 32, scales_32, codes from 0.0 to 15.0, |codes, blocks| {
    spread!(nibbles(codes) => blocks.qs);
});
grid!(Q2K, 256 / 16, scales_k, levels from 0.0 to 3.0, |levels, blocks| {
    spread!(crumbs(levels, 0) => blocks.qs);
}, scales from 0.0 to 15.0, mins to 15.0, |integers, blocks| {
    let (scales, mins) = (stored::<16>(&integers.scales, 0.0), stored::<16>(&integers.mins, 0.0));
    for j in 0..16 {
        for (b, block) in blocks.iter_mut().enumerate() {
            block.scales[j] = scales[j][b] | mins[j][b] << 4;
        }
    }
});
grid!(Q3K, 256 / 16, scales_k, levels from -4.0 to 3.0, |levels, blocks| {
    spread!(bits_k(levels, 2) => blocks.hmask);
    spread!(crumbs(levels, 0) => blocks.qs);
}, scales from -32.0 to 31.0, mins to 0.0, |integers, blocks| {
    spread!(scales_q3(&stored(&integers.scales, -32.0)) => blocks.scales);
});
grid!(Q4K, 256 / 32, scales_k, levels from 0.0 to 15.0, |levels, blocks| {
    spread!(nibbles_k(levels) => blocks.qs);
}, scales from 0.0 to 63.0, mins to 63.0, |integers, blocks| {
    spread!(scales_mins_k(&stored(&integers.scales, 0.0), &stored(&integers.mins, 0.0)) => blocks.scales);
});
grid!(Q5K, 256 / 32, scales_k, levels from 0.0 to 31.0, |levels, blocks| {
    spread!(bits_k(levels, 4) => blocks.qh);
    spread!(nibbles_k(levels) => blocks.qs);
}, scales from 0.0 to 63.0, mins to 63.0, |integers, blocks| {
    spread!(scales_mins_k(&stored(&integers.scales, 0.0), &stored(&integers.mins, 0.0)) => blocks.scales);
});
grid!(Q6K, 256 / 16, scales_k, levels from -32.0 to 31.0, |levels, blocks| {
    spread!(nibbles_q6(levels) => blocks.ql);
    spread!(crumbs(levels, 4) => blocks.qh);
}, scales from -128.0 to 127.0, mins to 0.0, |integers, blocks| {
    for (j, scales) in stored::<16>(&integers.scales, 0.0).iter().enumerate() {
        for (block, scale) in blocks.iter_mut().zip(scales) {
            block.scales[j] = *scale as i8;
        }
    }
});
grid!(Iq4Xs, 256 / 32, scales_k, codes from 0.0 to 15.0, |codes, blocks| {
    spread!(nibbles_iq4(codes) => blocks.qs);
}, scales from -32.0 to 31.0, mins to 0.0, |integers, blocks| {
    let (low, high) = scales_iq4(&stored(&integers.scales, -32.0));
    spread!(low => blocks.scales_l);
    spread!(high => blocks.scales_h);
});
