//! Many tokens by weights in blocks of 32. The arithmetic is that of [`dot_32`](super::dot_32), the plan that of
//! [`panel_k`](super::panel_k), without sub-blocks.

use super::dot_32::Quant32;
use super::panel::*;
use super::products::Tile;
use crate::activation::rows::{Activations, QuantizedRows};
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
    fn pack_blocks<F: Quant32, T: Tile>(&mut self, blocks: [&F; 4]) {
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
pub(super) struct Tokens {
    qs: [Step; 2],
    scales: [f32; 4],
    sums: [f32; 4],
}

impl PackTokens for Tokens {
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

/// Adds the products of a run of blocks with the first `Q` fours of tokens.
#[inline(always)]
fn multiply<F: Quant32, T: Tile, const Q: usize>(
    isa: T,
    w: &[Rows],
    x: &[[Tokens; 2]],
    acc: &mut [[float32x4_t; 4]; 2],
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

impl<F: Quant32, T: Tile> PanelRows<F, T> for Rows {
    type Tokens = Tokens;

    #[inline(always)]
    fn pack(&mut self, blocks: [&F; 4]) {
        self.pack_blocks::<F, T>(blocks);
    }

    #[inline(always)]
    fn multiply<const Q: usize>(isa: T, w: &[Rows], x: &[[Tokens; 2]], acc: &mut [[float32x4_t; 4]; 2]) {
        multiply::<F, T, Q>(isa, w, x, acc);
    }
}

/// The product of a strip.
///
/// # Safety
/// The core has `T`'s instructions.
pub(super) unsafe fn panel_32<F: Quant32, T: Tile>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    // SAFETY: the registry puts this kernel in the table of an instruction set that has them, handed out after detection.
    let isa = unsafe { T::new() };
    product::<F, T, Rows>(isa, &w, &x.quantized(), y, scratch);
}
