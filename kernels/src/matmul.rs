//! `y = x·Wᵀ`: splits products into strips of weight rows and hands them to the team.

use crate::{Activations, KernelTable, OutStrip, QuantMatrix, StripScratch, Team};
use std::sync::Mutex;

/// Activation rows from which unpacking weights pays.
pub const TILE_MIN_ROWS: usize = 5;

/// Activation rows up to which reading the weights takes a good part of the time: they are read in long stretches, and a block that is
/// unpacked meets all activations before it leaves the first cache. From there on, a strip is unpacked to the second.
pub const FEW_ROWS: usize = 16;

/// Weight rows of a strip that is unpacked: its scratch stays in L2 while the activations pass by.
pub const TILE_STRIP_ROWS: usize = 64;

/// Bytes of weights in a task when there are few activation rows: each of its sixteen lanes reads a stretch of 64 KB.
const FEW_STRIP_BYTES: usize = 1 << 20;

/// Bytes of a task below which a thread has one and not two: its first rows are waited for, some microseconds of weights.
const SECOND_STRIP_BYTES: usize = 256 << 10;

/// The groups of `lanes` weight rows that a strip of `n_rows` is taken in where there are few activation rows: the first row of each, and
/// how far apart its rows lie.
///
/// Neighbours in the lanes of a register are as many short streams, two in a page, which neither the hardware's guesses nor its search for
/// the addresses of pages keep up with. So rows are dealt out: each lane reads one long stretch. (With many activation rows, storing sums
/// apart costs more than it brings.)
#[cfg(target_arch = "x86_64")]
pub(crate) fn deal(n_rows: usize, lanes: usize) -> impl Iterator<Item = (usize, usize)> {
    let n_groups = n_rows.div_ceil(lanes);
    (0..n_groups).map(move |first| (first, n_groups))
}

/// One matrix of a [`matmul`], and where its product goes: `y [m, n_rows]`.
pub struct Product<'a> {
    /// Weights `[n_rows, k]`.
    pub w: QuantMatrix<'a>,
    /// Output `[m, n_rows]`.
    pub y: &'a mut [f32],
}

/// Bytes of scratch that each thread needs for products with rows of `k` weights.
pub fn scratch_bytes(k: usize) -> usize {
    // Values in 8 bits; block scales and mins in f32 (32-element blocks: 2 × 4 bytes each); sub-block scales and mins in i16. Then a
    // tile of activations with their scales and sums.
    let bytes =
        TILE_STRIP_ROWS * (k + 2 * 4 * k.div_ceil(32) + 2 * 2 * k.div_ceil(16)) + 48 * k.min(4096) + 4096;
    #[cfg(target_arch = "x86_64")]
    let bytes = bytes.max(crate::avx512::amx::scratch_bytes(k));
    bytes
}

/// Multiplies the activations with several matrices in one parallel step.
///
/// `scratch` has one entry for each thread of the team, of at least [`scratch_bytes`].
///
/// # Panics
/// Where shapes do not fit, or activations have not the form that a matrix's format asks for.
pub fn matmul(
    team: &Team,
    kernels: &KernelTable,
    products: &mut [Product<'_>],
    x: Activations<'_>,
    scratch: &[Mutex<StripScratch>],
) {
    let m = x.m();
    let tiled = m >= TILE_MIN_ROWS;
    let strips: Vec<Strip> = products.iter_mut().map(|p| Strip::new(p, m, team.n_threads())).collect();
    let n_tasks = strips.iter().map(|s| s.n_tasks).sum();
    team.run(n_tasks, |mut task, worker| {
        let mut i = 0;
        while task >= strips[i].n_tasks {
            task -= strips[i].n_tasks;
            i += 1;
        }
        let strip = &strips[i];
        let first = task * strip.rows;
        let n = strip.rows.min(strip.w.n_rows() - first);
        let w = strip.w.rows(first, n);
        // SAFETY: each task has columns of its own of an output that `products` borrows mutably.
        let y = unsafe { OutStrip::new(strip.y.0.add(first), strip.w.n_rows(), n, m) };
        let scratch = &mut *scratch[worker].lock().unwrap();
        if tiled { kernels.tile(w, x, y, scratch) } else { kernels.dot(w, x, y, scratch) }
    });
}

/// A product cut into tasks of `rows` weight rows.
struct Strip<'a> {
    w: QuantMatrix<'a>,
    y: Output,
    rows: usize,
    n_tasks: usize,
}

struct Output(*mut f32);
// SAFETY: tasks write disjoint columns.
unsafe impl Sync for Output {}

impl<'a> Strip<'a> {
    fn new(p: &mut Product<'a>, m: usize, n_threads: usize) -> Self {
        let n_rows = p.w.n_rows();
        assert_eq!(p.y.len(), m * n_rows, "output of a product of {m} x {n_rows}");
        let rows = if m > FEW_ROWS {
            TILE_STRIP_ROWS
        } else {
            // As many for each thread, so that all are done at the same time, and two if they are worth a second start, as one may be
            // held up. Lanes an odd number of rows apart do not meet in the same sets of the cache.
            let n_bytes = p.w.bytes().len();
            let n_strips = (n_bytes / SECOND_STRIP_BYTES).clamp(n_threads, 2 * n_threads);
            let n_strips = n_strips.max(n_bytes.div_ceil(FEW_STRIP_BYTES));
            16 * (n_rows.div_ceil(16 * n_strips.next_multiple_of(n_threads)) | 1)
        };
        Strip { w: p.w, y: Output(p.y.as_mut_ptr()), rows, n_tasks: n_rows.div_ceil(rows) }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_dealt_once() {
        for lanes in [8, 16] {
            for n_rows in [1, 7, 16, 17, 48, 63, 464] {
                let rows = deal(n_rows, lanes).flat_map(|(first, apart)| {
                    (0..lanes).map(move |lane| first + lane * apart).filter(|row| *row < n_rows)
                });
                let mut rows: Vec<usize> = rows.collect();
                rows.sort_unstable();
                assert_eq!(rows, (0..n_rows).collect::<Vec<_>>(), "{n_rows} rows, {lanes} lanes");
            }
        }
    }
}
