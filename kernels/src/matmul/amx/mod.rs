//! AVX-512, and AMX for many activation rows: a tile register multiplies sixteen tokens with sixteen weight rows.

mod registers;
mod tile_32;
mod tile_k;

use crate::activation::rows::Activations;
use crate::matmul::avx512::dot_32::Quant32;
use crate::matmul::avx512::dot_k::KQuant;
use crate::matmul::avx512::*;
use crate::matmul::plan::FEW_ROWS;
use crate::matmul::strip::{OutStrip, StripFn, StripScratch};
use crate::weights::format::Format;
use crate::weights::matrix::QuantMatrix;

/// Bytes of scratch for a strip of [`TILE_STRIP_ROWS`](crate::matmul::TILE_STRIP_ROWS) rows of `k` weights.
pub(crate) const fn scratch_bytes(k: usize) -> usize {
    let (k_quants, of_32) = (tile_k::scratch_bytes(k), tile_32::scratch_bytes(k));
    if k_quants > of_32 { k_quants } else { of_32 }
}

/// Products with many activation rows, by format from Q8_0 on.
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
unsafe fn tile_k<F: KQuant>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    // SAFETY: promised by the caller.
    unsafe {
        match x.m() {
            ..=FEW_ROWS => crate::matmul::avx512::tile_k::few_k::<F>(w, x.quantized(), y, scratch),
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
            ..=FEW_ROWS => crate::matmul::avx512::tile_32::few_32::<F>(w, x.quantized(), y, scratch),
            _ => tile_32::tile_32::<F>(w, x.quantized(), y, scratch),
        }
    }
}
