//! Products of quantized rows: the reference that every other instruction set equals.

use crate::dispatch::{OutStrip, StripScratch};
use crate::unpack::{Block32, BlockK, Unpacked32, UnpackedK};
use crate::{Activations, QuantMatrix, QuantizedRows};

/// Activation rows that meet a block once it is unpacked.
const COLUMNS: usize = 16;

/// `x` as the table has checked it to be.
#[inline(always)]
pub(crate) fn quantized(x: Activations<'_>) -> QuantizedRows<'_> {
    let Activations::Quantized(q) = x else { unreachable!("checked by the table") };
    q
}

/// Rows of 256-element blocks by Q8_K activations.
///
/// # Safety
/// None is needed: `unsafe` is the signature of [`StripFn`](crate::dispatch::StripFn).
pub(super) unsafe fn dot_k<B: BlockK>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    mut y: OutStrip<'_>,
    _: &mut StripScratch,
) {
    let x = quantized(x);
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
pub(super) unsafe fn dot_32<B: Block32>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    mut y: OutStrip<'_>,
    _: &mut StripScratch,
) {
    let x = quantized(x);
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
