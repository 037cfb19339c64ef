//! How a product is cut: rows of a task, and the groups of rows that a task takes at a time.

use std::ops::Range;

/// Up to this many activation rows, reading the weights takes a good part of the time: they are read in long streams, and each block is
/// multiplied with all activations right after it is unpacked, in L1. With more, a strip of rows is unpacked to L2 first.
pub const FEW_ROWS: usize = 16;

/// Weight rows of a strip that is unpacked: its scratch stays in L2 while the activations pass by.
pub const STRIP_ROWS: usize = 64;

/// Bytes of weights in a task when there are few activation rows: sixteen lanes read 64 KB each.
const FEW_STRIP_BYTES: usize = 1 << 20;

/// Bytes of a task below which each thread gets one and not two: starting a task waits for its first rows, some microseconds.
const SECOND_STRIP_BYTES: usize = 256 << 10;

/// The groups of `lanes` weight rows in which a strip of `n_rows` is read where there are few activation rows: the first row of each group,
/// and the distance between its rows.
///
/// The rows of a group are `n_groups` apart, so that each lane reads neighbouring rows one after the other: one long stream a lane.
/// Neighbouring rows in the lanes would be many short streams, which neither the hardware prefetcher nor the TLB keep up with. (With many
/// activation rows the scattered stores cost more than that saves.)
#[cfg(target_arch = "x86_64")]
pub(crate) fn interleave(n_rows: usize, lanes: usize) -> impl Iterator<Item = (usize, usize)> {
    let n_groups = n_rows.div_ceil(lanes);
    (0..n_groups).map(move |first| (first, n_groups))
}

/// Bytes of the smallest task that is cut for the sake of balance.
const LAST_STRIP_BYTES: usize = 128 << 10;

/// The rows of a product, cut into tasks: equal ones, and at the end of a step some of falling size, so that a core of half the speed (or
/// one that another program shares) is not waited for.
pub(crate) struct Tasks {
    n_rows: usize,
    /// Rows of each of the first [`Tasks::n_equal`] tasks.
    rows: usize,
    n_equal: usize,
    /// Then the rows are halved so many times, each size serving so many tasks; the smallest serves all that are left.
    n_halvings: usize,
    n_of_a_size: usize,
    /// Rows are a multiple of 16, and where there are few activation rows an odd one: lanes that many rows apart do not meet in the same
    /// sets of the cache.
    odd: bool,
}

impl Tasks {
    /// For a matrix of `n_rows` rows in `n_bytes`, and `m` activation rows; `last` for the last product of a step, behind which a thread has
    /// nothing to go on with.
    pub fn new(n_rows: usize, n_bytes: usize, m: usize, n_threads: usize, last: bool) -> Tasks {
        let equal = |rows: usize| Tasks {
            n_rows,
            rows,
            n_equal: n_rows.div_ceil(rows),
            n_halvings: 0,
            n_of_a_size: n_threads,
            odd: m <= FEW_ROWS,
        };
        let uneven = last && n_threads > 1;
        if m > FEW_ROWS {
            return equal(STRIP_ROWS).falling(if uneven { 1 } else { 0 });
        }
        let n_strips = n_bytes.div_ceil(FEW_STRIP_BYTES);
        if uneven && n_bytes >= 4 * n_threads * SECOND_STRIP_BYTES {
            let rows = odd_rows(n_rows, n_strips.max(2 * n_threads));
            let task_bytes = n_bytes / n_rows * rows;
            return equal(rows).falling((task_bytes / LAST_STRIP_BYTES).max(1).ilog2() as usize);
        }
        // As many for each thread, so that all are done at the same time, and two if they are worth a second start, as one may be held up.
        let n_strips = n_strips.max((n_bytes / SECOND_STRIP_BYTES).clamp(n_threads, 2 * n_threads));
        equal(odd_rows(n_rows, n_strips.next_multiple_of(n_threads)))
    }

    /// Halves the rows so many times for the last ones, of which there are as many as fill one equal task of each thread. While a thread is
    /// busy with a task, as much is left for each of the others, whatever the size: one at half speed comes out even.
    fn falling(self, n_halvings: usize) -> Tasks {
        if n_halvings == 0 {
            return self;
        }
        let n_equal = self.n_rows.saturating_sub(self.n_of_a_size * self.rows) / self.rows;
        Tasks { n_equal, n_halvings, ..self }
    }

    fn rows_after(&self, halvings: usize) -> usize {
        let groups = ((self.rows / 16) >> halvings).max(1);
        16 * if self.odd { groups | 1 } else { groups }
    }

    /// The first row of task `i`, or one behind the last row.
    fn first(&self, i: usize) -> usize {
        let equal = i.min(self.n_equal);
        let (mut first, mut left) = (equal * self.rows, i - equal);
        for halvings in 1..self.n_halvings {
            let n = left.min(self.n_of_a_size);
            first += n * self.rows_after(halvings);
            left -= n;
        }
        first + left * self.rows_after(self.n_halvings)
    }

    /// The rows of task `i`; empty behind the last task.
    pub fn rows(&self, i: usize) -> Range<usize> {
        self.first(i).min(self.n_rows)..self.first(i + 1).min(self.n_rows)
    }

    pub fn len(&self) -> usize {
        // All of the sizes but the smallest, and then as many of that as are left.
        let n = self.n_equal + self.n_of_a_size * self.n_halvings.saturating_sub(1);
        match self.n_rows.checked_sub(self.first(n)) {
            Some(left) => n + left.div_ceil(self.rows_after(self.n_halvings)),
            None => (0..n).take_while(|i| self.first(*i) < self.n_rows).count(),
        }
    }
}

/// The rows of each of `n` tasks: an odd multiple of 16.
fn odd_rows(n_rows: usize, n: usize) -> usize {
    16 * (n_rows.div_ceil(16 * n) | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [(usize, usize); 12] = [
        // rows, bytes of a row: Mistral 7B in Q4_K and Q6_K, SmolLM2, and odd ones
        (4096, 2304),
        (1024, 2304),
        (14336, 2304),
        (4096, 8064),
        (32000, 3360),
        (576, 324),
        (192, 324),
        (1536, 324),
        (49152, 612),
        (1, 34),
        (17, 68),
        (100_003, 18),
    ];

    #[test]
    fn every_row_is_in_one_task() {
        for (n_rows, row_bytes) in SHAPES {
            for m in [1, FEW_ROWS, FEW_ROWS + 1, 512] {
                for n_threads in [1, 2, 3, 8, 64] {
                    for last in [false, true] {
                        let tasks = Tasks::new(n_rows, n_rows * row_bytes, m, n_threads, last);
                        let mut end = 0;
                        for i in 0..tasks.len() {
                            let rows = tasks.rows(i);
                            assert!(rows.start == end && !rows.is_empty(), "{rows:?} after {end}");
                            end = rows.end;
                        }
                        assert_eq!(end, n_rows, "{row_bytes} bytes a row, {m} tokens, {n_threads} threads");
                        assert!(tasks.rows(tasks.len()).is_empty());
                    }
                }
            }
        }
    }

    /// How much of the speeds' sum threads reach that take tasks in order, each costing its bytes and its start.
    fn efficiency(tasks: &Tasks, row_bytes: usize, start_bytes: usize, speeds: &[f64]) -> f64 {
        let mut busy_until = vec![0.0; speeds.len()];
        for i in 0..tasks.len() {
            let next =
                (0..speeds.len()).min_by(|a, b| f64::total_cmp(&busy_until[*a], &busy_until[*b])).unwrap();
            busy_until[next] += (tasks.rows(i).len() * row_bytes + start_bytes) as f64 / speeds[next];
        }
        let end = busy_until.into_iter().fold(0.0, f64::max);
        (tasks.n_rows * row_bytes) as f64 / speeds.iter().sum::<f64>() / end
    }

    #[test]
    fn a_core_of_half_the_speed_is_not_waited_for() {
        for (n_rows, row_bytes) in [(4096, 2304), (14336, 2304), (4096, 8064), (32000, 3360)] {
            // Reading a few rows in long stretches begins with a wait for memory; with many tokens that is nothing beside the products.
            for (m, start_bytes) in [(1, 10 << 10), (512, 1 << 10)] {
                for (speeds, at_least) in [
                    (&[1.0, 1.0][..], 0.95),
                    (&[1.0, 0.5], 0.95),
                    (&[0.5, 1.0], 0.95),
                    (&[1.0, 1.0, 1.0, 0.5], 0.9),
                    (&[1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5], 0.85),
                ] {
                    let n_bytes = n_rows * row_bytes;
                    let tasks = Tasks::new(n_rows, n_bytes, m, speeds.len(), true);
                    let reached = efficiency(&tasks, row_bytes, start_bytes, speeds);
                    assert!(
                        reached >= at_least,
                        "{n_rows} rows of {row_bytes}, {m} tokens, {speeds:?}: {reached}"
                    );
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_row_is_in_one_group() {
        for lanes in [8, 16] {
            for n_rows in [1, 7, 16, 17, 48, 63, 464] {
                let rows = interleave(n_rows, lanes).flat_map(|(first, apart)| {
                    (0..lanes).map(move |lane| first + lane * apart).filter(|row| *row < n_rows)
                });
                let mut rows: Vec<usize> = rows.collect();
                rows.sort_unstable();
                assert_eq!(rows, (0..n_rows).collect::<Vec<_>>(), "{n_rows} rows, {lanes} lanes");
            }
        }
    }
}
