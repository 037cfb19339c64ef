//! Products with few activation rows: the weights are read once, as they lie in the file.
//!
//! For each block, in the order of the row, with integers exact and each float operation rounded once:
//!
//! ```text
//! blocks of 256:  acc = fma( f32(Σ_sub scale · Σ q·x), d · dx,    acc)
//!                 acc = fma(-f32(Σ_sub min · Σ x),     dmin · dx, acc)      where the format has mins
//! blocks of 32:   acc = fma( f32(Σ q·x), d · dx, acc)
//!                 acc = fma( f32(Σ x),   m · dx, acc)                       where the format has a minimum
//! ```
//!
//! A step computes one register of sums. Either each lane has a row of its own, or the four lanes of a quarter are four rows and the quarters
//! are consecutive groups of blocks, which are then added to `acc` one after the other ([`DotShape`](crate::matmul::DotShape)). The bits are
//! the same. Four rows are fewer and longer streams from memory, which CPUs with an L1 of 32 KB need.

mod blocks_256;
mod blocks_32;
mod scaled_sums;

pub(crate) use blocks_32::vec_dot_32;
pub(crate) use blocks_256::vec_dot_k;

use std::arch::x86_64::__m128;

use crate::activation::rows::QuantizedRows;
use crate::matmul::shape::DotShape;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::simd::row_lanes::RowLanes;
use crate::weights::matrix::QuantMatrix;

/// The product of a strip with up to four activation rows; its outputs are rows `first..` of `y`.
struct Task<'t, 'y> {
    w: QuantMatrix<'t>,
    x: QuantizedRows<'t>,
    y: &'t mut OutStrip<'y>,
    first: usize,
    shape: DotShape,
    scratch: &'t mut StripScratch,
}

/// Groups of a row that a step takes.
const fn groups<S: RowLanes, const FOUR_ROWS: bool>() -> usize {
    if FOUR_ROWS { S::QUARTERS } else { 1 }
}

/// Two products to be added to an accumulator, the second for formats with mins.
#[derive(Clone, Copy)]
struct Terms<S: RowLanes> {
    sum: S::F,
    scale: S::F,
    min_sum: S::F,
    min_scale: S::F,
}

impl<S: RowLanes> Terms<S> {
    #[inline(always)]
    fn zero(s: S) -> Self {
        let zero = s.splat_f32(0.0);
        Terms { sum: zero, scale: zero, min_sum: zero, min_scale: zero }
    }
}

/// The accumulators of one activation row: a lane for each row, or a quarter for four.
#[derive(Clone, Copy)]
struct Accumulator<S: RowLanes> {
    lanes: S::F,
    quarter: __m128,
}

impl<S: RowLanes> Accumulator<S> {
    #[inline(always)]
    fn zero(s: S) -> Self {
        let zero = s.splat_f32(0.0);
        Accumulator { lanes: zero, quarter: s.quarters(zero)[0] }
    }

    /// Adds the blocks of a step: `terms[j]` are those of block `j` of each group. The second product is subtracted if `NEGATIVE`.
    #[inline(always)]
    fn add<const FOUR_ROWS: bool, const MINS: bool, const NEGATIVE: bool>(
        &mut self,
        s: S,
        terms: &[Terms<S>],
    ) {
        if !FOUR_ROWS {
            for terms in terms {
                self.lanes = s.fma(terms.sum, terms.scale, self.lanes);
                if MINS && NEGATIVE {
                    self.lanes = s.fnma(terms.min_sum, terms.min_scale, self.lanes);
                } else if MINS {
                    self.lanes = s.fma(terms.min_sum, terms.min_scale, self.lanes);
                }
            }
            return;
        }
        let mut quarters = [[[self.quarter; 4]; 4]; 4];
        for j in 0..terms.len() {
            quarters[j][0] = s.quarters(terms[j].sum);
            quarters[j][1] = s.quarters(terms[j].scale);
            if MINS {
                quarters[j][2] = s.quarters(terms[j].min_sum);
                quarters[j][3] = s.quarters(terms[j].min_scale);
            }
        }
        for g in 0..S::QUARTERS {
            for j in 0..terms.len() {
                let [sum, scale, min_sum, min_scale] = &quarters[j];
                self.quarter = s.fma_quarter(sum[g], scale[g], self.quarter);
                if MINS && NEGATIVE {
                    self.quarter = s.fnma_quarter(min_sum[g], min_scale[g], self.quarter);
                } else if MINS {
                    self.quarter = s.fma_quarter(min_sum[g], min_scale[g], self.quarter);
                }
            }
        }
    }

    /// The sums of the rows.
    #[inline(always)]
    fn to_array<const FOUR_ROWS: bool>(self, s: S) -> [f32; 16] {
        if !FOUR_ROWS {
            return s.to_array(self.lanes);
        }
        let mut lanes = [0.0; 16];
        lanes[..4].copy_from_slice(&s.quarter_to_array(self.quarter));
        lanes
    }
}
