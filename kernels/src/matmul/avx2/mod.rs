//! 256 bits: AVX2 alone, or with the `vpdpbusd` of AVX-VNNI or AVX-512 VL; eight weight rows at a time, one in each 32-bit lane.
//!
//! With few activation rows the weights come from memory no faster than AVX2 multiplies them, so the three tables share those kernels.

// Rows, registers and tokens are numbers here, and one loop's number indexes several arrays.
#![allow(clippy::needless_range_loop)]

mod dot_32;
mod dot_k;
mod iq4_nl;
mod iq4_xs;
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
mod rows;
mod tile_32;
mod tile_k;
mod vnni;

use dot_32::Quant32;
use dot_k::KQuant;
pub(crate) use vnni::{Evex, Maddubs, Sums, Vex};

use crate::activation::rows::Activations;
use crate::matmul::plan::FEW_ROWS;
use crate::matmul::strip::{OutStrip, StripFn, StripScratch};
use crate::weights::format::Format;
use crate::weights::matrix::QuantMatrix;

/// Products with few activation rows, by format from Q8_0 on.
pub(crate) const DOT: [StripFn; Format::N_QUANTIZED] = [
    dot_32::<q8_0::Q8_0>,
    dot_32::<q4_0::Q4_0>,
    dot_32::<q4_1::Q4_1>,
    dot_32::<q5_0::Q5_0>,
    dot_32::<q5_1::Q5_1>,
    dot_k::<q2_k::Q2K>,
    dot_k::<q3_k::Q3K>,
    dot_k::<q4_k::Q4K>,
    dot_k::<q5_k::Q5K>,
    dot_k::<q6_k::Q6K>,
    dot_32::<iq4_nl::Iq4Nl>,
    dot_k::<iq4_xs::Iq4Xs>,
];

/// Products with more, likewise.
pub(crate) const fn panel<S: Sums>() -> [StripFn; Format::N_QUANTIZED] {
    [
        tile_32::<S, q8_0::Q8_0>,
        tile_32::<S, q4_0::Q4_0>,
        tile_32::<S, q4_1::Q4_1>,
        tile_32::<S, q5_0::Q5_0>,
        tile_32::<S, q5_1::Q5_1>,
        tile_k::<S, q2_k::Q2K>,
        tile_k::<S, q3_k::Q3K>,
        tile_k::<S, q4_k::Q4K>,
        tile_k::<S, q5_k::Q5K>,
        tile_k::<S, q6_k::Q6K>,
        tile_32::<S, iq4_nl::Iq4Nl>,
        tile_k::<S, iq4_xs::Iq4Xs>,
    ]
}

/// A [`StripFn`](crate::matmul::strip::StripFn): the caller has the features.
unsafe fn dot_k<F: KQuant>(w: QuantMatrix<'_>, x: Activations<'_>, y: OutStrip<'_>, _: &mut StripScratch) {
    // SAFETY: promised by the caller.
    unsafe { dot_k::dot_k::<F>(w, x.quantized(), y) }
}

/// A [`StripFn`](crate::matmul::strip::StripFn): the caller has the features.
unsafe fn dot_32<F: Quant32>(w: QuantMatrix<'_>, x: Activations<'_>, y: OutStrip<'_>, _: &mut StripScratch) {
    // SAFETY: promised by the caller.
    unsafe { dot_32::dot_32::<F>(w, x.quantized(), y) }
}

/// A [`StripFn`](crate::matmul::strip::StripFn): the caller has the features.
unsafe fn tile_k<S: Sums, F: KQuant>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    // SAFETY: promised by the caller.
    unsafe {
        match x.m() {
            ..=FEW_ROWS => tile_k::few_k::<S, F>(w, x.quantized(), y, scratch),
            _ => tile_k::tile_k::<S, F>(w, x.quantized(), y, scratch),
        }
    }
}

/// A [`StripFn`](crate::matmul::strip::StripFn): the caller has the features.
unsafe fn tile_32<S: Sums, F: Quant32>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    // SAFETY: promised by the caller.
    unsafe {
        match x.m() {
            ..=FEW_ROWS => tile_32::few_32::<S, F>(w, x.quantized(), y, scratch),
            _ => tile_32::tile_32::<S, F>(w, x.quantized(), y, scratch),
        }
    }
}
