//! How a product is cut: rows of a task, and the groups of rows that a task takes at a time.

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

/// Weight rows of a task, for a matrix of `n_rows` rows in `n_bytes` and `m` activation rows.
pub(crate) fn task_rows(n_rows: usize, n_bytes: usize, m: usize, n_threads: usize) -> usize {
    if m > FEW_ROWS {
        return TILE_STRIP_ROWS;
    }
    // As many for each thread, so that all are done at the same time, and two if they are worth a second start, as one may be held up.
    // Lanes an odd number of rows apart do not meet in the same sets of the cache.
    let n_strips = (n_bytes / SECOND_STRIP_BYTES).clamp(n_threads, 2 * n_threads);
    let n_strips = n_strips.max(n_bytes.div_ceil(FEW_STRIP_BYTES));
    16 * (n_rows.div_ceil(16 * n_strips.next_multiple_of(n_threads)) | 1)
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
