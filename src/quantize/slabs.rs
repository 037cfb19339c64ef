//! The bytes of a new tensor, some rows at a time.

use std::ops::Range;
use std::sync::Mutex;

use bise_kernels::quantize::QuantizeError as WeightError;
use bise_kernels::{Format, KernelTable, Team, dequantize_row};
use bise_models::gguf::{FileRanges, TensorBytes};

use super::error::QuantizeError;
use super::plan::PlannedTensor;

/// Weights that are in hand at a time.
const SLAB: usize = 8 << 20;
/// Weights of a task, about. Blocks are quantized by sixteens, of 256 at most.
const TASK: usize = 64 << 10;

/// Makes the bytes of `tensor` from those of the source, `bytes`, and passes them to `write` in order.
///
/// # Errors
/// Where a weight is not finite or too large for the new type, and as `write`.
pub(super) fn for_each_slab(
    team: &Team,
    kernels: &KernelTable,
    tensor: &PlannedTensor,
    bytes: &TensorBytes,
    out: &mut Vec<u8>,
    mut write: impl FnMut(&[u8], usize) -> Result<(), QuantizeError>,
) -> Result<(), QuantizeError> {
    let shape = &tensor.source.shape;
    let (k, from, to) = (shape[0], tensor.source.tensor_type, tensor.tensor_type);
    let row_bytes = bytes.len() / tensor.source.n_rows();
    let rows_a_slab = (SLAB / k).max(1);
    let slab_bytes = |rows: &Range<usize>| bytes.slice(rows.start * row_bytes..rows.end * row_bytes);
    // A slab is of one matrix, because experts have an importance each.
    let rows_a_matrix = shape.get(1).copied().unwrap_or(1);
    let mut first = 0;
    while first < tensor.source.n_rows() {
        let end_of_matrix = (first / rows_a_matrix + 1) * rows_a_matrix;
        let rows = first..(first + rows_a_slab).min(end_of_matrix);
        let source = slab_bytes(&rows);
        FileRanges::of([slab_bytes(&(rows.end..(rows.end + rows_a_slab).min(tensor.source.n_rows())))])
            .ask_for();
        let (Some(from), Some(to)) = (from.format(), to.format()) else {
            // A type that is only known by name is copied as it is.
            write(&source, source.len())?;
            first = rows.end;
            continue;
        };
        let expert = first / rows_a_matrix;
        let importance = tensor.importance.as_ref().map(|columns| &columns[expert * k..][..k]);
        let quantize = Rows { kernels, from, to, k, source: &source, importance };
        let made = match tensor.is_copied() {
            true => quantize.check(team).map(|()| &*source),
            false => {
                let new_row_bytes = to.row_bytes(k).expect("rows are whole blocks");
                out.resize(new_row_bytes * rows.len(), 0);
                quantize.run(team, out, new_row_bytes).map(|()| &out[..])
            }
        };
        let made = made.map_err(|error| not_possible(tensor, first * k, error))?;
        write(made, source.len())?;
        FileRanges::of([source]).leave();
        first = rows.end;
    }
    Ok(())
}

/// Rows of one matrix.
struct Rows<'a> {
    kernels: &'a KernelTable,
    from: Format,
    to: Format,
    k: usize,
    source: &'a [u8],
    importance: Option<&'a [f32]>,
}

impl Rows<'_> {
    fn rows_a_task(&self) -> usize {
        (TASK / self.k).max(1)
    }

    fn source_row_bytes(&self) -> usize {
        self.from.row_bytes(self.k).expect("rows are whole blocks")
    }

    /// Quantizes all rows to `out`. Of several errors, that of the first weight is returned.
    fn run(&self, team: &Team, out: &mut [u8], new_row_bytes: usize) -> Result<(), WeightError> {
        let failed = FirstError::default();
        let (row_bytes, rows_a_task) = (self.source_row_bytes(), self.rows_a_task());
        team.together(|| {
            team.for_each_chunk(out, rows_a_task * new_row_bytes, |i, out| {
                let n_rows = out.len() / new_row_bytes;
                let source = &self.source[i * rows_a_task * row_bytes..][..n_rows * row_bytes];
                let x = self.weights(source);
                let done = self.kernels.quantize_weights(self.to, self.k, &x, self.importance, out);
                failed.note(i * rows_a_task * self.k, done);
            });
        });
        failed.into_result()
    }

    /// Looks for weights that are not finite.
    fn check(&self, team: &Team) -> Result<(), WeightError> {
        let failed = FirstError::default();
        let (row_bytes, rows_a_task) = (self.source_row_bytes(), self.rows_a_task());
        let tasks: Vec<&[u8]> = self.source.chunks(rows_a_task * row_bytes).collect();
        team.together(|| {
            team.run(tasks.len(), |i, _| {
                let x = self.weights(tasks[i]);
                let found = x.iter().position(|x| !x.is_finite());
                let done =
                    found.map_or(Ok(()), |index| Err(WeightError::NotFinite { index, value: x[index] }));
                failed.note(i * rows_a_task * self.k, done);
            });
        });
        failed.into_result()
    }

    fn weights(&self, source: &[u8]) -> Vec<f32> {
        let mut x = vec![0.0; source.len() / self.source_row_bytes() * self.k];
        dequantize_row(self.from, source, &mut x);
        x
    }
}

/// The error of the first weight, whichever task is first to find one.
#[derive(Default)]
struct FirstError(Mutex<Option<(usize, WeightError)>>);

impl FirstError {
    /// Notes the result of the task whose weights begin at `first`.
    fn note(&self, first: usize, done: Result<(), WeightError>) {
        if let Err(error) = done {
            let mut noted = self.0.lock().expect("no task panics with it");
            if noted.as_ref().is_none_or(|(at, _)| first < *at) {
                *noted = Some((first, error));
            }
        }
    }

    fn into_result(self) -> Result<(), WeightError> {
        match self.0.into_inner().expect("no task panics with it") {
            None => Ok(()),
            Some((first, error)) => Err(moved(error, first)),
        }
    }
}

/// The error of a weight that is `by` further on.
fn moved(error: WeightError, by: usize) -> WeightError {
    match error {
        WeightError::NotFinite { index, value } => WeightError::NotFinite { index: index + by, value },
        WeightError::TooLarge { index, block_len, largest, format } => {
            WeightError::TooLarge { index: index + by, block_len, largest, format }
        }
    }
}

fn not_possible(tensor: &PlannedTensor, first: usize, error: WeightError) -> QuantizeError {
    let k = tensor.source.shape[0];
    let place = |index: usize| format!("row {}, column {}", index / k, index % k);
    let (found, expected) = match moved(error, first) {
        WeightError::NotFinite { index, value } => {
            (format!("{value} in {}", place(index)), "finite weights".to_owned())
        }
        WeightError::TooLarge { index, block_len, largest, format } => {
            let what = if block_len == 1 { "a weight" } else { "a block with weights" };
            (
                format!("{what} of {largest:e} in {}", place(index)),
                format!("what the halves of {format} can hold"),
            )
        }
    };
    QuantizeError::Tensor { tensor: tensor.source.name.clone(), found, expected }
}
