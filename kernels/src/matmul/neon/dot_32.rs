//! Few tokens by weights in blocks of 32, read straight from the file.
//!
//! With `q` the values of the weights, `x` and `sum` those of the activations, for each block `S = Σ_i q_i·x_i`,
//! `acc = fma(f32(S), d·dx, acc)`; with a minimum then `acc = fma(f32(sum), m·dx, acc)`.
//!
//! Four rows at a time: eight registers of values that every token meets; the products of the four rows are added up pairwise into the
//! lanes of one register.

use super::products::Dot;
use crate::activation::rows::Activations;
use crate::activation::rows::QuantizedRows;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::simd::neon::intrinsics::*;
use crate::simd::neon::registers::*;
use crate::weights::block::F16Le;
use crate::weights::matrix::QuantMatrix;
use crate::weights::unpack::Block32;

/// How a block of 32 comes into registers.
pub(super) trait Quant32: Block32 {
    /// What [`Quant32::quants`] are too large by.
    const OFFSET: i32;
    /// Whether those are within `[−64, 64]`.
    const SMALL: bool;

    /// The values, plus [`Quant32::OFFSET`].
    fn quants(&self) -> [int8x16_t; 2];

    /// `d`, then `m` or zero.
    fn d_m(&self) -> [F16Le; 2];
}

/// The nibbles of [`BlockQ4_0`](crate::weights::block::BlockQ4_0).
#[inline(always)]
pub(super) fn nibbles(qs: &[u8; 16]) -> [int8x16_t; 2] {
    let qs = load_u8(qs);
    [low(qs), high(qs)]
}

/// Tokens `first..first + M` (beyond the last one: that one again) by all rows.
#[inline(always)]
fn tokens<F: Quant32, D: Dot, const M: usize>(
    isa: D,
    w: &QuantMatrix<'_>,
    x: &QuantizedRows<'_>,
    first: usize,
    y: &mut OutStrip<'_>,
) {
    let (n_rows, n_blocks) = (w.n_rows(), w.k() / 32);
    let qs: &[[i8; 32]] = x.qs.as_chunks().0;
    for r in (0..n_rows).step_by(4) {
        let rows: [&[F]; 4] = four!(|i| w.row_blocks((r + i).min(n_rows - 1)));
        let mut acc = [vdupq_n_f32(0.0); M];
        for (b, (((w0, w1), w2), w3)) in rows[0].iter().zip(rows[1]).zip(rows[2]).zip(rows[3]).enumerate() {
            let blocks = [w0, w1, w2, w3];
            let q = four!(|r| blocks[r].quants());
            let (d, m) = (halves(four!(|r| blocks[r].d_m()[0])), halves(four!(|r| blocks[r].d_m()[1])));
            for t in 0..M {
                let at = (first + t).min(x.m - 1) * n_blocks + b;
                let (dx, sum) = (vdupq_n_f32(x.scales[at]), x.sums[at] as i32);
                let [low, high] = bytemuck::cast_ref(&qs[at]);
                let x = [load(low), load(high)];
                let mut s = sum_lanes(four!(|r| isa.dot(q[r], x, F::SMALL)));
                if F::OFFSET != 0 {
                    s = vsubq_s32(s, vdupq_n_s32(F::OFFSET * sum));
                }
                acc[t] = vfmaq_f32(acc[t], vcvtq_f32_s32(s), vmulq_f32(d, dx));
                if F::HAS_MIN {
                    acc[t] = vfmaq_f32(acc[t], vdupq_n_f32(sum as f32), vmulq_f32(m, dx));
                }
            }
        }
        for (t, acc) in acc.into_iter().enumerate().take(x.m - first) {
            store_some(&mut y.row(first + t)[r..], acc);
        }
    }
}

/// The product of any rows and tokens.
///
/// # Safety
/// The core has `D`'s instructions.
pub(super) unsafe fn dot_32<F: Quant32, D: Dot>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    mut y: OutStrip<'_>,
    _: &mut StripScratch,
) {
    // SAFETY: the registry puts this kernel in the table of an instruction set that has them, handed out after detection.
    let isa = unsafe { D::new() };
    let x = x.quantized();
    let mut t = 0;
    while t < x.m {
        match x.m - t {
            1 => tokens::<F, D, 1>(isa, &w, &x, t, &mut y),
            2 => tokens::<F, D, 2>(isa, &w, &x, t, &mut y),
            _ => tokens::<F, D, 4>(isa, &w, &x, t, &mut y),
        }
        t += 4;
    }
}
