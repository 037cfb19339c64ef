//! The loop over columns.

use bytemuck::Zeroable;

use super::grid::{Grid, Integers};
use super::scratch::FeedbackScratch;
use crate::linalg::factor::Factor;
use crate::linalg::product::ProductBlockFn;
use crate::quantize::batch::{Batch, to_u8};
use crate::quantize::vector::Vector;
use crate::simd::lanes::Lanes;
use crate::weights::block::KVALUES_IQ4;

/// Columns whose corrections by the columns before them are computed at a time, as a product of matrices.
const BLOCK: usize = 256;

/// Rows of one matrix.
pub(crate) struct FeedbackJob<'a> {
    /// Of the same instruction set.
    pub product: ProductBlockFn,
    pub factor: &'a Factor,
    /// Rows.
    pub n: usize,
    /// Rows in whole vectors.
    pub width: usize,
    pub out: &'a mut [u8],
    pub scratch: &'a mut FeedbackScratch,
}

/// Quantizes the rows.
#[inline(always)]
pub(crate) fn quantize_columns<S: Lanes, Q: Grid<N>, const N: usize>(s: S, job: FeedbackJob<'_>) {
    let FeedbackJob { product, factor, n, width, out, scratch } = job;
    let FeedbackScratch { columns, corrections, coefficients, packed } = scratch;
    let k = factor.k();
    let out: &mut [Q::Block] = bytemuck::cast_slice_mut(out);
    let blocks_a_row = k / N;
    let importance: Vec<f32> = (0..k).map(|i| factor.at(i, i) * factor.at(i, i)).collect();
    let row_squares = row_squares(columns, width, k);
    let mut batch = Batch::<N>::new(true);
    let mut end = k;
    while end > 0 {
        let start = (end - 1) / BLOCK * BLOCK;
        let len = end - start;
        corrections.resize(BLOCK * width, 0.0);
        let corrections = &mut corrections[..len * width];
        match end < k {
            // SAFETY: `s` proves the features of `product`'s instruction set.
            true => unsafe {
                factor.times(product, start..end, end, &columns[end * width..], packed, corrections)
            },
            false => corrections.fill(0.0),
        }
        // Row `j`: what the error of column `j` adds to each column before it.
        coefficients.clear();
        coefficients.resize(len * len, 0.0);
        for i in 0..len {
            let inverse = 1.0 / factor.at(start + i, start + i);
            for j in i + 1..len {
                coefficients[j * len + i] = factor.at(start + i, start + j) * inverse;
            }
            corrections[i * width..][..width].iter_mut().for_each(|x| *x *= inverse);
        }
        for lanes in (0..width).step_by(16) {
            let mut rows = Block16 {
                columns: &mut columns[start * width..end * width],
                corrections: &mut *corrections,
                coefficients,
                width,
                lanes,
                len,
            };
            for first in (0..len).step_by(N).rev() {
                let blocks = rows.quantize::<S, Q, N>(
                    s,
                    &mut batch,
                    &importance[start + first..][..N],
                    &row_squares[lanes..][..16],
                    first,
                );
                for (row, block) in (lanes..n.min(lanes + 16)).zip(blocks) {
                    out[row * blocks_a_row + (start + first) / N] = block;
                }
            }
        }
        end = start;
    }
}

/// The mean square of each row.
fn row_squares(columns: &[f32], width: usize, k: usize) -> Vec<f32> {
    let mut squares = vec![0.0; width];
    for column in columns.chunks(width) {
        for (square, x) in squares.iter_mut().zip(column) {
            *square += x * x;
        }
    }
    squares.iter_mut().for_each(|square| *square /= k as f32);
    squares
}

/// Sixteen rows of up to [`BLOCK`] columns.
struct Block16<'a> {
    /// `[len, width]`
    columns: &'a mut [f32],
    /// `[len, width]`
    corrections: &'a mut [f32],
    /// `[len, len]`
    coefficients: &'a [f32],
    width: usize,
    /// The first of the rows.
    lanes: usize,
    len: usize,
}

impl Block16<'_> {
    #[inline(always)]
    fn column(&mut self, i: usize) -> &mut [f32; 16] {
        (&mut self.columns[i * self.width + self.lanes..][..16]).try_into().unwrap()
    }

    #[inline(always)]
    fn correction(&mut self, i: usize) -> &mut [f32; 16] {
        (&mut self.corrections[i * self.width + self.lanes..][..16]).try_into().unwrap()
    }

    /// Quantizes `N` columns from `first`, the last one first.
    #[inline(always)]
    fn quantize<S: Lanes, Q: Grid<N>, const N: usize>(
        &mut self,
        s: S,
        batch: &mut Batch<N>,
        importance: &[f32],
        row_squares: &[f32],
        first: usize,
    ) -> [Q::Block; 16] {
        for i in 0..N {
            let x = Vector::load(s, self.column(first + i)) + Vector::load(s, self.correction(first + i));
            x.store(&mut batch.x[i]);
        }
        batch.set_importance(importance, row_squares);
        let mut blocks = [Q::Block::zeroed(); 16];
        Q::quantize(s, batch, &mut blocks);
        let (mut scales, mut offsets) = ([[0.0; 16]; 16], [[0.0; 16]; 16]);
        Q::scales(&blocks, &mut scales, &mut offsets);
        let mut integers = Integers::ZERO;
        Q::integers(&blocks, &mut integers);
        for i in (0..N).rev() {
            if Q::HAS_INTEGERS && (i + 1).is_multiple_of(Q::GROUP) {
                let group = i / Q::GROUP;
                let weights = &importance[group * Q::GROUP..][..Q::GROUP];
                (scales[group], offsets[group]) =
                    self.refit::<S, Q, N>(s, &mut integers, group, first + group * Q::GROUP, weights);
            }
            let (scale, offset) =
                (Vector::load(s, &scales[i / Q::GROUP]), Vector::load(s, &offsets[i / Q::GROUP]));
            let w = Vector::load(s, self.column(first + i));
            let target = w + Vector::load(s, self.correction(first + i));
            let (level, value) = nearest::<S, Q, N>(s, target, scale, offset);
            batch.levels[i] = to_u8(level);
            let error = w - value;
            error.store(self.column(first + i));
            let coefficients = &self.coefficients[(first + i) * self.len..][..first + i];
            for (j, coefficient) in coefficients.iter().enumerate() {
                let sum = error.times_plus(*coefficient, Vector::load(s, self.correction(j)));
                sum.store(self.correction(j));
            }
        }
        Q::store(&batch.levels, &mut blocks);
        Q::store_integers(&integers, &mut blocks);
        blocks
    }

    /// Chooses the integer scale and min of a group anew, for the weights from column `first` as they are to be rounded now: columns of the same
    /// block that are done have moved them. Returns the scale and the offset that they make.
    #[inline(always)]
    fn refit<S: Lanes, Q: Grid<N>, const N: usize>(
        &mut self,
        s: S,
        integers: &mut Integers,
        group: usize,
        first: usize,
        importance: &[f32],
    ) -> ([f32; 16], [f32; 16]) {
        let mut targets = [[0.0; 16]; 32];
        for (i, target) in targets[..Q::GROUP].iter_mut().enumerate() {
            let x = Vector::load(s, self.column(first + i)) + Vector::load(s, self.correction(first + i));
            x.store(target);
        }
        let (d, dmin) = (Vector::load(s, &integers.d), Vector::load(s, &integers.dmin));
        let (scale, min) = (Vector::load(s, &integers.scales[group]), Vector::load(s, &integers.mins[group]));
        let (mut best, mut best_scale, mut best_min) = (Vector::splat(s, f32::MAX), scale, min);
        // What was there first comes first, and of equals the first is kept.
        let shifts = |most: i32| (0..=most).flat_map(|shift| [shift, -shift]).skip(1);
        for scale_shift in shifts(4) {
            let scale = (scale + Vector::splat(s, scale_shift as f32)).clamp(Q::SCALES.0, Q::SCALES.1);
            for min_shift in shifts(if Q::HIGHEST_MIN > 0.0 { 2 } else { 0 }) {
                let min = (min + Vector::splat(s, min_shift as f32)).clamp(0.0, Q::HIGHEST_MIN);
                let (scale_of_levels, offset) = (d * scale, -(dmin * min));
                let mut error = Vector::splat(s, 0.0);
                for (target, importance) in targets[..Q::GROUP].iter().zip(importance) {
                    let target = Vector::load(s, target);
                    let off = target - nearest::<S, Q, N>(s, target, scale_of_levels, offset).1;
                    error += Vector::splat(s, *importance) * off * off;
                }
                best_scale = error.if_less(best, scale, best_scale);
                best_min = error.if_less(best, min, best_min);
                best = error.if_less(best, error, best);
            }
        }
        best_scale.store(&mut integers.scales[group]);
        best_min.store(&mut integers.mins[group]);
        ((d * best_scale).to_array(), (-(dmin * best_min)).to_array())
    }
}

/// The level that is nearest to `x`, stored from 0 on, and what it stands for.
#[inline(always)]
fn nearest<S: Lanes, Q: Grid<N>, const N: usize>(
    s: S,
    x: Vector<S>,
    scale: Vector<S>,
    offset: Vector<S>,
) -> (Vector<S>, Vector<S>) {
    let zero = Vector::splat(s, 0.0);
    if Q::CODES {
        let x = scale.inverse_or_zero() * x;
        let (mut level, mut value) = (zero, Vector::splat(s, f32::from(KVALUES_IQ4[0])));
        for i in 1..16 {
            let (below, this) = (f32::from(KVALUES_IQ4[i - 1]), f32::from(KVALUES_IQ4[i]));
            let middle = Vector::splat(s, 0.5 * (below + this));
            level = x.if_less(middle, level, Vector::splat(s, i as f32));
            value = x.if_less(middle, value, Vector::splat(s, this));
        }
        return (level, scale * value + offset);
    }
    let level = ((x - offset) / scale).round().clamp(Q::LOWEST, Q::HIGHEST);
    let level = zero.if_less(scale.abs(), level, zero);
    (level - Vector::splat(s, Q::LOWEST), scale * level + offset)
}
