//! Quantizing with error feedback: what rounding a weight does to the output is made up for by the weights that are rounded after it.
//!
//! Scales are searched for as they are without feedback, when the first column of their block comes up, on the weights as they are to be
//! rounded then. Those of groups inside of a block, which are integers, are chosen anew when their group comes up.

mod columns;
mod grid;
mod scratch;

pub(crate) use columns::{FeedbackJob, quantize_columns};
pub use scratch::FeedbackScratch;

use super::QuantizeError;
use crate::linalg::factor::Factor;
use crate::linalg::product::ProductBlockFn;
use crate::weights::format::Format;

/// [`quantize_columns`] for one format on one instruction set.
///
/// # Safety
/// The CPU has the features of the instruction set.
pub(crate) type FeedbackFn = unsafe fn(FeedbackJob<'_>);

/// [`KernelTable::quantize_with_feedback`](crate::KernelTable::quantize_with_feedback) by `quantize`.
///
/// # Safety
/// The CPU has the features of `product` and `quantize`.
pub(crate) unsafe fn quantize_with_feedback(
    product: ProductBlockFn,
    quantize: FeedbackFn,
    format: Format,
    factor: &Factor,
    x: &[f32],
    out: &mut [u8],
    scratch: &mut FeedbackScratch,
) -> Result<(), QuantizeError> {
    let k = factor.k();
    let row_bytes = format.row_bytes(k).unwrap_or_else(|| panic!("rows of {k} weights for {format}"));
    assert!(x.len().is_multiple_of(k), "{} weights in rows of {k}", x.len());
    let n = x.len() / k;
    assert_eq!(out.len(), n * row_bytes, "bytes of {} {format} weights", x.len());
    super::check_weights(format, x)?;
    // Rows in whole vectors; those that fill them up are zeros.
    let width = n.next_multiple_of(16);
    scratch.columns.clear();
    scratch.columns.resize(k * width, 0.0);
    for (row, x) in x.chunks(k).enumerate() {
        for (i, x) in x.iter().enumerate() {
            scratch.columns[i * width + row] = *x;
        }
    }
    // SAFETY: the caller vouches for the CPU.
    unsafe { quantize(FeedbackJob { product, factor, n, width, out, scratch }) };
    super::check_halves(format, x, out)
}
