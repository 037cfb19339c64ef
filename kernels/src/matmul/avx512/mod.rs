//! AVX-512 with VNNI: sixteen weight rows at a time, one in each 32-bit lane.

// Rows, registers and tokens are numbers here, and one loop's number indexes several arrays.
#![allow(clippy::needless_range_loop)]

pub(crate) mod dot_32;
pub(crate) mod dot_k;
pub(crate) mod iq4_nl;
pub(crate) mod iq4_xs;
pub(crate) mod q2_k;
pub(crate) mod q3_k;
pub(crate) mod q4_0;
pub(crate) mod q4_1;
pub(crate) mod q4_k;
pub(crate) mod q5_0;
pub(crate) mod q5_1;
pub(crate) mod q5_k;
pub(crate) mod q6_k;
pub(crate) mod q8_0;
pub(crate) mod rows;
pub(crate) mod tile_32;
pub(crate) mod tile_k;

use dot_32::Quant32;
use dot_k::KQuant;

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
pub(crate) const PANEL: [StripFn; Format::N_QUANTIZED] = [
    tile_32::<q8_0::Q8_0>,
    tile_32::<q4_0::Q4_0>,
    tile_32::<q4_1::Q4_1>,
    tile_32::<q5_0::Q5_0>,
    tile_32::<q5_1::Q5_1>,
    tile_k::<q2_k::Q2K>,
    tile_k::<q3_k::Q3K>,
    tile_k::<q4_k::Q4K>,
    tile_k::<q5_k::Q5K>,
    tile_k::<q6_k::Q6K>,
    tile_32::<iq4_nl::Iq4Nl>,
    tile_k::<iq4_xs::Iq4Xs>,
];

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
unsafe fn tile_k<F: KQuant>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    // SAFETY: promised by the caller.
    unsafe {
        match x.m() {
            ..=FEW_ROWS => tile_k::few_k::<F>(w, x.quantized(), y, scratch),
            _ => tile_k::tile_k::<F>(w, x.quantized(), y, scratch),
        }
    }
}

/// A [`StripFn`](crate::matmul::strip::StripFn): the caller has the features.
unsafe fn tile_32<F: Quant32>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    // SAFETY: promised by the caller.
    unsafe {
        match x.m() {
            ..=FEW_ROWS => tile_32::few_32::<F>(w, x.quantized(), y, scratch),
            _ => tile_32::tile_32::<F>(w, x.quantized(), y, scratch),
        }
    }
}
