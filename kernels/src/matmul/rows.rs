//! The weight rows that a kernel reads at a time, and their prefetches.

use crate::simd::row_lanes::{MAX_ROWS, RowLanes};
use crate::weights::matrix::QuantMatrix;

/// How far ahead of its use a row is prefetched where panels are unpacked.
pub(crate) const PREFETCH_BYTES: usize = 512;

/// A pointer for each lane. Of the `n` rows read at a time, lane `p` reads row `p % n`, and of the consecutive groups of blocks of that row
/// group `p / n`.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    /// Where each lane's first group starts.
    lanes: [*const u8; MAX_ROWS],
    group_bytes: usize,
    /// Bytes from there to the groups that are next.
    at: usize,
    /// Bytes from there to what is prefetched now.
    ahead: usize,
    distance: usize,
    row_bytes: usize,
    /// Bytes from the end of a row to the one that a lane reads after it.
    gap: usize,
}

impl Rows {
    /// The `n` rows `first`, `first + apart`, `first + 2·apart` and so on of `w`, for lanes that read groups of `group_bytes`. Rows past the
    /// last one are replaced by the last: their sums are computed and not stored.
    #[inline(always)]
    pub(crate) fn new<S: RowLanes>(
        s: S,
        w: &QuantMatrix<'_>,
        (first, apart): (usize, usize),
        n: usize,
        group_bytes: usize,
        distance: usize,
    ) -> Rows {
        // From the matrix's bytes, not a row's: a lane goes from row to row.
        let (matrix, row_bytes, last) = (w.bytes().as_ptr(), w.row_bytes(), w.n_rows() - 1);
        let mut lanes = [matrix; MAX_ROWS];
        for p in 0..S::ROWS {
            let row = (first + p % n * apart).min(last);
            lanes[p] = matrix.wrapping_add(row * row_bytes + p / n * group_bytes);
        }
        if first == 0 && apart > 1 {
            // Each row prefetches the next one; nothing has prefetched the first.
            for row in &lanes[..n] {
                for line in (0..distance.min(row_bytes)).step_by(64) {
                    s.prefetch(row.wrapping_add(line));
                }
            }
        }
        let gap = if apart == 1 { (S::ROWS - 1) * row_bytes } else { 0 };
        let mut rows = Rows { lanes, group_bytes, at: 0, ahead: 0, distance, row_bytes, gap };
        rows.skip(0);
        rows
    }

    /// Neighbouring rows from `first` on, a lane each, as panels take them.
    #[inline(always)]
    pub(crate) fn neighbours<S: RowLanes>(s: S, w: &QuantMatrix<'_>, first: usize) -> Rows {
        Rows::new(s, w, (first, 1), S::ROWS, 0, PREFETCH_BYTES)
    }

    /// Goes `bytes` on in every row.
    #[inline(always)]
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
        self.ahead = self.at + self.distance;
        if self.ahead >= self.row_bytes {
            self.ahead += self.gap;
        }
    }

    /// The address of lane `p`'s next group; `n` is the number of rows at a time.
    #[inline(always)]
    pub(crate) fn group(&self, p: usize, n: usize) -> *const u8 {
        self.lanes[p % n].wrapping_add(self.at + p / n * self.group_bytes)
    }

    /// Prefetches lane `p`'s share of `bytes` at the prefetch distance, which may be in the row after this one.
    #[inline(always)]
    pub(crate) fn prefetch<S: RowLanes>(&self, s: S, p: usize, n: usize, bytes: usize) {
        let (lines, groups) = (bytes.div_ceil(64), S::ROWS / n);
        for line in p / n * lines / groups..(p / n + 1) * lines / groups {
            s.prefetch(self.lanes[p % n].wrapping_add(self.ahead + 64 * line));
        }
    }

    /// Four dwords of each lane's group from byte `at` on: dword `j` of lane `i` is lane `i` of register `j`.
    ///
    /// # Safety
    /// Each lane has a whole group left, with bytes `at..at + 16`.
    #[inline(always)]
    pub(crate) unsafe fn dwords4<S: RowLanes>(&self, s: S, at: usize) -> [S::I; 4] {
        // SAFETY: the caller vouches for the bytes.
        unsafe { s.dwords4(&self.lanes, self.at + at) }
    }

    /// Eight dwords of each lane's group from byte `at` on.
    ///
    /// # Safety
    /// As [`Rows::dwords4`], with bytes `at..at + 32`.
    #[inline(always)]
    pub(crate) unsafe fn dwords8<S: RowLanes>(&self, s: S, at: usize) -> [S::I; 8] {
        // SAFETY: the caller vouches for the bytes.
        let ([a, b, c, d], [e, f, g, h]) = unsafe { (self.dwords4(s, at), self.dwords4(s, at + 16)) };
        [a, b, c, d, e, f, g, h]
    }

    /// Sixteen dwords of each lane's group from byte `at` on.
    ///
    /// # Safety
    /// As [`Rows::dwords4`], with bytes `at..at + 64`.
    #[inline(always)]
    pub(crate) unsafe fn dwords16<S: RowLanes>(&self, s: S, at: usize) -> [S::I; 16] {
        // SAFETY: the caller vouches for the bytes.
        unsafe { s.dwords16(&self.lanes, self.at + at) }
    }
}

/// Transposes as many registers of dwords as a register has lanes.
#[inline(always)]
pub(crate) fn transpose<S: RowLanes>(s: S, v: &[S::I; MAX_ROWS]) -> [S::I; MAX_ROWS] {
    let mut by_quarter = [[s.zero(); 4]; 4];
    for g in 0..S::QUARTERS {
        by_quarter[g] = s.transpose_dwords([v[4 * g], v[4 * g + 1], v[4 * g + 2], v[4 * g + 3]]);
    }
    let mut out = [s.zero(); MAX_ROWS];
    for i in 0..4 {
        let [a, b, c, d] = &by_quarter;
        let quarters = s.transpose_quarters([a[i], b[i], c[i], d[i]]);
        for j in 0..S::QUARTERS {
            out[4 * j + i] = quarters[j];
        }
    }
    out
}

/// Stores the lanes to values `first`, `first + apart`, `first + 2·apart` and so on of `y`, as far as it goes.
#[inline(always)]
pub(crate) fn store_apart(lanes: &[f32], y: &mut [f32], first: usize, apart: usize) {
    for (lane, y) in lanes.iter().zip(y[first..].iter_mut().step_by(apart)) {
        *y = *lane;
    }
}
