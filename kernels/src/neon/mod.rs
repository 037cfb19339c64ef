//! NEON: plain (Armv8.0), with `sdot` (dotprod) and with `smmla` (i8mm).
//!
//! The targets have NEON everywhere, so it is safe to use ([`intrinsics`]). The two instructions that not every core has stand behind proof tokens ([`simd::Dotprod`], [`simd::I8mm`]): whoever holds one runs on a core that has them. The kernels are written
//! once, over [`simd::Dot`] (few activation rows) and [`simd::Tile`] (many).
//!
//! The arithmetic is that of [`crate::scalar`]: lanes are weight rows, four at a time.

// Rows, registers and tokens are numbers here, and one loop's number indexes several arrays.
#![allow(clippy::needless_range_loop)]

mod dot_32;
mod dot_k;
mod intrinsics;
mod iq4_nl;
mod iq4_xs;
mod lanes;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod quantize;
mod simd;
mod tile;
mod tile_32;
mod tile_k;

use dot_32::dot_32;
use dot_k::dot_k;
use simd::{Dot, Dotprod, I8mm, Neon, Tile};
use tile_32::tile_32;
use tile_k::tile_k;

use crate::block::*;
use crate::dispatch::{KernelTable, StripFn};
use crate::{Format, Isa, lanes as lanes16};

const N: usize = Format::ALL.len();

pub(crate) static NEON: KernelTable = table::<Neon, Neon>(Isa::Neon);
pub(crate) static DOTPROD: KernelTable = table::<Dotprod, Dotprod>(Isa::NeonDotprod);
pub(crate) static I8MM: KernelTable = table::<Dotprod, I8mm>(Isa::NeonI8mm);

const fn table<D: Dot, T: Tile>(isa: Isa) -> KernelTable {
    let [f32, f16, bf16] = lanes16::NEON.product;
    let mut dot: [StripFn; N] = [f32; N];
    (dot[Format::F16 as usize], dot[Format::BF16 as usize]) = (f16, bf16);
    let mut tile = dot;
    macro_rules! quantized {
        ($($format:ident $block:ident $dot:ident $tile:ident)*) => {$(
            dot[Format::$format as usize] = $dot::<$block, D>;
            tile[Format::$format as usize] = $tile::<$block, T>;
        )*};
    }
    quantized! {
        Q8_0   BlockQ8_0   dot_32 tile_32
        Q4_0   BlockQ4_0   dot_32 tile_32
        Q4_1   BlockQ4_1   dot_32 tile_32
        Q5_0   BlockQ5_0   dot_32 tile_32
        Q5_1   BlockQ5_1   dot_32 tile_32
        IQ4_NL BlockIQ4NL  dot_32 tile_32
        Q2_K   BlockQ2K    dot_k  tile_k
        Q3_K   BlockQ3K    dot_k  tile_k
        Q4_K   BlockQ4K    dot_k  tile_k
        Q5_K   BlockQ5K    dot_k  tile_k
        Q6_K   BlockQ6K    dot_k  tile_k
        IQ4_XS BlockIQ4XS  dot_k  tile_k
    }
    KernelTable {
        isa,
        dot,
        tile,
        tuned: [true; N],
        takes_tiles: false,
        by_block: false,
        quantize_q8_0: quantize::quantize_row_q8_0,
        quantize_q8k: quantize::quantize_row_q8k,
        floats: lanes16::NEON,
    }
}
