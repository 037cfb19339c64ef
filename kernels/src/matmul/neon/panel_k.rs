//! Many tokens by weights in blocks of 256. The arithmetic is that of [`dot_k`](super::dot_k).
//!
//! Four rows are unpacked at a time, [arranged](Tile::weights) and stored with their scales; every four rows are then multiplied with every
//! eight tokens, which are packed in two fours: two tiles of `[4, 4]`.
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
    fn pack_blocks<F: KQuant, T: Tile>(&mut self, blocks: [&F; 4]) {
        let offset = vdupq_n_s8(F::OFFSET as i8);
        // Unrolled, so that shifts are by constants.
        four!(|c| {
            let q = four!(|r| blocks[r].quants(c));
            for (i, to) in self.qs[4 * c..][..4].iter_mut().enumerate() {
                store_step(to, T::weights(four!(|r| vsubq_s8(q[r][i], offset))));
            }
        });
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
pub(super) struct Tokens {
    qs: [Step; 16],
    /// For [`Tile::products_of_mins`], the low five bits of eight sums and then the rest of each in units of 32: those over 16 values in two
    /// steps, those over 32 in one.
    sums: [Step; 3],
    scales: [f32; 4],
}

impl PackTokens for Tokens {
    #[inline(always)]
    fn pack<T: Tile>(&mut self, x: &QuantizedRows<'_>, tokens: [usize; 4], b: usize) {
        let tokens = four!(|i| Token::new(x, tokens[i], b, 16));
        for (i, to) in self.qs.iter_mut().enumerate() {
            store_step(to, T::activations(four!(|t| load(&tokens[t].qs[i]))));
        }
        for (i, to) in self.sums.iter_mut().enumerate() {
            let step = four!(|t| {
                let [first, last] = tokens[t].sums;
                let sums = [first, last, vpaddq_s16(first, last)][i];
                // A sum over 32 is at most 32·127 = 4064 = 127·32 in magnitude: the rest fits an i8.
                vcombine_s8(vmovn_s16(vandq_s16(sums, vdupq_n_s16(31))), vshrn_n_s16::<5>(sums))
            });
            store_step(to, T::activations(step));
        }
        self.scales = four!(|t| tokens[t].scale);
    }
}

/// Adds the products of a run of blocks with the first `Q` fours of tokens; `N` is the steps in a sub-block.
#[inline(always)]
fn multiply<F: KQuant, T: Tile, const N: usize, const Q: usize>(
    isa: T,
    w: &[Rows],
    x: &[[Tokens; 2]],
    acc: &mut [[float32x4_t; 4]; 2],
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
                let sums = &x[q].sums;
                let first = load_step(if N == 1 { &sums[0] } else { &sums[2] });
                let mut m = isa.products_of_mins(load_step(&w.mins[0]), first);
                if N == 1 {
                    let more = isa.products_of_mins(load_step(&w.mins[1]), load_step(&sums[1]));
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

impl<F: KQuant, T: Tile> PanelRows<F, T> for Rows {
    type Tokens = Tokens;

    #[inline(always)]
    fn pack(&mut self, blocks: [&F; 4]) {
        self.pack_blocks::<F, T>(blocks);
    }

    #[inline(always)]
    fn multiply<const Q: usize>(isa: T, w: &[Rows], x: &[[Tokens; 2]], acc: &mut [[float32x4_t; 4]; 2]) {
        match F::SUB_LEN {
            16 => multiply::<F, T, 1, Q>(isa, w, x, acc),
            _ => multiply::<F, T, 2, Q>(isa, w, x, acc),
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
    y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    // SAFETY: the registry puts this kernel in the table of an instruction set that has them, handed out after detection.
    let isa = unsafe { T::new() };
    product::<F, T, Rows>(isa, &w, &x.quantized(), y, scratch);
}
