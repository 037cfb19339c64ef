//! NEON: plain (Armv8.0), with `sdot` (dotprod) and with `smmla` (i8mm).
//!
//! The targets have NEON everywhere, so it is safe to use ([`intrinsics`](crate::simd::neon::intrinsics)). The two instructions that not every core has stand behind proof tokens ([`products::Dotprod`], [`products::I8mm`]): whoever holds one runs on a core that has them. The kernels are written
//! once, over [`products::Dot`] (few activation rows) and [`products::Tile`] (many).
//!
//! The arithmetic is that of [`crate::matmul::scalar`]: lanes are weight rows, four at a time.

// Rows, registers and tokens are numbers here, and one loop's number indexes several arrays.
#![allow(clippy::needless_range_loop)]

mod dot_32;
mod dot_k;
mod iq4_nl;
mod iq4_xs;
mod pack;
mod panel;
mod panel_32;
mod panel_k;
mod products;
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

use dot_32::dot_32;
use dot_k::dot_k;
pub(crate) use pack::pack;
use panel_32::panel_32;
use panel_k::panel_k;
pub(crate) use products::{Dot, Dotprod, I8mm, Neon, Tile};

use crate::matmul::strip::StripFn;
use crate::weights::block::*;
use crate::weights::format::Format;

macro_rules! by_format {
    ($isa:ident, $of_32:ident, $of_256:ident) => {
        [
            $of_32::<BlockQ8_0, $isa>,
            $of_32::<BlockQ4_0, $isa>,
            $of_32::<BlockQ4_1, $isa>,
            $of_32::<BlockQ5_0, $isa>,
            $of_32::<BlockQ5_1, $isa>,
            $of_256::<BlockQ2K, $isa>,
            $of_256::<BlockQ3K, $isa>,
            $of_256::<BlockQ4K, $isa>,
            $of_256::<BlockQ5K, $isa>,
            $of_256::<BlockQ6K, $isa>,
            $of_32::<BlockIQ4NL, $isa>,
            $of_256::<BlockIQ4XS, $isa>,
        ]
    };
}

/// Products with few activation rows, for each quantized format.
pub(crate) const fn dot<D: Dot>() -> [StripFn; Format::N_QUANTIZED] {
    by_format!(D, dot_32, dot_k)
}

/// Products with more activation rows, for each quantized format.
pub(crate) const fn panels<T: Tile>() -> [StripFn; Format::N_QUANTIZED] {
    by_format!(T, panel_32, panel_k)
}
