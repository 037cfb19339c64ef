//! Many tokens by weights in blocks of 256. The arithmetic is that of [`dot_k`](super::dot_k).
//!
//! A strip of weights is unpacked four rows at a time, [arranged](Tile::weights) and kept in scratch with its scales; so are eight tokens,
//! in two fours. Then every four rows meet every eight tokens: two tiles of `[4, 4]`.
//!
//! Registers of a step with `smmla`: the products of a sub-block in 8, `S` in 8, a step of weights in 4 and one of activations in 4. The
//! f32 accumulators are touched once a block and may lie on the stack.

use super::dot_k::{KQuant, Token};
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
    qs: [Step; 16],
    /// Of each sub-block, for each row.
    scales: [[i16; 4]; 16],
    /// Eight mins, and the same again: for [`Tile::products_of_mins`].
    mins: [Step; 2],
    d: [f32; 4],
    dmin: [f32; 4],
}

impl Rows {
    #[inline(always)]
    fn pack<F: KQuant, T: Tile>(&mut self, blocks: [&F; 4]) {
        let offset = vdupq_n_s8(F::OFFSET as i8);
        for (c, to) in self.qs.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let q = four!(|r| blocks[r].quants(c));
            for (i, to) in to.iter_mut().enumerate() {
                store_step(to, T::weights(four!(|r| vsubq_s8(q[r][i], offset))));
            }
        }
        for (r, block) in blocks.iter().enumerate() {
            let scales = block.scales();
            let mut lanes = [[0; 8]; 2];
            for i in 0..2 {
                store_i16(&mut lanes[i], scales[i]);
            }
            for (to, scale) in self.scales.iter_mut().zip(lanes.as_flattened()) {
                to[r] = *scale;
            }
        }
        if F::HAS_MINS {
            let mins = four!(|r| blocks[r].mins());
            for i in 0..2 {
                let step = four!(|r| {
                    let mins = vmovn_s16(mins[r][i]);
                    vcombine_s8(mins, mins)
                });
                store_step(&mut self.mins[i], T::weights(step));
            }
        }
        store_f32(&mut self.d, halves(four!(|r| blocks[r].d_m()[0])));
        store_f32(&mut self.dmin, halves(four!(|r| blocks[r].d_m()[1])));
    }
}

/// A block of four tokens.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
struct Tokens {
    qs: [Step; 16],
    /// The low five bits of eight sums, then the rest of each, in units of 32: for [`Tile::products_of_mins`].
    sums: [Step; 2],
    scales: [f32; 4],
}

impl Tokens {
    #[inline(always)]
    fn pack<F: KQuant, T: Tile>(&mut self, tokens: [Token<'_>; 4]) {
        for (i, to) in self.qs.iter_mut().enumerate() {
            store_step(to, T::activations(four!(|t| load(&tokens[t].qs[i]))));
        }
        if F::HAS_MINS {
            for i in 0..2 {
                let step = four!(|t| {
                    let sums = tokens[t].sums[i];
                    // A sum of 32 is at most 32·127 = 4064 = 127·32 in magnitude: the rest fits an i8.
                    vcombine_s8(vmovn_s16(vandq_s16(sums, vdupq_n_s16(31))), vshrn_n_s16::<5>(sums))
                });
                store_step(&mut self.sums[i], T::activations(step));
            }
        }
        self.scales = four!(|t| tokens[t].scale);
    }
}

/// Adds the products of a run of blocks; `x` has `Q` (1 or 2) fours of tokens a block, `N` is the steps in a sub-block.
#[inline(always)]
fn multiply<F: KQuant, T: Tile, const N: usize, const Q: usize>(
    isa: T,
    w: &[Rows],
    x: &[[Tokens; Q]],
    acc: &mut [[float32x4_t; 4]; Q],
) {
    for (w, x) in w.iter().zip(x) {
        let mut s = [[vdupq_n_s32(0); 4]; Q];
        let mut j = 0;
        while j < 16 / N {
            let steps = load_steps(&w.qs.as_chunks::<N>().0[j]);
            let scales = by_row::<T>(&w.scales[j]);
            each!(Q, |q| {
                let products = isa.products(steps, load_steps(&x[q].qs.as_chunks::<N>().0[j]), F::SMALL);
                s[q] = four!(|i| vmlaq_s32(s[q][i], products[i], scales[i]));
            });
            j += 1;
        }
        let d = T::by_row(load_f32(&w.d));
        each!(Q, |q| { add_scaled::<T>(&mut acc[q], four!(|i| vcvtq_f32_s32(s[q][i])), &d, &x[q].scales) });
        if F::HAS_MINS {
            let dmin = T::by_row(vnegq_f32(load_f32(&w.dmin)));
            each!(Q, |q| {
                let mut m = isa.products_of_mins(load_step(&w.mins[0]), load_step(&x[q].sums[0]));
                if N == 1 {
                    let more = isa.products_of_mins(load_step(&w.mins[1]), load_step(&x[q].sums[1]));
                    m = four!(|i| vaddq_s32(m[i], more[i]));
                }
                add_scaled::<T>(&mut acc[q], four!(|i| vcvtq_f32_s32(m[i])), &dmin, &x[q].scales);
            });
        }
    }
}

/// Integers for each row, where the products of that row are.
#[inline(always)]
fn by_row<T: Tile>(scales: &[i16; 4]) -> [int32x4_t; 4] {
    let scales = T::by_row(vreinterpretq_f32_s32(load_widened(scales)));
    four!(|i| vreinterpretq_s32_f32(scales[i]))
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
    fn tokens<F: KQuant, T: Tile, const Q: usize>(
        &self,
        isa: T,
        t: usize,
        y: &mut OutStrip<'_>,
        mut room: &mut [u8],
    ) {
        let x = carve::<Tokens>(&mut room, self.n * Q).as_chunks_mut::<Q>().0;
        for (b, x) in x.iter_mut().enumerate() {
            for (q, x) in x.iter_mut().enumerate() {
                let token = |i: usize| (t + 4 * q + i).min(self.x.m - 1);
                x.pack::<F, T>(four!(|i| Token::new(&self.x, token(i), self.first + b, F::SUB_LEN)));
            }
        }
        for (g, w) in self.weights.chunks_exact(self.n).enumerate() {
            let mut acc = [[vdupq_n_f32(0.0); 4]; Q];
            if self.first > 0 {
                for (q, acc) in acc.iter_mut().enumerate() {
                    *acc = load_tile::<T>(y, t + 4 * q, 4 * g);
                }
            }
            match F::SUB_LEN {
                16 => multiply::<F, T, 1, Q>(isa, w, x, &mut acc),
                _ => multiply::<F, T, 2, Q>(isa, w, x, &mut acc),
            }
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
pub(super) unsafe fn panel_k<F: KQuant, T: Tile>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    // SAFETY: the registry puts this kernel in the table of an instruction set that has them, handed out after detection.
    let isa = unsafe { T::new() };
    let x = x.quantized();
    let n_blocks = x.k / 256;
    for first in (0..n_blocks).step_by(CHUNK / 256) {
        let n = (n_blocks - first).min(CHUNK / 256);
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
