//! The second product, added to the output of the weight matrix.

use crate::float_dot::FloatFormat;
use crate::matmul::strip::OutStrip;
use crate::ops::prefetch;
use crate::simd::lanes::{LANES, Lanes};

/// Bytes of B that are prefetched ahead of their use: with few rows of `u` they come from memory.
const AHEAD: usize = 4 << 10;

/// `y[t][r] += scale · Σ u[t][j] · B[r][j]`
pub(crate) struct ExpandJob<'a> {
    /// `[m, rank]`
    pub u: &'a [f32],
    pub rank: usize,
    /// Tiles `[n_rows / 16, rank, 16]` of B, the last one filled up.
    pub b: &'a [u8],
    pub scale: f32,
    /// `[m, n_rows]`
    pub y: OutStrip<'a>,
}

/// [`expand`] for one instruction set and format of B.
///
/// # Safety
/// The CPU has its features. (The kernel table asserts shapes.)
pub(crate) type ExpandFn = unsafe fn(ExpandJob<'_>);

/// In cells of `T` rows of `u` by `V` tiles of B.
#[inline(always)]
pub(crate) fn expand<S: Lanes, W: FloatFormat, const V: usize, const T: usize>(s: S, job: ExpandJob<'_>) {
    let m = job.y.m();
    let mut columns = Columns { s, u: job.u, rank: job.rank, scale: job.scale, y: job.y };
    let tiles: &[W::Bytes] = bytemuck::cast_slice(job.b);
    let mut t = 0;
    while t + T <= m {
        columns.rows::<W, V, T>(tiles, t);
        t += T;
    }
    if T > 1 {
        while t < m {
            columns.rows::<W, V, 1>(tiles, t);
            t += 1;
        }
    }
}

/// What is to be prefetched yet.
struct Ahead<'a> {
    bytes: &'a [u8],
}

impl Ahead<'_> {
    /// Prefetches the next `n` bytes, or as many as there are.
    #[inline(always)]
    fn next<S: Lanes>(&mut self, s: S, n: usize) {
        let (now, later) = self.bytes.split_at(n.min(self.bytes.len()));
        prefetch(s, now);
        self.bytes = later;
    }
}

struct Columns<'a, S> {
    s: S,
    u: &'a [f32],
    rank: usize,
    scale: f32,
    y: OutStrip<'a>,
}

impl<S: Lanes> Columns<'_, S> {
    /// Rows `t..t + T`, all tiles.
    #[inline(always)]
    fn rows<W: FloatFormat, const V: usize, const T: usize>(&mut self, tiles: &[W::Bytes], t: usize) {
        let (s, n_tiles) = (self.s, tiles.len() / self.rank);
        let bytes = bytemuck::cast_slice(tiles);
        // What has met a row of `u` is in a cache.
        let mut ahead = Ahead { bytes: if t == 0 { bytes } else { &[] } };
        ahead.next(s, AHEAD);
        let mut v = 0;
        while v + V <= n_tiles {
            ahead.next(s, V * self.rank * size_of::<W::Bytes>());
            self.cell::<W, V, T>(tiles, t, v);
            v += V;
        }
        if V > 1 {
            while v < n_tiles {
                self.cell::<W, 1, T>(tiles, t, v);
                v += 1;
            }
        }
    }

    /// Rows `t..t + T`, tiles `v..v + V`.
    #[inline(always)]
    fn cell<W: FloatFormat, const V: usize, const T: usize>(
        &mut self,
        tiles: &[W::Bytes],
        t: usize,
        v: usize,
    ) {
        let (s, rank) = (self.s, self.rank);
        let mut b: [&[W::Bytes]; V] = [&[]; V];
        let mut u: [&[f32]; T] = [&[]; T];
        for (i, b) in b.iter_mut().enumerate() {
            *b = &tiles[(v + i) * rank..][..rank];
        }
        for (i, u) in u.iter_mut().enumerate() {
            *u = &self.u[(t + i) * rank..][..rank];
        }
        let mut acc = [[s.splat(0.0); V]; T];
        for j in 0..rank {
            let mut bj = [s.splat(0.0); V];
            for i in 0..V {
                bj[i] = W::load(s, &b[i][j]);
            }
            for i in 0..T {
                let uj = s.splat(u[i][j]);
                for l in 0..V {
                    acc[i][l] = s.fma(uj, bj[l], acc[i][l]);
                }
            }
        }
        let scale = s.splat(self.scale);
        for i in 0..T {
            let row = self.y.row(t + i);
            for l in 0..V {
                let y = &mut row[(v + l) * LANES..];
                match y.first_chunk_mut() {
                    Some(y) => s.store(s.fma(acc[i][l], scale, s.load(y)), y),
                    None => s.store_part(s.fma(acc[i][l], scale, s.load_part(y)), y),
                }
            }
        }
    }
}
