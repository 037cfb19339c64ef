//! Few tokens by weights in blocks of 256, read straight from the file.
//!
//! With `q`, `scale`, `min` of the weights and `x`, `sum` of the activations, for each block
//! `S = Σ_j scale_j · Σ_i q_i·x_i`, `acc = fma(f32(S), d·dx, acc)`; with mins `M = Σ_j min_j·sum_j`, `acc = fma(−f32(M), dmin·dx, acc)`.
//!
//! Four rows at a time, one after the other within a block. Registers: eight of a row's values (half a block) that every token meets,
//! one sum a token. The products of four sub-blocks are added up pairwise into the lanes of one register, which is multiplied by the
//! four scales at once. When the four rows are done, their sums are added up the same way, and lanes are rows.

use super::products::Dot;
use crate::activation::rows::Activations;
use crate::activation::rows::QuantizedRows;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::simd::neon::intrinsics::*;
use crate::simd::neon::registers::*;
use crate::weights::block::F16Le;
use crate::weights::matrix::QuantMatrix;
use crate::weights::unpack::BlockK;

/// How a block of 256 comes into registers.
pub(super) trait KQuant: BlockK {
    /// Values that share a scale: 16 or 32.
    const SUB_LEN: usize;
    /// What [`KQuant::quants`] are too large by.
    const OFFSET: i32;
    /// Whether those are within `[−64, 64]`.
    const SMALL: bool;

    /// Values `64c..64c + 64`, plus [`KQuant::OFFSET`].
    fn quants(&self, c: usize) -> [int8x16_t; 4];

    /// The scales of the sub-blocks; eight of them where `SUB_LEN` is 32.
    fn scales(&self) -> [int16x8_t; 2];

    /// Their mins, in `0..=63`; zeros where the format has none.
    fn mins(&self) -> [int16x8_t; 2] {
        [vdupq_n_s16(0); 2]
    }

    /// `d`, then `dmin` or zero.
    fn d_m(&self) -> [F16Le; 2];
}

/// A token's part of a block.
#[derive(Clone, Copy)]
pub(super) struct Token<'a> {
    pub qs: &'a [[i8; 16]; 16],
    /// Of the sub-blocks: as [`KQuant::scales`].
    pub sums: [int16x8_t; 2],
    pub scale: f32,
}

impl<'a> Token<'a> {
    /// Block `b` of token `t`.
    #[inline(always)]
    pub fn new(x: &QuantizedRows<'a>, t: usize, b: usize, sub_len: usize) -> Self {
        let at = t * (x.k / 256) + b;
        let qs: &[i8; 256] = &x.qs.as_chunks().0[at];
        let sums: &[i16; 16] = &x.sums.as_chunks().0[at];
        let [first, last] = bytemuck::cast_ref(sums);
        let (first, last) = (load_i16(first), load_i16(last));
        let sums = if sub_len == 16 { [first, last] } else { [vpaddq_s16(first, last), vdupq_n_s16(0)] };
        Token { qs: bytemuck::cast_ref(qs), sums, scale: x.scales[at] }
    }

    /// `Σ_j factor_j · sum_j`, spread over the lanes.
    #[inline(always)]
    fn by_sums<F: KQuant>(&self, factors: &[int16x8_t; 2]) -> int32x4_t {
        let mut sum = add_products(vdupq_n_s32(0), factors[0], self.sums[0]);
        if F::SUB_LEN == 16 {
            sum = add_products(sum, factors[1], self.sums[1]);
        }
        sum
    }
}

/// `sum + Σ a·b`, spread over the lanes.
#[inline(always)]
fn add_products(sum: int32x4_t, a: int16x8_t, b: int16x8_t) -> int32x4_t {
    vmlal_high_s16(vmlal_s16(sum, vget_low_s16(a), vget_low_s16(b)), a, b)
}

/// The sums of one row, spread over the lanes: `S` and `M` of each token.
#[inline(always)]
fn row<F: KQuant, D: Dot, const M: usize>(isa: D, w: &F, x: &[Token<'_>; M]) -> [[int32x4_t; M]; 2] {
    let scales = w.scales();
    let [a, b] = scales;
    let wide = [vmovl_s16(vget_low_s16(a)), vmovl_high_s16(a), vmovl_s16(vget_low_s16(b)), vmovl_high_s16(b)];
    let (mut s, mut m) = ([vdupq_n_s32(0); M], [vdupq_n_s32(0); M]);
    // Unrolled, so that shifts are by constants.
    each!(2, |half| {
        let q = [w.quants(2 * half), w.quants(2 * half + 1)];
        for t in 0..M {
            let x = &x[t].qs.as_chunks::<8>().0[half];
            let x = [four!(|i| load(&x[i])), four!(|i| load(&x[4 + i]))];
            if F::SUB_LEN == 32 {
                let sums = four!(|i| {
                    let (c, i) = (i / 2, i % 2 * 2);
                    isa.dot([q[c][i], q[c][i + 1]], [x[c][i], x[c][i + 1]], F::SMALL)
                });
                s[t] = vmlaq_s32(s[t], sum_lanes(sums), wide[half]);
            } else {
                for c in 0..2 {
                    let sums = four!(|i| isa.dot([q[c][i]], [x[c][i]], F::SMALL));
                    s[t] = vmlaq_s32(s[t], sum_lanes(sums), wide[2 * half + c]);
                }
            }
        }
    });
    if F::OFFSET != 0 {
        for t in 0..M {
            s[t] = vmlsq_n_s32(s[t], x[t].by_sums::<F>(&scales), F::OFFSET);
        }
    }
    if F::HAS_MINS {
        let mins = w.mins();
        for t in 0..M {
            m[t] = x[t].by_sums::<F>(&mins);
        }
    }
    [s, m]
}

/// Tokens `first..first + M` (beyond the last one: that one again) by all rows.
#[inline(always)]
fn tokens<F: KQuant, D: Dot, const M: usize>(
    isa: D,
    w: &QuantMatrix<'_>,
    x: &QuantizedRows<'_>,
    first: usize,
    y: &mut OutStrip<'_>,
) {
    let n_rows = w.n_rows();
    for r in (0..n_rows).step_by(4) {
        let rows: [&[F]; 4] = four!(|i| w.row_blocks((r + i).min(n_rows - 1)));
        let mut acc = [vdupq_n_f32(0.0); M];
        for (b, (((w0, w1), w2), w3)) in rows[0].iter().zip(rows[1]).zip(rows[2]).zip(rows[3]).enumerate() {
            let mut tokens = [Token::new(x, first, b, F::SUB_LEN); M];
            for t in 1..M {
                tokens[t] = Token::new(x, (first + t).min(x.m - 1), b, F::SUB_LEN);
            }
            let blocks = [w0, w1, w2, w3];
            let mut sums = [[[vdupq_n_s32(0); M]; 2]; 4];
            for r in 0..4 {
                sums[r] = row(isa, blocks[r], &tokens);
            }
            let (d, dmin) = (halves(four!(|r| blocks[r].d_m()[0])), halves(four!(|r| blocks[r].d_m()[1])));
            for t in 0..M {
                let dx = vdupq_n_f32(tokens[t].scale);
                let s = vcvtq_f32_s32(sum_lanes(four!(|r| sums[r][0][t])));
                acc[t] = vfmaq_f32(acc[t], s, vmulq_f32(d, dx));
                if F::HAS_MINS {
                    let m = vcvtq_f32_s32(sum_lanes(four!(|r| sums[r][1][t])));
                    acc[t] = vfmsq_f32(acc[t], m, vmulq_f32(dmin, dx));
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
pub(super) unsafe fn dot_k<F: KQuant, D: Dot>(
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
