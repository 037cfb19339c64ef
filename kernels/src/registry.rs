//! Every instruction set and its kernels: the one file that names them all.

use crate::activation::quantize;
use crate::activation::rows::Activations;
use crate::attention::page;
use crate::attention::partials::{self, PageHead, Partials};
use crate::float_dot::{self, Bf16, F16, F32};
use crate::low_rank::expand::{self, ExpandJob};
use crate::matmul::strip::{OutStrip, StripFn, StripScratch};
use crate::ops::{self, LeF32};
use crate::rope;
use crate::simd::isa::Isa;
use crate::simd::lanes::Lanes;
use crate::table::{FloatKernels, KernelTable};
use crate::weights::block::*;
use crate::weights::format::Format;
use crate::weights::matrix::QuantMatrix;
use crate::{matmul, simd};

/// What `quantizer!` makes of each format with scales.
#[cfg(feature = "quantize")]
macro_rules! formats_with_scales {
    ($quantizer:ident) => {
        [
            $quantizer!(Q8_0, 32),
            $quantizer!(Q4_0, 32),
            $quantizer!(Q4_1, 32),
            $quantizer!(Q5_0, 32),
            $quantizer!(Q5_1, 32),
            $quantizer!(Q2K, 256),
            $quantizer!(Q3K, 256),
            $quantizer!(Q4K, 256),
            $quantizer!(Q5K, 256),
            $quantizer!(Q6K, 256),
            $quantizer!(Iq4Nl, 32),
            $quantizer!(Iq4Xs, 256),
        ]
    };
}

/// Builds the kernels of one instruction set.
///
/// `product R x T`: weight rows (or 16 rows of a low-rank B) and activation rows of a tile of sums. `scores V`: vectors of keys that meet four queries at a time.
/// `values R`: queries that meet 32 dimensions of a value at a time. `block M x V`: rows and vectors of a tile of a product of f32 matrices.
/// Each as many as the registers hold.
macro_rules! float_kernels {
    ($name:ident, $lanes:ty, $(#[$features:meta],)? product $r:literal x $t:literal, scores $v:literal, values $p:literal, block $m:literal x $mv:literal) => {
        const $name: FloatKernels = {
            type S = $lanes;
            macro_rules! lanes {
                () => {
                    // SAFETY: `KernelTable::for_isa` hands out these functions after it has found the features of `S` on this CPU.
                    unsafe { S::new() }
                };
            }

            $(#[$features])?
            unsafe fn product_f32(w: QuantMatrix<'_>, x: Activations<'_>, y: OutStrip<'_>, _: &mut StripScratch) {
                float_dot::product::<S, F32, $r, $t>(lanes!(), w, x, y)
            }
            $(#[$features])?
            unsafe fn product_f16(w: QuantMatrix<'_>, x: Activations<'_>, y: OutStrip<'_>, _: &mut StripScratch) {
                float_dot::product::<S, F16, $r, $t>(lanes!(), w, x, y)
            }
            $(#[$features])?
            unsafe fn product_bf16(w: QuantMatrix<'_>, x: Activations<'_>, y: OutStrip<'_>, _: &mut StripScratch) {
                float_dot::product::<S, Bf16, $r, $t>(lanes!(), w, x, y)
            }
            $(#[$features])?
            unsafe fn expand_f32(job: ExpandJob<'_>) {
                expand::expand::<S, F32, $r, $t>(lanes!(), job)
            }
            $(#[$features])?
            unsafe fn expand_f16(job: ExpandJob<'_>) {
                expand::expand::<S, F16, $r, $t>(lanes!(), job)
            }
            $(#[$features])?
            unsafe fn expand_bf16(job: ExpandJob<'_>) {
                expand::expand::<S, Bf16, $r, $t>(lanes!(), job)
            }
            $(#[$features])?
            unsafe fn rms_norm(x: &[f32], weight: LeF32<'_>, eps: f32, out: &mut [f32]) -> bool {
                ops::rms_norm(lanes!(), x, weight, eps, out)
            }
            $(#[$features])?
            unsafe fn swiglu(gate: &mut [f32], up: &[f32]) {
                ops::swiglu(lanes!(), gate, up)
            }
            $(#[$features])?
            unsafe fn add_scaled(y: &mut [f32], x: &[f32], factor: f32) {
                ops::add_scaled(lanes!(), y, x, factor)
            }
            $(#[$features])?
            unsafe fn scale(x: &mut [f32], factor: f32) {
                ops::scale(lanes!(), x, factor)
            }
            $(#[$features])?
            unsafe fn softmax(x: &mut [f32]) {
                ops::softmax(lanes!(), x)
            }
            $(#[$features])?
            unsafe fn apply_rope(row: &mut [f32], head_dim: usize, rope_dims: usize, rotation: &[f32]) {
                rope::apply_rope::<S, false>(lanes!(), row, head_dim, rope_dims, rotation)
            }
            $(#[$features])?
            unsafe fn attend_page(
                head: PageHead<'_>,
                q: &[f32],
                ranges: &[(u8, u8)],
                out: &mut Partials,
            ) {
                page::attend_page::<S, $v, $p>(lanes!(), head, q, ranges, out)
            }
            $(#[$features])?
            unsafe fn merge(running: &mut Partials, page: &Partials, n_rows: usize) {
                partials::merge(lanes!(), running, page, n_rows)
            }
            $(#[$features])?
            unsafe fn finish(running: &Partials, row: usize, out: &mut [f32]) {
                partials::finish(lanes!(), running, row, out)
            }

            FloatKernels {
                product: [product_f32, product_f16, product_bf16],
                expand: [expand_f32, expand_f16, expand_bf16],
                rms_norm,
                swiglu,
                add_scaled,
                scale,
                softmax,
                apply_rope,
                attend_page,
                merge,
                finish,
                #[cfg(feature = "quantize")]
                quantize_blocks: {
                    use crate::quantize as q;

                    macro_rules! quantizer {
                        ($format:ident, $n:literal) => {{
                            $(#[$features])?
                            unsafe fn quantize(job: q::Job<'_>) {
                                q::quantize_blocks::<S, q::$format, $n>(lanes!(), job)
                            }
                            quantize
                        }};
                    }
                    formats_with_scales!(quantizer)
                },
                #[cfg(feature = "quantize")]
                quantize_columns: {
                    use crate::quantize as q;

                    macro_rules! quantizer {
                        ($format:ident, $n:literal) => {{
                            $(#[$features])?
                            unsafe fn quantize(job: q::FeedbackJob<'_>) {
                                q::quantize_columns::<S, q::$format, $n>(lanes!(), job)
                            }
                            quantize
                        }};
                    }
                    formats_with_scales!(quantizer)
                },
                #[cfg(feature = "quantize")]
                product_block: {
                    $(#[$features])?
                    unsafe fn product_block(job: crate::linalg::product::BlockJob<'_>) {
                        crate::linalg::product::product_block::<S, $m, $mv>(lanes!(), job)
                    }
                    product_block
                },
                #[cfg(feature = "train")]
                backward: {
                    use crate::backward::kernels as b;

                    $(#[$features])?
                    unsafe fn pack_left(job: b::PackLeft<'_>) {
                        b::pack_left_job::<S, $m>(lanes!(), job)
                    }
                    $(#[$features])?
                    unsafe fn pack_right(job: b::PackRight<'_>) {
                        b::pack_right_job::<S, $mv>(lanes!(), job)
                    }
                    $(#[$features])?
                    unsafe fn multiply(job: b::Multiply<'_>) {
                        b::multiply::<S, $m, $mv>(lanes!(), job)
                    }
                    $(#[$features])?
                    unsafe fn softmax_step(x: &mut [f32], running: (f32, f32), sums: &mut [f32]) -> (f32, f32) {
                        b::softmax_step(lanes!(), x, running, sums)
                    }
                    $(#[$features])?
                    unsafe fn score_gradients(x: &mut [f32], dx: &mut [f32], log_sum: f32, delta: f32) {
                        b::score_gradients(lanes!(), x, dx, log_sum, delta)
                    }
                    $(#[$features])?
                    unsafe fn dot(x: &[f32], y: &[f32]) -> f32 {
                        b::dot(lanes!(), x, y)
                    }
                    $(#[$features])?
                    unsafe fn rms_norm_backward(x: &[f32], w: LeF32<'_>, eps: f32, dy: &[f32], dx: &mut [f32]) {
                        b::rms_norm_backward(lanes!(), x, w, eps, dy, dx)
                    }
                    $(#[$features])?
                    unsafe fn swiglu_backward(gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
                        b::swiglu_backward(lanes!(), gate, up, dy)
                    }
                    $(#[$features])?
                    unsafe fn rope_backward(row: &mut [f32], head_dim: usize, rope_dims: usize, rotation: &[f32]) {
                        rope::apply_rope::<S, true>(lanes!(), row, head_dim, rope_dims, rotation)
                    }
                    $(#[$features])?
                    unsafe fn exp_sum(x: &[f32], largest: f32) -> f64 {
                        b::exp_sum(lanes!(), x, largest)
                    }
                    $(#[$features])?
                    unsafe fn normalize(x: &mut [f32], largest: f32, inverse: f32) {
                        b::normalize(lanes!(), x, largest, inverse)
                    }
                    $(#[$features])?
                    unsafe fn drop_row(key: u64, threshold: u32, scale: f32, x: &[f32], out: &mut [f32]) {
                        b::drop_row(lanes!(), key, threshold, scale, x, out)
                    }
                    $(#[$features])?
                    unsafe fn add_dropped(key: u64, threshold: u32, scale: f32, x: &[f32], out: &mut [f32]) {
                        b::add_dropped(lanes!(), key, threshold, scale, x, out)
                    }

                    b::BackwardKernels {
                        tile: ($m, $mv * crate::simd::lanes::LANES),
                        pack_left,
                        pack_right,
                        multiply,
                        softmax_step,
                        score_gradients,
                        dot,
                        rms_norm_backward,
                        swiglu_backward,
                        rope_backward,
                        exp_sum,
                        normalize,
                        drop_row,
                        add_dropped,
                    }
                },
            }
        };
    };
}

float_kernels!(SCALAR, simd::scalar::Scalar, product 1 x 1, scores 1, values 1, block 4 x 1);

#[cfg(target_arch = "x86_64")]
float_kernels!(
    AVX2, simd::avx2::Avx2, #[target_feature(enable = "avx2,fma,f16c")],
    product 2 x 2, scores 1, values 2, block 6 x 1
);

#[cfg(all(target_arch = "x86_64", not(bise_isa = "avx2")))]
float_kernels!(
    AVX512, simd::avx512::Avx512, #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")],
    product 4 x 4, scores 4, values 4, block 12 x 2
);

#[cfg(target_arch = "aarch64")]
float_kernels!(
    NEON, simd::neon::Neon, #[target_feature(enable = "neon")],
    product 2 x 2, scores 1, values 2, block 6 x 1
);

/// Products of every format: those with floats, then those with quantized ones.
const fn by_format(
    floats: &FloatKernels,
    quantized: [StripFn; Format::N_QUANTIZED],
) -> [StripFn; Format::ALL.len()] {
    let mut all = [floats.product[0]; Format::ALL.len()];
    let mut i = 1;
    while i < all.len() {
        all[i] = if i < 3 { floats.product[i] } else { quantized[i - 3] };
        i += 1;
    }
    all
}

static SCALAR_TABLE: KernelTable = {
    use matmul::scalar::{dot_32, dot_k};
    let quantized: [StripFn; Format::N_QUANTIZED] = [
        dot_32::<BlockQ8_0>,
        dot_32::<BlockQ4_0>,
        dot_32::<BlockQ4_1>,
        dot_32::<BlockQ5_0>,
        dot_32::<BlockQ5_1>,
        dot_k::<BlockQ2K>,
        dot_k::<BlockQ3K>,
        dot_k::<BlockQ4K>,
        dot_k::<BlockQ5K>,
        dot_k::<BlockQ6K>,
        dot_32::<BlockIQ4NL>,
        dot_k::<BlockIQ4XS>,
    ];
    KernelTable {
        isa: Isa::Scalar,
        dot: by_format(&SCALAR, quantized),
        panel: by_format(&SCALAR, quantized),
        tuned: [false; Format::ALL.len()],
        pack: None,
        by_block: true,
        quantize_q8_0: quantize::quantize_row_q8_0,
        quantize_q8k: quantize::quantize_row_q8k,
        floats: SCALAR,
    }
};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use crate::activation::pack::pack_groups;
    #[cfg(not(bise_isa = "avx2"))]
    use crate::matmul::amx::{amx_panel_32, amx_panel_k};
    use crate::matmul::dot::{vec_dot_32, vec_dot_k};
    use crate::matmul::formats::*;
    use crate::matmul::panel::{panel_32, panel_k};
    use crate::simd::avx2::rows::{Avx2Rows, Maddubs, Vnni};
    #[cfg(not(bise_isa = "avx2"))]
    use crate::simd::avx512::rows::Avx512Rows;

    /// A kernel for each quantized format, in the order of [`Format::ALL`].
    macro_rules! formats {
        ($of_32:ident, $of_256:ident $(, $isa:ty)?) => {
            [
                $of_32::<$($isa,)? Q8_0>,
                $of_32::<$($isa,)? Q4_0>,
                $of_32::<$($isa,)? Q4_1>,
                $of_32::<$($isa,)? Q5_0>,
                $of_32::<$($isa,)? Q5_1>,
                $of_256::<$($isa,)? Q2K>,
                $of_256::<$($isa,)? Q3K>,
                $of_256::<$($isa,)? Q4K>,
                $of_256::<$($isa,)? Q5K>,
                $of_256::<$($isa,)? Q6K>,
                $of_32::<$($isa,)? Iq4Nl>,
                $of_256::<$($isa,)? Iq4Xs>,
            ]
        };
    }

    // With few activation rows the weights come from memory no faster than AVX2 multiplies them, so its tables share those kernels.
    const AVX2_DOT: [StripFn; Format::N_QUANTIZED] = formats!(vec_dot_32, vec_dot_k, Avx2Rows<Maddubs>);

    /// AVX2, FMA and F16C.
    pub(super) static AVX2_TABLE: KernelTable =
        of_avx2(Isa::Avx2, formats!(panel_32, panel_k, Avx2Rows<Maddubs>));
    /// These and AVX-VNNI.
    pub(super) static AVX_VNNI_TABLE: KernelTable =
        of_avx2(Isa::AvxVnni, formats!(panel_32, panel_k, Avx2Rows<Vnni>));
    #[cfg(not(bise_isa = "avx2"))]
    pub(super) static AVX512_TABLE: KernelTable =
        of_avx512(Isa::Avx512Vnni, formats!(panel_32, panel_k, Avx512Rows));
    #[cfg(not(bise_isa = "avx2"))]
    pub(super) static AMX_TABLE: KernelTable = of_avx512(Isa::Amx, formats!(amx_panel_32, amx_panel_k));

    const fn of_avx2(isa: Isa, panel: [StripFn; Format::N_QUANTIZED]) -> KernelTable {
        KernelTable {
            isa,
            dot: by_format(&AVX2, AVX2_DOT),
            panel: by_format(&AVX2, panel),
            tuned: [true; Format::ALL.len()],
            pack: Some(pack_groups),
            by_block: true,
            quantize_q8_0: quantize::avx2::quantize_q8_0,
            quantize_q8k: quantize::avx2::quantize_q8k,
            floats: AVX2,
        }
    }

    #[cfg(not(bise_isa = "avx2"))]
    const fn of_avx512(isa: Isa, panel: [StripFn; Format::N_QUANTIZED]) -> KernelTable {
        KernelTable {
            isa,
            dot: by_format(&AVX512, formats!(vec_dot_32, vec_dot_k, Avx512Rows)),
            panel: by_format(&AVX512, panel),
            tuned: [true; Format::ALL.len()],
            pack: Some(pack_groups),
            by_block: true,
            quantize_q8_0: quantize::avx512::quantize_q8_0,
            quantize_q8k: quantize::avx512::quantize_q8k,
            floats: AVX512,
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::*;
    use crate::matmul::neon::{self, Dot, Dotprod, I8mm, Neon, Tile};

    pub(super) static NEON_TABLE: KernelTable = of_neon::<Neon, Neon>(Isa::Neon);
    pub(super) static DOTPROD_TABLE: KernelTable = of_neon::<Dotprod, Dotprod>(Isa::NeonDotprod);
    pub(super) static I8MM_TABLE: KernelTable = of_neon::<Dotprod, I8mm>(Isa::NeonI8mm);

    const fn of_neon<D: Dot, T: Tile>(isa: Isa) -> KernelTable {
        KernelTable {
            isa,
            dot: by_format(&NEON, neon::dot::<D>()),
            panel: by_format(&NEON, neon::panels::<T>()),
            tuned: [true; Format::ALL.len()],
            pack: Some(neon::pack::<T>),
            by_block: true,
            quantize_q8_0: quantize::neon::quantize_row_q8_0,
            quantize_q8k: quantize::neon::quantize_row_q8k,
            floats: NEON,
        }
    }
}

impl KernelTable {
    /// The kernels for `isa`, or `None` where this machine cannot run it.
    pub fn for_isa(isa: Isa) -> Option<&'static KernelTable> {
        if !isa.is_available() {
            return None;
        }
        match isa {
            Isa::Scalar => Some(&SCALAR_TABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Some(&x86::AVX2_TABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => Some(&x86::AVX_VNNI_TABLE),
            #[cfg(all(target_arch = "x86_64", not(bise_isa = "avx2")))]
            Isa::Avx512Vnni => Some(&x86::AVX512_TABLE),
            #[cfg(all(target_arch = "x86_64", not(bise_isa = "avx2")))]
            Isa::Amx => Some(&x86::AMX_TABLE),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Some(&arm::NEON_TABLE),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDotprod => Some(&arm::DOTPROD_TABLE),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm => Some(&arm::I8MM_TABLE),
            _ => None,
        }
    }

    /// The kernels for the best instruction set of this machine.
    pub fn detect() -> &'static KernelTable {
        Isa::ALL.into_iter().rev().find_map(KernelTable::for_isa).unwrap_or(&SCALAR_TABLE)
    }
}
