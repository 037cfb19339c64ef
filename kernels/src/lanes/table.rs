//! The float kernels of one instruction set, as a [`KernelTable`](crate::KernelTable) holds them.

use crate::attention::{self, PageHead, Partials};
use crate::dispatch::{OutStrip, StripFn, StripScratch};
use crate::float_dot::{Bf16, F16, F32};
use crate::lanes::Lanes;
use crate::ops::{self, LeF32};
use crate::{Activations, QuantMatrix, float_dot, rope};

/// Kernels on 16 lanes. They are `unsafe` in one respect only: the CPU must have the features of the instruction set they were built
/// for. Shapes are asserted, or checked by the methods of the table.
pub(crate) struct FloatKernels {
    /// Products with F32, F16 and BF16 weights, for few activation rows and for many.
    pub(crate) product: [StripFn; 3],
    pub(crate) rms_norm: unsafe fn(&[f32], LeF32<'_>, f32, &mut [f32]) -> bool,
    pub(crate) swiglu: unsafe fn(&mut [f32], &[f32]),
    pub(crate) add_scaled: unsafe fn(&mut [f32], &[f32], f32),
    pub(crate) scale: unsafe fn(&mut [f32], f32),
    pub(crate) softmax: unsafe fn(&mut [f32]),
    pub(crate) apply_rope: unsafe fn(&mut [f32], usize, usize, &[f32]),
    #[allow(clippy::type_complexity)]
    pub(crate) attend_page: unsafe fn(PageHead<'_>, &[f32], &[(u8, u8)], &mut Partials),
    pub(crate) merge: unsafe fn(&mut Partials, &Partials, usize),
    pub(crate) finish: unsafe fn(&Partials, usize, &mut [f32]),
}

/// Builds the kernels of one instruction set.
///
/// `product R x T`: weight rows and activation rows of a tile of sums. `scores V`: vectors of keys that meet four queries at a time.
/// `values R`: queries that meet 32 dimensions of a value at a time. Each as many as the registers hold.
macro_rules! float_kernels {
    ($name:ident, $lanes:ty, $(#[$features:meta],)? product $r:literal x $t:literal, scores $v:literal, values $p:literal) => {
        pub(crate) const $name: FloatKernels = {
            type S = $lanes;

            $(#[$features])?
            unsafe fn product_f32(w: QuantMatrix<'_>, x: Activations<'_>, y: OutStrip<'_>, _: &mut StripScratch) {
                // SAFETY: the features are the caller's promise.
                float_dot::product::<S, F32, $r, $t>(unsafe { S::new() }, w, x, y)
            }
            $(#[$features])?
            unsafe fn product_f16(w: QuantMatrix<'_>, x: Activations<'_>, y: OutStrip<'_>, _: &mut StripScratch) {
                // SAFETY: as above.
                float_dot::product::<S, F16, $r, $t>(unsafe { S::new() }, w, x, y)
            }
            $(#[$features])?
            unsafe fn product_bf16(w: QuantMatrix<'_>, x: Activations<'_>, y: OutStrip<'_>, _: &mut StripScratch) {
                // SAFETY: as above.
                float_dot::product::<S, Bf16, $r, $t>(unsafe { S::new() }, w, x, y)
            }
            $(#[$features])?
            unsafe fn rms_norm(x: &[f32], weight: LeF32<'_>, eps: f32, out: &mut [f32]) -> bool {
                // SAFETY: as above.
                ops::rms_norm(unsafe { S::new() }, x, weight, eps, out)
            }
            $(#[$features])?
            unsafe fn swiglu(gate: &mut [f32], up: &[f32]) {
                // SAFETY: as above.
                ops::swiglu(unsafe { S::new() }, gate, up)
            }
            $(#[$features])?
            unsafe fn add_scaled(y: &mut [f32], x: &[f32], factor: f32) {
                // SAFETY: as above.
                ops::add_scaled(unsafe { S::new() }, y, x, factor)
            }
            $(#[$features])?
            unsafe fn scale(x: &mut [f32], factor: f32) {
                // SAFETY: as above.
                ops::scale(unsafe { S::new() }, x, factor)
            }
            $(#[$features])?
            unsafe fn softmax(x: &mut [f32]) {
                // SAFETY: as above.
                ops::softmax(unsafe { S::new() }, x)
            }
            $(#[$features])?
            unsafe fn apply_rope(row: &mut [f32], head_dim: usize, rope_dims: usize, rotation: &[f32]) {
                // SAFETY: as above.
                rope::apply_rope(unsafe { S::new() }, row, head_dim, rope_dims, rotation)
            }
            $(#[$features])?
            unsafe fn attend_page(
                head: PageHead<'_>,
                q: &[f32],
                ranges: &[(u8, u8)],
                out: &mut Partials,
            ) {
                // SAFETY: as above.
                attention::attend_page::<S, $v, $p>(unsafe { S::new() }, head, q, ranges, out)
            }
            $(#[$features])?
            unsafe fn merge(running: &mut Partials, page: &Partials, n_rows: usize) {
                // SAFETY: as above.
                attention::merge(unsafe { S::new() }, running, page, n_rows)
            }
            $(#[$features])?
            unsafe fn finish(running: &Partials, row: usize, out: &mut [f32]) {
                // SAFETY: as above.
                attention::finish(unsafe { S::new() }, running, row, out)
            }

            FloatKernels {
                product: [product_f32, product_f16, product_bf16],
                rms_norm,
                swiglu,
                add_scaled,
                scale,
                softmax,
                apply_rope,
                attend_page,
                merge,
                finish,
            }
        };
    };
}

float_kernels!(SCALAR, super::scalar::Scalar, product 1 x 1, scores 1, values 1);

#[cfg(target_arch = "x86_64")]
float_kernels!(
    AVX2, super::avx2::Avx2, #[target_feature(enable = "avx2,fma,f16c")],
    product 2 x 2, scores 1, values 2
);

#[cfg(target_arch = "x86_64")]
float_kernels!(
    AVX512, super::avx512::Avx512, #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")],
    product 4 x 4, scores 4, values 4
);

#[cfg(target_arch = "aarch64")]
float_kernels!(
    NEON, super::neon::Neon, #[target_feature(enable = "neon")],
    product 2 x 2, scores 1, values 2
);
