//! Dot products of formats in blocks of 256 weights.
//!
//! The products of a row's block with the activations leave a register of partial sums. Those of as many rows (or blocks) as a register has
//! lanes are reduced to one register with a sum in each lane; `d`, `dmin`, the mins and the correction for an offset of the values are
//! computed with a row (or block) in each lane from the start.

use std::marker::PhantomData;

use super::scaled_sums::ScaledSums;
use super::{Accumulator, Task, Terms, groups};
use crate::activation::packed::{carve, pairs_of_sums};
use crate::activation::rows::{Activations, QuantizedRows};
use crate::matmul::formats::{FormatK, offset_k, order};
use crate::matmul::plan::interleave;
use crate::matmul::rows::{Rows, store_apart};
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::simd::row_lanes::{Kernel, RowLanes};
use crate::weights::matrix::QuantMatrix;

/// The product for any number of activation rows, four at a time: a [`StripFn`](crate::matmul::strip::StripFn).
///
/// # Safety
/// The CPU has the features that `S` proves.
pub(crate) unsafe fn vec_dot_k<S: ScaledSums, F: FormatK>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    // SAFETY: the caller vouches for the features.
    let s = unsafe { S::new() };
    let x = x.quantized();
    // Rows that are not a whole number of steps are read a lane each.
    let shape = scratch.shape.fitting((x.k / 256).is_multiple_of(S::QUARTERS));
    for first in (0..x.m).step_by(4) {
        let x = x.rows(first, (x.m - first).min(4));
        let task = Task { w, x, y: &mut y, first, shape, scratch };
        match (x.m, shape.rows == 4) {
            (1, false) => s.call(DotK::<F, 1, false>(task, PhantomData)),
            (2, false) => s.call(DotK::<F, 2, false>(task, PhantomData)),
            (3, false) => s.call(DotK::<F, 3, false>(task, PhantomData)),
            (_, false) => s.call(DotK::<F, 4, false>(task, PhantomData)),
            (1, true) => s.call(DotK::<F, 1, true>(task, PhantomData)),
            (2, true) => s.call(DotK::<F, 2, true>(task, PhantomData)),
            (3, true) => s.call(DotK::<F, 3, true>(task, PhantomData)),
            (_, true) => s.call(DotK::<F, 4, true>(task, PhantomData)),
        }
    }
}

/// The product of a [`Task`] with `M` activation rows, four weight rows at a time or one in each lane.
struct DotK<'t, 'y, F, const M: usize, const FOUR_ROWS: bool>(Task<'t, 'y>, PhantomData<F>);

impl<S: ScaledSums, F: FormatK, const M: usize, const FOUR_ROWS: bool> Kernel<S>
    for DotK<'_, '_, F, M, FOUR_ROWS>
{
    type Output = ();

    #[inline(always)]
    fn run(self, s: S) {
        let Task { w, x, y, first, shape, scratch } = self.0;
        let g = const { groups::<S, FOUR_ROWS>() };
        let (n, block_bytes, n_blocks) = (S::ROWS / g, F::FORMAT.block_bytes(), x.k / 256);
        let distance = shape.prefetch_bytes;
        let x = &BlocksOfX::new::<F, M, FOUR_ROWS>(s, &x, scratch.bytes());
        for (row, apart) in interleave(w.n_rows(), n) {
            let mut rows = Rows::new(s, &w, (row, apart), n, block_bytes, distance);
            let mut acc = [Accumulator::zero(s); M];
            for i in 0..n_blocks / g {
                // SAFETY: this many blocks are left.
                unsafe { step::<S, F, M, FOUR_ROWS>(s, &rows, x, i, &mut acc) };
                rows.skip(g * block_bytes);
            }
            for t in 0..M {
                store_apart(&acc[t].to_array::<FOUR_ROWS>(s)[..n], y.row(first + t), row, apart);
            }
        }
    }
}

/// Adds the products of step `i`: a block of each lane.
///
/// # Safety
/// The lanes have a block left.
#[inline(always)]
unsafe fn step<S: ScaledSums, F: FormatK, const M: usize, const FOUR_ROWS: bool>(
    s: S,
    rows: &Rows,
    x: &BlocksOfX<'_, S>,
    i: usize,
    acc: &mut [Accumulator<S>; M],
) {
    let g = const { groups::<S, FOUR_ROWS>() };
    let (n, offset) = (S::ROWS / g, const { offset_k::<S, F>() });
    // SAFETY: the caller vouches for the blocks.
    let block = unsafe { F::block_scales(s, rows) };
    // Back to a row in each quarter: lane 4·quarter + register.
    let scales = s.split_quarters(s.transpose_dwords(block.scales));
    let mut xs = [x.values; M];
    for t in 0..M {
        xs[t] = &x.values[(t * x.n_steps + i) * g * 256 / S::BYTES..][..g * 256 / S::BYTES];
    }
    let mut sums = [[s.zero(); 4]; M];
    for q in 0..S::QUARTERS {
        let mut parts = [[s.zero(); 4]; M];
        for j in 0..4 {
            let p = 4 * q + j;
            rows.prefetch(s, p, n, g * F::FORMAT.block_bytes());
            // SAFETY: as above.
            let values = unsafe { F::values(s, rows.group(p, n)) };
            for t in 0..M {
                let x = &xs[t][p / n * 256 / S::BYTES..][..256 / S::BYTES];
                parts[t][j] = s.scaled_sums::<F>(&values, x, scales[j][q]);
            }
        }
        for t in 0..M {
            sums[t][q] = s.sum_dwords(parts[t]);
        }
    }
    let mut pairs = [s.zero(); 8];
    for v in 0..64 / F::SUB_LEN {
        let words = if F::HAS_MINS { s.words_of_u8(block.mins[v]) } else { s.words_of_i8(block.scales[v]) };
        [pairs[2 * v], pairs[2 * v + 1]] = words;
    }
    for t in 0..M {
        let mut sum = s.sum_quarters(sums[t]);
        let mut min_sum = s.zero();
        if F::HAS_MINS || offset != 0 {
            let of_x = x.pairs::<FOUR_ROWS>(s, t, i);
            for j in 0..128 / F::SUB_LEN {
                min_sum = s.add_products_i16(min_sum, pairs[j], of_x[j]);
            }
        }
        if offset != 0 {
            sum = s.sub_i32(sum, s.shl32(min_sum, offset.trailing_zeros() as i32));
        }
        let dx = x.scale::<FOUR_ROWS>(s, t, i);
        let terms = Terms {
            sum: s.to_f32(sum),
            scale: s.mul(block.d, dx),
            min_sum: s.to_f32(min_sum),
            min_scale: s.mul(block.dmin, dx),
        };
        if F::HAS_MINS {
            acc[t].add::<FOUR_ROWS, true, true>(s, &[terms]);
        } else {
            acc[t].add::<FOUR_ROWS, false, true>(s, &[terms]);
        }
    }
}

/// Activations laid out once for all rows of a task: values in the order of the format's registers, and where a step has several blocks,
/// their sums and scales by lane.
struct BlocksOfX<'a, S: RowLanes> {
    n_steps: usize,
    /// `[M][n_steps]`, blocks of a step.
    values: &'a [S::I],
    /// Pairs of sums over sub-blocks, `[M][n_steps][8]`.
    pairs: &'a [i32],
    /// Where a step has several blocks, the pairs for each lane's block.
    pairs_by_lane: &'a [S::I],
    /// `[M][n_steps]`
    scales: &'a [f32],
    /// Where a step has several blocks, the scale of each lane's block.
    scales_by_lane: &'a [S::I],
}

impl<'a, S: RowLanes> BlocksOfX<'a, S> {
    /// Lays out `M` rows.
    #[inline(always)]
    fn new<F: FormatK, const M: usize, const FOUR_ROWS: bool>(
        _: S,
        x: &QuantizedRows<'_>,
        mut room: &'a mut [u8],
    ) -> Self {
        let (order, g) = const { (order::<F>(S::QUARTERS), groups::<S, FOUR_ROWS>()) };
        let (n_blocks, n, width) = (x.k / 256, S::ROWS / g, if FOUR_ROWS { S::ROWS } else { 1 });
        let n_steps = n_blocks / g;
        let values = carve::<[[i8; 16]; 16]>(&mut room, M * n_blocks);
        for (values, xs) in values.iter_mut().zip(x.qs.as_chunks().0.as_chunks::<16>().0) {
            for i in 0..16 {
                values[i] = xs[order[i]];
            }
        }
        let pairs = carve::<i32>(&mut room, M * n_steps * 8 * width);
        let scales = carve::<f32>(&mut room, M * n_steps * width);
        let sums = x.sums.as_chunks::<16>().0;
        for (i, pairs) in pairs.chunks_exact_mut(8 * width).enumerate() {
            for p in 0..width {
                let b = i * g + p / n;
                scales[i * width + p] = x.scales[b];
                for (j, pair) in pairs_of_sums(&sums[b], F::SUB_LEN).into_iter().enumerate() {
                    pairs[j * width + p] = pair;
                }
            }
        }
        let (pairs, scales) = (&*pairs, &*scales);
        BlocksOfX {
            n_steps,
            values: bytemuck::cast_slice(values),
            pairs,
            pairs_by_lane: if FOUR_ROWS { bytemuck::cast_slice(pairs) } else { &[] },
            scales,
            scales_by_lane: if FOUR_ROWS { bytemuck::cast_slice(scales) } else { &[] },
        }
    }

    /// The pairs of sums for the lanes of step `i`.
    #[inline(always)]
    fn pairs<const FOUR_ROWS: bool>(&self, s: S, t: usize, i: usize) -> [S::I; 8] {
        let at = 8 * (t * self.n_steps + i);
        let mut pairs = [s.zero(); 8];
        if FOUR_ROWS {
            pairs.copy_from_slice(&self.pairs_by_lane[at..][..8]);
        } else {
            let of_x = &self.pairs[at..][..8];
            for j in 0..8 {
                pairs[j] = s.splat_i32(of_x[j]);
            }
        }
        pairs
    }

    /// The scales for the lanes of step `i`.
    #[inline(always)]
    fn scale<const FOUR_ROWS: bool>(&self, s: S, t: usize, i: usize) -> S::F {
        let at = t * self.n_steps + i;
        if FOUR_ROWS { s.of_bits(self.scales_by_lane[at]) } else { s.splat_f32(self.scales[at]) }
    }
}
