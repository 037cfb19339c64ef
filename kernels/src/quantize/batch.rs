//! Sixteen blocks side by side.

use bytemuck::Zeroable;

use super::vector::Vector;
use crate::simd::lanes::Lanes;
use crate::weights::block::Block;

/// Rows to quantize; see [`KernelTable::quantize_weights`](crate::KernelTable::quantize_weights).
pub(crate) struct Job<'a> {
    pub k: usize,
    pub x: &'a [f32],
    pub importance: Option<&'a [f32]>,
    pub out: &'a mut [u8],
}

/// Sixteen blocks of `N` weights: weight `i` of block `b` is `x[i][b]`.
pub(crate) struct Batch<const N: usize> {
    pub x: [[f32; 16]; N],
    importance: [[f32; 16]; N],
    /// The mean square of each block's row; of use with importance alone.
    row_square: [f32; 16],
    has_importance: bool,
    /// The weights of the errors of a group.
    pub weights: [[f32; 16]; 32],
    /// The levels that were found, as they are stored.
    pub levels: [[u8; 16]; N],
}

impl<const N: usize> Batch<N> {
    /// Zeros.
    #[inline(always)]
    pub fn new(has_importance: bool) -> Batch<N> {
        Batch {
            x: [[0.0; 16]; N],
            importance: [[0.0; 16]; N],
            row_square: [0.0; 16],
            has_importance,
            weights: [[0.0; 16]; 32],
            levels: [[0; 16]; N],
        }
    }

    /// Sets the importance of the columns, the same for all blocks, and the mean square of each block's row.
    #[inline(always)]
    pub fn set_importance(&mut self, columns: &[f32], row_squares: &[f32]) {
        for (to, importance) in self.importance.iter_mut().zip(columns) {
            *to = [*importance; 16];
        }
        self.row_square.copy_from_slice(row_squares);
    }

    /// The importance of each weight, if it is known.
    #[inline(always)]
    pub fn importance(&self) -> Option<&[[f32; 16]; N]> {
        self.has_importance.then_some(&self.importance)
    }

    /// The mean square of the rows that the blocks are in.
    #[inline(always)]
    pub fn row_square<S: Lanes>(&self, s: S) -> Vector<S> {
        Vector::load(s, &self.row_square)
    }

    /// The sum of squares of `len` weights from `first`.
    #[inline(always)]
    pub fn sum_of_squares<S: Lanes>(&self, s: S, first: usize, len: usize) -> Vector<S> {
        let mut sum = Vector::splat(s, 0.0);
        for x in &self.x[first..first + len] {
            let x = Vector::load(s, x);
            sum += x * x;
        }
        sum
    }

    /// Weighs the errors of `len` weights from `first`: `importance · √(square + x²)`.
    ///
    /// # Panics
    /// Without importance.
    #[inline(always)]
    pub fn weigh_by_importance<S: Lanes>(&mut self, s: S, first: usize, len: usize, square: Vector<S>) {
        assert!(self.has_importance, "importance");
        for i in 0..len {
            let x = Vector::load(s, &self.x[first + i]);
            let w = Vector::load(s, &self.importance[first + i]) * (square + x * x).sqrt();
            w.store(&mut self.weights[i]);
        }
    }

    /// Weighs them by their importance and nothing else.
    #[inline(always)]
    pub fn weigh_by_importance_alone(&mut self, first: usize, len: usize) {
        self.weights[..len].copy_from_slice(&self.importance[first..first + len]);
    }

    /// Weighs them by their squares.
    #[inline(always)]
    pub fn weigh_by_squares<S: Lanes>(&mut self, s: S, first: usize, len: usize) {
        for i in 0..len {
            let x = Vector::load(s, &self.x[first + i]);
            (x * x).store(&mut self.weights[i]);
        }
    }

    /// Weighs them by their magnitudes, to which `more` is added.
    #[inline(always)]
    pub fn weigh_by_magnitudes<S: Lanes>(&mut self, s: S, first: usize, len: usize, more: Vector<S>) {
        for i in 0..len {
            let x = Vector::load(s, &self.x[first + i]);
            (more + x.abs()).store(&mut self.weights[i]);
        }
    }

    /// The sum of the errors' weights.
    #[inline(always)]
    pub fn sum_of_weights<S: Lanes>(&self, s: S, len: usize) -> Vector<S> {
        let mut sum = Vector::splat(s, 0.0);
        for w in &self.weights[..len] {
            sum += Vector::load(s, w);
        }
        sum
    }

    /// Sets the levels of `len` weights from `first` to those nearest to `(x + min) / scale`, shifted so that `lowest` is stored as 0. A scale of
    /// zero has one level.
    #[inline(always)]
    pub fn nearest_levels<S: Lanes>(
        &mut self,
        s: S,
        first: usize,
        len: usize,
        (scale, min): (Vector<S>, Vector<S>),
        (lowest, highest): (f32, f32),
    ) {
        let zero = Vector::splat(s, 0.0);
        for i in first..first + len {
            let x = Vector::load(s, &self.x[i]);
            let level = ((x + min) / scale).round().clamp(lowest, highest);
            let level = zero.if_less(scale.abs(), level, zero) - Vector::splat(s, lowest);
            self.levels[i] = to_u8(level);
        }
    }
}

/// Lanes that hold integers from 0 to 255, or that are to be cut down to such.
#[inline(always)]
pub(super) fn to_u8<S: Lanes>(x: Vector<S>) -> [u8; 16] {
    let mut out = [0; 16];
    for (out, x) in out.iter_mut().zip(x.to_array()) {
        // Through i32, which vector instructions convert to.
        *out = x as i32 as u8;
    }
    out
}

/// How a format's blocks are found.
pub(crate) trait Quantize<const N: usize> {
    /// The block of `N` weights.
    type Block: Block;

    /// Fills sixteen blocks.
    fn quantize<S: Lanes>(s: S, batch: &mut Batch<N>, out: &mut [Self::Block; 16]);
}

/// Quantizes rows to blocks of `Q`.
#[inline(always)]
pub(crate) fn quantize_blocks<S: Lanes, Q: Quantize<N>, const N: usize>(s: S, job: Job<'_>) {
    let mut batch = Batch::<N>::new(job.importance.is_some());
    let mut blocks = [Q::Block::zeroed(); 16];
    let blocks_a_row = job.k / N;
    let mut row_square = 0.0;
    let out: &mut [Q::Block] = bytemuck::cast_slice_mut(job.out);
    for (i, (x, out)) in job.x.chunks(16 * N).zip(out.chunks_mut(16)).enumerate() {
        if out.len() < 16 {
            batch.x.as_flattened_mut().fill(0.0);
        }
        gather(x, &mut batch.x);
        if let Some(importance) = job.importance {
            for b in 0..out.len() {
                let block = 16 * i + b;
                let column = block % blocks_a_row * N;
                for (to, w) in batch.importance.iter_mut().zip(&importance[column..column + N]) {
                    to[b] = *w;
                }
                if N == 32 {
                    let row = &job.x[block / blocks_a_row * job.k..][..job.k];
                    if block % blocks_a_row == 0 {
                        row_square = mean_square(row);
                    }
                    batch.row_square[b] = row_square;
                }
            }
        }
        Q::quantize(s, &mut batch, &mut blocks);
        out.copy_from_slice(&blocks[..out.len()]);
    }
}

/// Puts each block in its lane.
#[inline(always)]
fn gather<const N: usize>(x: &[f32], to: &mut [[f32; 16]; N]) {
    for (b, x) in x.as_chunks::<N>().0.iter().enumerate() {
        for i in 0..N {
            to[i][b] = x[i];
        }
    }
}

/// Summed in order, one after the other.
fn mean_square(row: &[f32]) -> f32 {
    row.iter().fold(0.0, |sum, x| sum + x * x) / row.len() as f32
}
