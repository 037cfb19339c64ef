//! Dot products of formats in blocks of 32 weights.
//!
//! A block fills a quarter of two registers, one with its first 16 values and one with the others. The products leave four partial sums a
//! block, which are reduced to a register for each block of a group, with a sum in each lane.

use std::marker::PhantomData;

use super::{Accumulator, Task, Terms, groups};
use crate::activation::packed::carve;
use crate::activation::rows::{Activations, QuantizedRows};
use crate::matmul::formats::{Format32, offset_32};
use crate::matmul::plan::interleave;
use crate::matmul::rows::{Rows, store_apart};
use crate::matmul::scales_32::Scales32;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::simd::row_lanes::{DotI8, Kernel, RowLanes};
use crate::weights::matrix::QuantMatrix;

/// The product for any number of activation rows, four at a time: a [`StripFn`](crate::matmul::strip::StripFn).
///
/// # Safety
/// The CPU has the features that `S` proves.
pub(crate) unsafe fn vec_dot_32<S: DotI8, F: Format32>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    // SAFETY: the caller vouches for the features.
    let s = unsafe { S::new() };
    let x = x.quantized();
    // Rows that are not a whole number of steps are read a lane each, and so are those too short for the prefetch: four at a time, their
    // blocks take more arithmetic.
    let whole = (x.k / 32).is_multiple_of(S::QUARTERS * S::QUARTERS);
    let shape = scratch.shape.fitting(whole && w.row_bytes() >= scratch.shape.prefetch_bytes);
    for first in (0..x.m).step_by(4) {
        let x = x.rows(first, (x.m - first).min(4));
        let task = Task { w, x, y: &mut y, first, shape, scratch };
        match (x.m, shape.rows == 4) {
            (1, false) => s.call(Dot32::<F, 1, false>(task, PhantomData)),
            (2, false) => s.call(Dot32::<F, 2, false>(task, PhantomData)),
            (3, false) => s.call(Dot32::<F, 3, false>(task, PhantomData)),
            (_, false) => s.call(Dot32::<F, 4, false>(task, PhantomData)),
            (1, true) => s.call(Dot32::<F, 1, true>(task, PhantomData)),
            (2, true) => s.call(Dot32::<F, 2, true>(task, PhantomData)),
            (3, true) => s.call(Dot32::<F, 3, true>(task, PhantomData)),
            (_, true) => s.call(Dot32::<F, 4, true>(task, PhantomData)),
        }
    }
}

/// The product of a [`Task`] with `M` activation rows. A group of a row is a block for every quarter of a register.
struct Dot32<'t, 'y, F, const M: usize, const FOUR_ROWS: bool>(Task<'t, 'y>, PhantomData<F>);

impl<S: DotI8, F: Format32, const M: usize, const FOUR_ROWS: bool> Kernel<S>
    for Dot32<'_, '_, F, M, FOUR_ROWS>
{
    type Output = ();

    #[inline(always)]
    fn run(self, s: S) {
        let Task { w, x, y, first, shape, scratch } = self.0;
        let g = const { groups::<S, FOUR_ROWS>() };
        let (n, n_blocks) = (S::ROWS / g, x.k / 32);
        let (group_bytes, in_step) = (S::QUARTERS * F::FORMAT.block_bytes(), S::QUARTERS * g);
        let distance = shape.prefetch_bytes;
        let x = &BlocksOfX::new::<F, M, FOUR_ROWS>(s, &x, scratch.bytes());
        let mut scales = Scales32::ZERO;
        for (row, apart) in interleave(w.n_rows(), n) {
            let mut rows = Rows::new(s, &w, (row, apart), n, group_bytes, distance);
            let mut acc = [Accumulator::zero(s); M];
            for i in 0..n_blocks / in_step {
                // SAFETY: a whole step is left.
                unsafe { step::<S, F, M, FOUR_ROWS>(s, &rows, x, i, S::QUARTERS, &mut scales, &mut acc) };
                rows.skip(g * group_bytes);
            }
            let left = n_blocks % in_step;
            if !FOUR_ROWS && left > 0 {
                // SAFETY: as many blocks are left.
                unsafe {
                    step::<S, F, M, FOUR_ROWS>(s, &rows, x, n_blocks / in_step, left, &mut scales, &mut acc)
                };
            }
            for t in 0..M {
                store_apart(&acc[t].to_array::<FOUR_ROWS>(s)[..n], y.row(first + t), row, apart);
            }
        }
    }
}

/// Adds the products of step `i`: the first `left` blocks of each lane's group.
///
/// # Safety
/// The lanes have that many blocks left, at least one.
#[inline(always)]
unsafe fn step<S: DotI8, F: Format32, const M: usize, const FOUR_ROWS: bool>(
    s: S,
    rows: &Rows,
    x: &BlocksOfX<'_, S>,
    i: usize,
    left: usize,
    scales: &mut Scales32,
    acc: &mut [Accumulator<S>; M],
) {
    let g = const { groups::<S, FOUR_ROWS>() };
    let offset = const { offset_32::<S, F>() };
    let mut xs = [x.values; M];
    for t in 0..M {
        xs[t] = &x.values[(t * x.n_steps + i) * 2 * g..][..2 * g];
    }
    let mut sums = [[s.zero(); 4]; M];
    // SAFETY: the caller vouches for the blocks.
    unsafe {
        if FOUR_ROWS {
            // One after the other with constants, which rows and shares of the prefetch then are as well: with Q8_0 a fifth faster.
            sum_quarter::<S, F, M, FOUR_ROWS>(s, rows, &xs, 0, left, scales, &mut sums);
            sum_quarter::<S, F, M, FOUR_ROWS>(s, rows, &xs, 1, left, scales, &mut sums);
            if S::QUARTERS == 4 {
                sum_quarter::<S, F, M, FOUR_ROWS>(s, rows, &xs, 2, left, scales, &mut sums);
                sum_quarter::<S, F, M, FOUR_ROWS>(s, rows, &xs, 3, left, scales, &mut sums);
            }
        } else {
            for q in 0..S::QUARTERS {
                sum_quarter::<S, F, M, FOUR_ROWS>(s, rows, &xs, q, left, scales, &mut sums);
            }
        }
    }
    for t in 0..M {
        let by_block = s.transpose_quarters(sums[t]);
        let (of_x, dx) = (x.sums::<FOUR_ROWS>(s, t, i), x.scales::<FOUR_ROWS>(s, t, i));
        let mut terms = [Terms::zero(s); 4];
        for j in 0..S::QUARTERS {
            let [d, m] = scales.block::<S, F>(s, j);
            let sum = if offset != 0 { s.sub_i32(by_block[j], of_x[j]) } else { by_block[j] };
            terms[j].sum = s.to_f32(sum);
            terms[j].scale = s.mul(d, s.of_bits(dx[j]));
            if F::HAS_MIN {
                terms[j].min_sum = s.of_bits(of_x[j]);
                terms[j].min_scale = s.mul(m, s.of_bits(dx[j]));
            }
        }
        if F::HAS_MIN {
            acc[t].add::<FOUR_ROWS, true, false>(s, &terms[..left]);
        } else {
            acc[t].add::<FOUR_ROWS, false, false>(s, &terms[..left]);
        }
    }
}

/// Sums the products of the four lanes in quarter `q`, and takes their scales.
///
/// # Safety
/// The lanes have `left` blocks left, at least one.
#[inline(always)]
unsafe fn sum_quarter<S: DotI8, F: Format32, const M: usize, const FOUR_ROWS: bool>(
    s: S,
    rows: &Rows,
    xs: &[&[S::I]; M],
    q: usize,
    left: usize,
    scales: &mut Scales32,
    sums: &mut [[S::I; 4]; M],
) {
    let g = const { groups::<S, FOUR_ROWS>() };
    let (n, block_bytes) = (S::ROWS / g, F::FORMAT.block_bytes());
    let mut parts = [[s.zero(); 4]; M];
    for j in 0..4 {
        let p = 4 * q + j;
        rows.prefetch(s, p, n, g * S::QUARTERS * block_bytes);
        let group = rows.group(p, n);
        let mut blocks = [group; 4];
        for j in 0..S::QUARTERS {
            blocks[j] = group.wrapping_add(j.min(left - 1) * block_bytes);
        }
        // SAFETY: blocks that are left.
        let values = unsafe {
            scales.take::<S, F>(p, blocks);
            F::values(s, blocks)
        };
        for t in 0..M {
            parts[t][j] = s.dot_quads(F::BITS, values, [xs[t][p / n * 2], xs[t][p / n * 2 + 1]]);
        }
    }
    for t in 0..M {
        sums[t][q] = s.sum_dwords(parts[t]);
    }
}

/// Activations laid out once for all rows of a task: values as the weights' registers hold them, and where a step has several groups of
/// blocks, their sums and scales by lane.
struct BlocksOfX<'a, S: RowLanes> {
    n_steps: usize,
    /// `[M][n_steps]`, of each group first and second halves.
    values: &'a [S::I],
    /// `[M][n_steps][S::QUARTERS]`: the bits of the sums in f32 where the format has a minimum, the sums times the offset where it has one.
    sums: &'a [i32],
    /// Where a step has several groups, the sums for each lane's group.
    sums_by_lane: &'a [S::I],
    /// The bits of the scales, laid out like the sums.
    scales: &'a [i32],
    scales_by_lane: &'a [S::I],
}

impl<'a, S: DotI8> BlocksOfX<'a, S> {
    /// Lays out `M` rows.
    #[inline(always)]
    fn new<F: Format32, const M: usize, const FOUR_ROWS: bool>(
        _: S,
        x: &QuantizedRows<'_>,
        mut room: &'a mut [u8],
    ) -> Self {
        let (offset, g) = const { (offset_32::<S, F>() as i32, groups::<S, FOUR_ROWS>()) };
        let (n_blocks, n, width) = (x.k / 32, S::ROWS / g, if FOUR_ROWS { S::ROWS } else { 1 });
        let n_steps = n_blocks.div_ceil(g * S::QUARTERS);
        let values = carve::<[i8; 16]>(&mut room, M * n_steps * g * S::QUARTERS * 2);
        let sums = carve::<i32>(&mut room, M * n_steps * S::QUARTERS * width);
        let scales = carve::<i32>(&mut room, M * n_steps * S::QUARTERS * width);
        let blocks = x.qs.as_chunks::<32>().0;
        for t in 0..M {
            for i in 0..n_steps * g {
                let values = &mut values[(t * n_steps * g + i) * S::QUARTERS * 2..][..S::QUARTERS * 2];
                for j in 0..S::QUARTERS {
                    let b = t * n_blocks + (i * S::QUARTERS + j).min(n_blocks - 1);
                    [values[j], values[S::QUARTERS + j]] = bytemuck::cast(blocks[b]);
                }
            }
            for i in 0..n_steps * S::QUARTERS {
                let (step, j) = (i / S::QUARTERS, i % S::QUARTERS);
                for p in 0..width {
                    let b = t * n_blocks + ((step * g + p / n) * S::QUARTERS + j).min(n_blocks - 1);
                    let (sum, at) = (x.sums[b], (t * n_steps * S::QUARTERS + i) * width + p);
                    sums[at] = if F::HAS_MIN { (sum as f32).to_bits() as i32 } else { sum as i32 * offset };
                    scales[at] = x.scales[b].to_bits() as i32;
                }
            }
        }
        let (sums, scales) = (&*sums, &*scales);
        BlocksOfX {
            n_steps,
            values: bytemuck::cast_slice(values),
            sums,
            sums_by_lane: if FOUR_ROWS { bytemuck::cast_slice(sums) } else { &[] },
            scales,
            scales_by_lane: if FOUR_ROWS { bytemuck::cast_slice(scales) } else { &[] },
        }
    }

    /// The sums of step `i`, by block of a group.
    #[inline(always)]
    fn sums<const FOUR_ROWS: bool>(&self, s: S, t: usize, i: usize) -> [S::I; 4] {
        by_block::<S, FOUR_ROWS>(s, self.sums, self.sums_by_lane, t * self.n_steps + i)
    }

    /// The scales of step `i`, by block of a group.
    #[inline(always)]
    fn scales<const FOUR_ROWS: bool>(&self, s: S, t: usize, i: usize) -> [S::I; 4] {
        by_block::<S, FOUR_ROWS>(s, self.scales, self.scales_by_lane, t * self.n_steps + i)
    }
}

/// The registers of step `i`, one for each block of a group.
#[inline(always)]
fn by_block<S: RowLanes, const FOUR_ROWS: bool>(s: S, x: &[i32], by_lane: &[S::I], i: usize) -> [S::I; 4] {
    let mut all = [s.zero(); 4];
    if FOUR_ROWS {
        all[..S::QUARTERS].copy_from_slice(&by_lane[i * S::QUARTERS..][..S::QUARTERS]);
    } else {
        let x = &x[i * S::QUARTERS..][..S::QUARTERS];
        for j in 0..S::QUARTERS {
            all[j] = s.splat_i32(x[j]);
        }
    }
    all
}
