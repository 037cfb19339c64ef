//! NEON: four registers of four lanes.

pub(crate) mod intrinsics;
pub(crate) mod registers;

use std::arch::aarch64::*;

use crate::simd::lanes::Lanes;

/// Proof of Advanced SIMD.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

macro_rules! proven {
    ($e:expr) => {
        // SAFETY: `self` proves the features, and pointers are to arrays as long as the loads and stores.
        unsafe { $e }
    };
}

/// Applies an intrinsic to each quarter.
macro_rules! quarters {
    ($f:ident, $($x:expr),+) => {
        proven!([$f($($x[0]),+), $f($($x[1]),+), $f($($x[2]),+), $f($($x[3]),+)])
    };
}

impl Lanes for Neon {
    type F = [float32x4_t; 4];

    #[inline(always)]
    unsafe fn new() -> Self {
        Neon(())
    }

    #[inline(always)]
    fn prefetch(self, x: &u8) {
        proven!(
            std::arch::asm!("prfm pldl1keep, [{x}]", x = in(reg) x, options(nostack, readonly, preserves_flags))
        )
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        proven!([vdupq_n_f32(x); 4])
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> Self::F {
        let p = x.as_ptr();
        proven!([vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))])
    }

    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32; 16]) {
        let p = out.as_mut_ptr();
        proven!({
            vst1q_f32(p, x[0]);
            vst1q_f32(p.add(4), x[1]);
            vst1q_f32(p.add(8), x[2]);
            vst1q_f32(p.add(12), x[3]);
        })
    }

    #[inline(always)]
    fn f32_le(self, x: &[u8; 64]) -> Self::F {
        let p = x.as_ptr();
        let x = proven!([vld1q_u8(p), vld1q_u8(p.add(16)), vld1q_u8(p.add(32)), vld1q_u8(p.add(48))]);
        quarters!(vreinterpretq_f32_u8, x)
    }

    #[inline(always)]
    fn f16_le(self, x: &[u8; 32]) -> Self::F {
        let p = x.as_ptr();
        let x = proven!([vld1_u8(p), vld1_u8(p.add(8)), vld1_u8(p.add(16)), vld1_u8(p.add(24))]);
        let x = quarters!(vreinterpret_f16_u8, x);
        quarters!(vcvt_f32_f16, x)
    }

    #[inline(always)]
    fn splat_f16(self, x: [u8; 2]) -> Self::F {
        proven!([vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(u16::from_le_bytes(x)))); 4])
    }

    #[inline(always)]
    fn bf16_le(self, x: &[u8; 32]) -> Self::F {
        let p = x.as_ptr();
        let x = proven!([vld1_u8(p), vld1_u8(p.add(8)), vld1_u8(p.add(16)), vld1_u8(p.add(24))]);
        let x = quarters!(vreinterpret_u16_u8, x);
        let x = proven!([
            vshll_n_u16::<16>(x[0]),
            vshll_n_u16::<16>(x[1]),
            vshll_n_u16::<16>(x[2]),
            vshll_n_u16::<16>(x[3]),
        ]);
        quarters!(vreinterpretq_f32_u32, x)
    }

    #[inline(always)]
    fn i8(self, x: &[u8; 16]) -> Self::F {
        self.widen(proven!(vreinterpretq_s8_u8(vld1q_u8(x.as_ptr()))))
    }

    #[inline(always)]
    fn nibbles(self, x: &[u8; 16]) -> [Self::F; 2] {
        let [low, high] = proven!({
            let (x, eight) = (vld1q_u8(x.as_ptr()), vdupq_n_u8(8));
            [vsubq_u8(vandq_u8(x, vdupq_n_u8(15)), eight), vsubq_u8(vshrq_n_u8::<4>(x), eight)]
        });
        [self.widen(proven!(vreinterpretq_s8_u8(low))), self.widen(proven!(vreinterpretq_s8_u8(high)))]
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(vaddq_f32, a, b)
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(vsubq_f32, a, b)
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(vmulq_f32, a, b)
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(vdivq_f32, a, b)
    }

    #[cfg(feature = "quantize")]
    #[inline(always)]
    fn sqrt(self, x: Self::F) -> Self::F {
        quarters!(vsqrtq_f32, x)
    }

    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        quarters!(vfmaq_f32, c, a, b)
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        // `vmaxq_f32` treats NaN and the sign of zero differently.
        let gt = quarters!(vcgtq_f32, a, b);
        quarters!(vbslq_f32, gt, a, b)
    }

    #[inline(always)]
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        let lt = quarters!(vcltq_f32, a, b);
        quarters!(vbslq_f32, lt, x, y)
    }

    #[inline(always)]
    fn shift_left_23(self, x: Self::F) -> Self::F {
        let x = quarters!(vreinterpretq_u32_f32, x);
        let x = proven!([
            vshlq_n_u32::<23>(x[0]),
            vshlq_n_u32::<23>(x[1]),
            vshlq_n_u32::<23>(x[2]),
            vshlq_n_u32::<23>(x[3]),
        ]);
        quarters!(vreinterpretq_f32_u32, x)
    }

    #[inline(always)]
    fn swap_pairs(self, x: Self::F) -> Self::F {
        quarters!(vrev64q_f32, x)
    }

    #[inline(always)]
    fn sum(self, x: Self::F) -> f32 {
        proven!({
            let x = vaddq_f32(vaddq_f32(x[0], x[2]), vaddq_f32(x[1], x[3]));
            let x = vadd_f32(vget_low_f32(x), vget_high_f32(x));
            vget_lane_f32::<0>(x) + vget_lane_f32::<1>(x)
        })
    }
}

impl Neon {
    /// Sixteen bytes to f32.
    #[inline(always)]
    fn widen(self, x: int8x16_t) -> [float32x4_t; 4] {
        proven!({
            let (a, b) = (vmovl_s8(vget_low_s8(x)), vmovl_high_s8(x));
            [
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(a))),
                vcvtq_f32_s32(vmovl_high_s16(a)),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(b))),
                vcvtq_f32_s32(vmovl_high_s16(b)),
            ]
        })
    }
}
