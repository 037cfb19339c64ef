//! Weights from f32 to every format.
//!
//! A format says how sixteen blocks are quantized side by side, one a lane, so that no sum ever runs across lanes: every [`Isa`](crate::Isa)
//! finds the same bits, and so does every division of a matrix among threads. Without importance, the scales are those of llama.cpp's
//! `ggml-quants.c`. With it, the searches are the same; levels are then those nearest to the weights under the scales as they are stored.
//!
//! With error feedback, the error of a column is made up for by the columns that are rounded after it. Let `H = XᵀX = UᵀU` for the inputs `X` of
//! a matrix, `U` upper triangular. Columns are rounded from the last to the first: column `i` at `w[i] + Σ e[j] · U[i][j] / U[i][i]` over the
//! columns `j > i`, where `e = w − q` are their errors. That is where the error of the output, `e·H·eᵀ`, is least for the errors so far. It is
//! GPTQ (<https://arxiv.org/abs/2210.17323>) in the form of LDLQ (<https://arxiv.org/abs/2307.13304>), in reverse, so that no inverse is needed.

mod batch;
mod feedback;
mod floats;
mod half_scale;
mod iq4_nl;
mod iq4_xs;
mod pack;
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
mod scales_mins;
mod search;
mod vector;

pub use feedback::FeedbackScratch;

pub(crate) use batch::{Job, quantize_blocks};
pub(crate) use feedback::{FeedbackFn, FeedbackJob, quantize_columns, quantize_with_feedback};
pub(crate) use iq4_nl::Iq4Nl;
pub(crate) use iq4_xs::Iq4Xs;
pub(crate) use q2_k::Q2K;
pub(crate) use q3_k::Q3K;
pub(crate) use q4_0::Q4_0;
pub(crate) use q4_1::Q4_1;
pub(crate) use q4_k::Q4K;
pub(crate) use q5_0::Q5_0;
pub(crate) use q5_1::Q5_1;
pub(crate) use q5_k::Q5K;
pub(crate) use q6_k::Q6K;
pub(crate) use q8_0::Q8_0;

use crate::weights::format::Format;

/// Weights that a format cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum QuantizeError {
    /// A NaN or an infinite weight.
    #[error("weight {index} is {value}")]
    NotFinite {
        /// Its place among the weights, from 0.
        index: usize,
        /// What it is.
        value: f32,
    },
    /// A weight, or the scale of a block, is larger than a half can be.
    #[error("the block of {block_len} weights at {index} reaches {largest:e}, which {format} cannot hold")]
    TooLarge {
        /// The place of the block's first weight, from 0.
        index: usize,
        /// Weights in the block.
        block_len: usize,
        /// The largest magnitude in it.
        largest: f32,
        /// The format.
        format: Format,
    },
}

/// Quantizes a whole batch of blocks of one format.
///
/// # Safety
/// The CPU has the features of the [`Isa`](crate::Isa) the function was written for.
pub(crate) type QuantizeBlocksFn = unsafe fn(job: Job<'_>);

/// [`KernelTable::quantize_weights`](crate::KernelTable::quantize_weights) with the quantizers of one instruction set.
///
/// # Safety
/// The CPU has its features.
pub(crate) unsafe fn quantize_weights(
    quantizers: &[QuantizeBlocksFn; Format::N_QUANTIZED],
    format: Format,
    k: usize,
    x: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), QuantizeError> {
    let row_bytes = format.row_bytes(k).unwrap_or_else(|| panic!("rows of {k} weights for {format}"));
    assert!(k > 0 && x.len().is_multiple_of(k), "{} weights in rows of {k}", x.len());
    assert_eq!(out.len(), x.len() / k * row_bytes, "bytes of {} {format} weights", x.len());
    assert!(importance.is_none_or(|w| w.len() == k), "importance of {k} columns");
    check_weights(format, x)?;
    match format {
        Format::F32 => floats::to_f32(x, out),
        Format::F16 => floats::to_f16(x, out),
        Format::BF16 => floats::to_bf16(x, out),
        _ => {
            let quantize = quantizers[format as usize - (Format::ALL.len() - Format::N_QUANTIZED)];
            // SAFETY: the caller vouches for the CPU.
            unsafe { quantize(Job { k, x, importance, out }) }
        }
    }
    check_halves(format, x, out)
}

/// Looks for weights that no block of `format` can hold.
fn check_weights(format: Format, x: &[f32]) -> Result<(), QuantizeError> {
    if let Some(index) = first_not_finite(x) {
        return Err(QuantizeError::NotFinite { index, value: x[index] });
    }
    if format.block_len() > 1
        && let Some(index) = first(x, |x| x.abs() > LARGEST)
    {
        return Err(too_large(format, x, index / format.block_len()));
    }
    Ok(())
}

/// Looks for scales in `out`, the blocks of `x`, that a half cannot hold.
fn check_halves(format: Format, x: &[f32], out: &[u8]) -> Result<(), QuantizeError> {
    half_scale::first_too_large(format, out).map_or(Ok(()), |block| Err(too_large(format, x, block)))
}

fn too_large(format: Format, x: &[f32], block: usize) -> QuantizeError {
    let block_len = format.block_len();
    let largest = x[block * block_len..][..block_len].iter().fold(0f32, |max, x| max.max(x.abs()));
    QuantizeError::TooLarge { index: block * block_len, block_len, largest, format }
}

/// Larger than any format with blocks can hold, and small enough for squares in the searches.
const LARGEST: f32 = 1e9;

fn first_not_finite(x: &[f32]) -> Option<usize> {
    // The exponent of what is not finite is all ones.
    const EXPONENT: u32 = 0x7f80_0000;
    first(x, |x| x.to_bits() & EXPONENT == EXPONENT)
}

/// The place of the first number that is `odd`.
fn first(x: &[f32], odd: impl Fn(f32) -> bool) -> Option<usize> {
    x.chunks(64).enumerate().find_map(|(i, chunk)| {
        // Without an early exit inside of a chunk, so that it is a few vector instructions.
        let any = chunk.iter().fold(false, |any, x| any | odd(*x));
        if any { Some(64 * i + chunk.iter().position(|x| odd(*x))?) } else { None }
    })
}
