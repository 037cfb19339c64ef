//! AMX for many activation rows: a tile register multiplies sixteen tokens with sixteen weight rows. With few, AVX-512.

#[cfg(test)]
mod emulated;
mod registers;
mod tile_32;
mod tile_k;

use self::registers::Registers;
use crate::activation::rows::Activations;
use crate::matmul::formats::{Format32, FormatK};
use crate::matmul::panel::{panel_32, panel_k};
use crate::matmul::plan::FEW_ROWS;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::simd::avx512::rows::Avx512Rows;
use crate::weights::matrix::QuantMatrix;

/// Bytes of scratch for a strip of [`STRIP_ROWS`](crate::matmul::STRIP_ROWS) rows of `k` weights.
pub(crate) const fn scratch_bytes(k: usize) -> usize {
    let (k_quants, of_32) = (tile_k::scratch_bytes(k), tile_32::scratch_bytes(k));
    if k_quants > of_32 { k_quants } else { of_32 }
}

/// A [`StripFn`](crate::matmul::strip::StripFn).
///
/// # Safety
/// The CPU has AVX-512 with VNNI and AMX, and the system lets this process use it.
pub(crate) unsafe fn amx_panel_k<F: FormatK>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    // SAFETY: the caller vouches for both.
    unsafe {
        match x.m() {
            ..=FEW_ROWS => panel_k::<Avx512Rows, F>(w, x, y, scratch),
            _ => tile_k::tile_k::<_, F>(&Registers::new(&tile_k::SHAPES), w, x.quantized(), y, scratch),
        }
    }
}

/// A [`StripFn`](crate::matmul::strip::StripFn).
///
/// # Safety
/// As [`amx_panel_k`].
pub(crate) unsafe fn amx_panel_32<F: Format32>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    // SAFETY: the caller vouches for both.
    unsafe {
        match x.m() {
            ..=FEW_ROWS => panel_32::<Avx512Rows, F>(w, x, y, scratch),
            _ => tile_32::tile_32::<_, F>(&Registers::new(&tile_32::SHAPES), w, x.quantized(), y, scratch),
        }
    }
}
