//! Many tokens by weights in blocks of 32. The arithmetic is that of [`dot_32`](super::dot_32), the plan that of
//! [`panel_k`](super::panel_k), without sub-blocks.

use super::dot_32::Quant32;
use super::panel::*;
use super::products::Tile;
use crate::activation::rows::Activations;
use crate::activation::rows::QuantizedRows;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::simd::neon::intrinsics::*;
use crate::simd::neon::registers::*;
use crate::weights::matrix::QuantMatrix;

/// A block of four rows.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
struct Rows {
    qs: [Step; 2],
    d: [f32; 4],
    m: [f32; 4],
}

impl Rows {
    #[inline(always)]
    fn pack<F: Quant32, T: Tile>(&mut self, blocks: [&F; 4]) {
        let offset = vdupq_n_s8(F::OFFSET as i8);
        let q = four!(|r| blocks[r].quants());
        for (i, to) in self.qs.iter_mut().enumerate() {
            store_step(to, T::weights(four!(|r| vsubq_s8(q[r][i], offset))));
        }
        store_f32(&mut self.d, halves(four!(|r| blocks[r].d_m()[0])));
        store_f32(&mut self.m, halves(four!(|r| blocks[r].d_m()[1])));
    }
}

/// A block of four tokens.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
struct Tokens {
    qs: [Step; 2],
    scales: [f32; 4],
    sums: [f32; 4],
}

impl Tokens {
    /// Block `b` of the tokens.
    #[inline(always)]
    fn pack<T: Tile>(&mut self, x: &QuantizedRows<'_>, tokens: [usize; 4], b: usize) {
        let at = four!(|i| tokens[i] * (x.k / 32) + b);
        let qs: &[[i8; 16]] = x.qs.as_chunks().0;
        for (i, to) in self.qs.iter_mut().enumerate() {
            store_step(to, T::activations(four!(|t| load(&qs[2 * at[t] + i]))));
        }
        self.scales = four!(|i| x.scales[at[i]]);
        self.sums = four!(|i| x.sums[at[i]] as f32);
    }
}

/// Adds the products of a run of blocks; `x` has `Q` fours of tokens a block.
#[inline(always)]
fn multiply<F: Quant32, T: Tile, const Q: usize>(
    isa: T,
    w: &[Rows],
    x: &[[Tokens; Q]],
    acc: &mut [[float32x4_t; 4]; Q],
) {
    for (w, x) in w.iter().zip(x) {
        let steps = load_steps(&w.qs);
        let (d, m) = (T::by_row(load_f32(&w.d)), T::by_row(load_f32(&w.m)));
        each!(Q, |q| {
            let s = isa.products(steps, load_steps(&x[q].qs), F::SMALL);
            add_scaled::<T>(&mut acc[q], four!(|i| vcvtq_f32_s32(s[i])), &d, &x[q].scales);
            if F::HAS_MIN {
                add_scaled::<T>(&mut acc[q], T::by_token(load_f32(&x[q].sums)), &m, &x[q].scales);
            }
        });
    }
}

/// A part of the columns of a strip: blocks `first..first + n`.
struct Part<'a> {
    weights: &'a [Rows],
    x: QuantizedRows<'a>,
    first: usize,
    n: usize,
}

impl Part<'_> {
    /// Tokens from `t` on, `4·Q` at most, by all rows.
    #[inline(always)]
    fn tokens<F: Quant32, T: Tile, const Q: usize>(
        &self,
        isa: T,
        t: usize,
        y: &mut OutStrip<'_>,
        mut room: &mut [u8],
    ) {
        let x = carve::<Tokens>(&mut room, self.n * Q).as_chunks_mut::<Q>().0;
        for (b, x) in x.iter_mut().enumerate() {
            for (q, x) in x.iter_mut().enumerate() {
                x.pack::<T>(&self.x, four!(|i| (t + 4 * q + i).min(self.x.m - 1)), self.first + b);
            }
        }
        for (g, w) in self.weights.chunks_exact(self.n).enumerate() {
            let mut acc = [[vdupq_n_f32(0.0); 4]; Q];
            if self.first > 0 {
                for (q, acc) in acc.iter_mut().enumerate() {
                    *acc = load_tile::<T>(y, t + 4 * q, 4 * g);
                }
            }
            multiply::<F, T, Q>(isa, w, x, &mut acc);
            for (q, acc) in acc.into_iter().enumerate() {
                store_tile::<T>(y, t + 4 * q, 4 * g, acc);
            }
        }
    }
}

/// The product of a strip.
///
/// # Safety
/// The core has `T`'s instructions.
pub(super) unsafe fn panel_32<F: Quant32, T: Tile>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    // SAFETY: the registry puts this kernel in the table of an instruction set that has them, handed out after detection.
    let isa = unsafe { T::new() };
    let x = x.quantized();
    let n_blocks = x.k / 32;
    for first in (0..n_blocks).step_by(CHUNK / 32) {
        let n = (n_blocks - first).min(CHUNK / 32);
        let mut room = scratch.bytes();
        let weights = carve::<Rows>(&mut room, w.n_rows().div_ceil(4) * n);
        for (g, packed) in weights.chunks_exact_mut(n).enumerate() {
            let rows: [&[F]; 4] = four!(|i| w.row_blocks((4 * g + i).min(w.n_rows() - 1)));
            for (b, packed) in packed.iter_mut().enumerate() {
                packed.pack::<F, T>(four!(|r| &rows[r][first + b]));
            }
        }
        let part = Part { weights, x, first, n };
        for t in (0..x.m).step_by(8) {
            match x.m - t {
                1..=4 => part.tokens::<F, T, 1>(isa, t, &mut y, room),
                _ => part.tokens::<F, T, 2>(isa, t, &mut y, room),
            }
        }
    }
}
