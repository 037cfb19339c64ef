//! The bytes of a new tensor, some rows at a time.

use std::ops::Range;
use std::sync::Mutex;

use bise_kernels::quantize::QuantizeError as WeightError;
use bise_kernels::{KernelTable, Team, dequantize_row};

use super::error::QuantizeError;
use super::plan::PlannedTensor;
use super::source::Source;

/// Weights that are in hand at a time.
const SLAB: usize = 8 << 20;
/// Weights of a task, about. Blocks are quantized by sixteens, of 256 at most.
const TASK: usize = 64 << 10;

/// Makes the bytes of `tensor` from those of `source`, and passes them to `write` in order, with the number of bytes of the source that
/// they are made of.
///
/// # Errors
/// Where the source cannot be read, a weight is not finite or too large for the new type, and as `write`.
pub(super) fn for_each_slab(
    team: &Team,
    kernels: &KernelTable,
    tensor: &PlannedTensor,
    source: &dyn Source,
    out: &mut Vec<u8>,
    mut write: impl FnMut(&[u8], usize) -> Result<(), QuantizeError>,
) -> Result<(), QuantizeError> {
    let from = &tensor.source;
    let (k, n_rows) = (from.shape[0], from.n_rows());
    let rows_a_slab = (SLAB / k).max(1);
    // A slab is of one matrix, because experts have an importance each.
    let rows_a_matrix = from.rows_a_matrix();
    let end_of = |first: usize| (first + rows_a_slab).min((first / rows_a_matrix + 1) * rows_a_matrix);
    let row_bytes = tensor.tensor_type.bytes_for(k).expect("rows are whole blocks");
    let mut rows = 0..end_of(0);
    while !rows.is_empty() {
        let next = rows.end..if rows.end < n_rows { end_of(rows.end) } else { n_rows };
        if !next.is_empty() {
            source.ask_for(from, next.clone());
        }
        let expert = rows.start / rows_a_matrix;
        let importance = tensor.importance.as_ref().map(|columns| &columns[expert * k..][..k]);
        out.resize(row_bytes * rows.len(), 0);
        Rows { kernels, tensor, source, importance }.make(team, rows.clone(), out)?;
        write(out, from.row_bytes() * rows.len())?;
        source.leave(from, rows);
        rows = next;
    }
    Ok(())
}

/// Rows of one matrix.
struct Rows<'a> {
    kernels: &'a KernelTable,
    tensor: &'a PlannedTensor,
    source: &'a dyn Source,
    importance: Option<&'a [f32]>,
}

impl Rows<'_> {
    /// Makes `rows` and writes them to `out`, on all threads. Of several errors, that of the first weight is returned.
    fn make(&self, team: &Team, rows: Range<usize>, out: &mut [u8]) -> Result<(), QuantizeError> {
        let failed = FirstError::default();
        let row_bytes = out.len() / rows.len();
        let rows_a_task = (TASK / self.tensor.source.shape[0]).max(1);
        team.together(|| {
            team.for_each_chunk(out, rows_a_task * row_bytes, |i, out| {
                let first = rows.start + i * rows_a_task;
                failed.note(first, self.make_some(first..first + out.len() / row_bytes, out));
            });
        });
        failed.into_result()
    }

    fn make_some(&self, rows: Range<usize>, out: &mut [u8]) -> Result<(), QuantizeError> {
        let (from, k, first) =
            (&self.tensor.source, self.tensor.source.shape[0], rows.start * self.tensor.source.shape[0]);
        let n_weights = rows.len() * k;
        let bytes = self.source.rows(from, rows)?;
        let (Some(from), Some(to)) = (from.tensor_type.format(), self.tensor.tensor_type.format()) else {
            // A type that is only known by name is copied as it is.
            out.copy_from_slice(&bytes);
            return Ok(());
        };
        let mut x = vec![0.0; n_weights];
        dequantize_row(from, &bytes, &mut x);
        let made = if self.tensor.is_copied() {
            out.copy_from_slice(&bytes);
            let found = x.iter().position(|x| !x.is_finite());
            found.map_or(Ok(()), |index| Err(WeightError::NotFinite { index, value: x[index] }))
        } else {
            self.kernels.quantize_weights(to, k, &x, self.importance, out)
        };
        made.map_err(|error| not_possible(self.tensor, first, error))
    }
}

/// The error of the first row, whichever task is first to find one.
#[derive(Default)]
pub(super) struct FirstError(Mutex<Option<(usize, QuantizeError)>>);

impl FirstError {
    /// Notes the result of the task whose rows begin at `first`.
    pub fn note(&self, first: usize, done: Result<(), QuantizeError>) {
        if let Err(error) = done {
            let mut noted = self.0.lock().expect("no task panics with it");
            if noted.as_ref().is_none_or(|(at, _)| first < *at) {
                *noted = Some((first, error));
            }
        }
    }

    pub fn into_result(self) -> Result<(), QuantizeError> {
        self.0.into_inner().expect("no task panics with it").map_or(Ok(()), |(_, error)| Err(error))
    }
}

/// The error about a weight of rows that begin with weight `first` of the tensor.
pub(super) fn not_possible(tensor: &PlannedTensor, first: usize, error: WeightError) -> QuantizeError {
    let k = tensor.source.shape[0];
    let place = |index: usize| format!("row {}, column {}", (first + index) / k, (first + index) % k);
    let name = tensor.source.name.clone();
    match error {
        WeightError::NotFinite { index, value } => {
            let found = format!("{value} in {}", place(index));
            QuantizeError::Tensor { tensor: name, found, expected: "finite weights".into() }
        }
        WeightError::TooLarge { index, block_len, largest, format } => {
            let what = if block_len == 1 { "a weight" } else { "a block with weights" };
            let found = format!("{what} of {largest:e} in {}", place(index));
            QuantizeError::TooLarge { tensor: name, found, format: format.name() }
        }
    }
}
