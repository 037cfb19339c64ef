//! The reference: every kernel in plain Rust.
//!
//! # The rule of quantized products
//!
//! With `q` the values of a weight block, `x` those of the activation block (scale `dx`), all integer sums exact in i32, every float
//! operation rounded once, `acc` starting at 0.0 and blocks taken in the order of the row:
//!
//! - 256-element blocks: `S = Σ_j scale_j · Σ_{i in 16j..16j+16} q_i·x_i`, then `acc = fma(f32(S), d·dx, acc)`. Where the format has
//!   mins, `M = Σ_j min_j · sum_j` of the activations' sums, then `acc = fma(−f32(M), dmin·dx, acc)`.
//! - 32-element blocks: `S = Σ_i q_i·x_i`, then `acc = fma(f32(S), d·dx, acc)`. Where the format has a minimum, then
//!   `acc = fma(f32(sum), m·dx, acc)`.
//!
//! `|S|` stays below 2²⁷ (Q6_K: 256 · 32 · 128 · 127). `f32(S)` rounds to nearest, ties to even.

use crate::activation::rows::Activations;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::weights::matrix::QuantMatrix;
use crate::weights::unpack::{Block32, BlockK, Unpacked32, UnpackedK};

/// Activation rows that meet a block once it is unpacked.
const COLUMNS: usize = 16;

/// Rows of 256-element blocks by Q8_K activations.
///
/// # Safety
/// None is needed: `unsafe` is the signature of [`StripFn`](crate::matmul::strip::StripFn).
pub(crate) unsafe fn dot_k<B: BlockK>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    mut y: OutStrip<'_>,
    _: &mut StripScratch,
) {
    let x = x.quantized();
    let mut u = UnpackedK::ZERO;
    for r in 0..w.n_rows() {
        for first in (0..x.m).step_by(COLUMNS) {
            let x = x.rows(first, COLUMNS.min(x.m - first));
            let mut acc = [0f32; COLUMNS];
            for (b, block) in w.row_blocks::<B>(r).iter().enumerate() {
                block.unpack(&mut u);
                for (t, acc) in acc.iter_mut().enumerate().take(x.m) {
                    let i = t * x.k + 256 * b;
                    let dx = x.scales[i / 256];
                    let (qs, sums) = (&x.qs[i..][..256], &x.sums[i / 16..][..16]);
                    let s =
                        (0..16).map(|j| u.scales[j] as i32 * dot_i8(&u.qs[16 * j..][..16], &qs[16 * j..]));
                    *acc = (s.sum::<i32>() as f32).mul_add(u.d * dx, *acc);
                    if B::HAS_MINS {
                        let m = (0..16).map(|j| u.mins[j] as i32 * sums[j] as i32).sum::<i32>();
                        *acc = (-(m as f32)).mul_add(u.dmin * dx, *acc);
                    }
                }
            }
            for (t, acc) in acc.iter().enumerate().take(x.m) {
                y.row(first + t)[r] = *acc;
            }
        }
    }
}

/// Rows of 32-element blocks by Q8_0 activations.
///
/// # Safety
/// As [`dot_k`].
pub(crate) unsafe fn dot_32<B: Block32>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    mut y: OutStrip<'_>,
    _: &mut StripScratch,
) {
    let x = x.quantized();
    let mut u = Unpacked32::ZERO;
    for r in 0..w.n_rows() {
        for first in (0..x.m).step_by(COLUMNS) {
            let x = x.rows(first, COLUMNS.min(x.m - first));
            let mut acc = [0f32; COLUMNS];
            for (b, block) in w.row_blocks::<B>(r).iter().enumerate() {
                block.unpack(&mut u);
                for (t, acc) in acc.iter_mut().enumerate().take(x.m) {
                    let i = t * x.k + 32 * b;
                    let (dx, sum) = (x.scales[i / 32], x.sums[i / 32]);
                    *acc = (dot_i8(&u.qs, &x.qs[i..]) as f32).mul_add(u.d * dx, *acc);
                    if B::HAS_MIN {
                        *acc = (sum as f32).mul_add(u.m * dx, *acc);
                    }
                }
            }
            for (t, acc) in acc.iter().enumerate().take(x.m) {
                y.row(first + t)[r] = *acc;
            }
        }
    }
}

/// `Σ a[i]·b[i]` over the length of `a`, exactly.
#[inline(always)]
fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(a, b)| *a as i32 * *b as i32).sum()
}
