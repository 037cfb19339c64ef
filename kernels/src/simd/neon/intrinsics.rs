//! NEON's intrinsics, under their own names, as safe functions.
//!
//! In `std::arch` they are unsafe outside functions with `#[target_feature(enable = "neon")]`, although a target that has NEON has it
//! everywhere; and neither trait methods nor `#[inline(always)]` functions can carry that attribute. Loads and stores, which are unsafe
//! for another reason, are in [`registers`](super::registers).

use std::arch::aarch64 as arch;
pub(crate) use std::arch::aarch64::{
    float16x4_t, float32x2_t, float32x4_t, int8x8_t, int8x16_t, int16x4_t, int16x8_t, int32x4_t, int64x2_t,
    uint8x8_t, uint8x16_t, uint16x4_t, uint16x8_t, uint32x4_t,
};

const _: () = assert!(cfg!(target_feature = "neon"), "a target without NEON");

macro_rules! safe {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {$(
        #[inline(always)]
        pub(crate) fn $name($($arg: $type),*) -> $result {
            // SAFETY: the target has NEON (asserted above), and the instruction touches nothing but registers.
            unsafe { arch::$name($($arg),*) }
        }
    )*};
}

macro_rules! safe_with_constant {
    ($($name:ident::<$n:ident>($arg:ident: $type:ty) -> $result:ty;)*) => {$(
        #[inline(always)]
        pub(crate) fn $name<const $n: i32>($arg: $type) -> $result {
            // SAFETY: as above.
            unsafe { arch::$name::<$n>($arg) }
        }
    )*};
}

safe! {
    vabsq_f32(a: float32x4_t) -> float32x4_t;
    vaddlvq_s8(a: int8x16_t) -> i16;
    vaddq_s32(a: int32x4_t, b: int32x4_t) -> int32x4_t;
    vand_u8(a: uint8x8_t, b: uint8x8_t) -> uint8x8_t;
    vandq_s16(a: int16x8_t, b: int16x8_t) -> int16x8_t;
    vandq_u16(a: uint16x8_t, b: uint16x8_t) -> uint16x8_t;
    vandq_u8(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t;
    vcombine_f32(low: float32x2_t, high: float32x2_t) -> float32x4_t;
    vcombine_s8(low: int8x8_t, high: int8x8_t) -> int8x16_t;
    vcombine_u8(low: uint8x8_t, high: uint8x8_t) -> uint8x16_t;
    vcreate_u8(a: u64) -> uint8x8_t;
    vcvt_f32_f16(a: float16x4_t) -> float32x4_t;
    vcvtnq_s32_f32(a: float32x4_t) -> int32x4_t;
    vcvtq_f32_s32(a: int32x4_t) -> float32x4_t;
    vdup_n_u8(a: u8) -> uint8x8_t;
    vdupq_n_f32(a: f32) -> float32x4_t;
    vdupq_n_s16(a: i16) -> int16x8_t;
    vdupq_n_s32(a: i32) -> int32x4_t;
    vdupq_n_s8(a: i8) -> int8x16_t;
    vdupq_n_u16(a: u16) -> uint16x8_t;
    vdupq_n_u32(a: u32) -> uint32x4_t;
    vdupq_n_u8(a: u8) -> uint8x16_t;
    vfmaq_f32(acc: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t;
    vfmsq_f32(acc: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t;
    vget_high_f32(a: float32x4_t) -> float32x2_t;
    vget_low_f32(a: float32x4_t) -> float32x2_t;
    vget_low_s16(a: int16x8_t) -> int16x4_t;
    vget_low_s8(a: int8x16_t) -> int8x8_t;
    vmaxq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t;
    vmaxvq_f32(a: float32x4_t) -> f32;
    vmlal_high_s16(acc: int32x4_t, a: int16x8_t, b: int16x8_t) -> int32x4_t;
    vmlal_high_s8(acc: int16x8_t, a: int8x16_t, b: int8x16_t) -> int16x8_t;
    vmlal_s16(acc: int32x4_t, a: int16x4_t, b: int16x4_t) -> int32x4_t;
    vmlal_s8(acc: int16x8_t, a: int8x8_t, b: int8x8_t) -> int16x8_t;
    vmlaq_s32(acc: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t;
    vmlsq_n_s32(acc: int32x4_t, a: int32x4_t, b: i32) -> int32x4_t;
    vmovl_high_s16(a: int16x8_t) -> int32x4_t;
    vmovl_high_s8(a: int8x16_t) -> int16x8_t;
    vmovl_s16(a: int16x4_t) -> int32x4_t;
    vmovl_s8(a: int8x8_t) -> int16x8_t;
    vmovl_u8(a: uint8x8_t) -> uint16x8_t;
    vmovn_high_s16(low: int8x8_t, a: int16x8_t) -> int8x16_t;
    vmovn_high_s32(low: int16x4_t, a: int32x4_t) -> int16x8_t;
    vmovn_s16(a: int16x8_t) -> int8x8_t;
    vmovn_s32(a: int32x4_t) -> int16x4_t;
    vmull_high_s8(a: int8x16_t, b: int8x16_t) -> int16x8_t;
    vmull_s8(a: int8x8_t, b: int8x8_t) -> int16x8_t;
    vmulq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t;
    vmulq_n_f32(a: float32x4_t, b: f32) -> float32x4_t;
    vnegq_f32(a: float32x4_t) -> float32x4_t;
    vorrq_s8(a: int8x16_t, b: int8x16_t) -> int8x16_t;
    vorrq_u16(a: uint16x8_t, b: uint16x8_t) -> uint16x8_t;
    vorrq_u8(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t;
    vpadalq_s16(acc: int32x4_t, a: int16x8_t) -> int32x4_t;
    vpaddlq_s16(a: int16x8_t) -> int32x4_t;
    vpaddq_s16(a: int16x8_t, b: int16x8_t) -> int16x8_t;
    vpaddq_s32(a: int32x4_t, b: int32x4_t) -> int32x4_t;
    vqtbl1q_s8(table: int8x16_t, index: uint8x16_t) -> int8x16_t;
    vreinterpret_f16_u16(a: uint16x4_t) -> float16x4_t;
    vreinterpretq_f32_s32(a: int32x4_t) -> float32x4_t;
    vreinterpretq_f32_s8(a: int8x16_t) -> float32x4_t;
    vreinterpretq_s16_u16(a: uint16x8_t) -> int16x8_t;
    vreinterpretq_s32_f32(a: float32x4_t) -> int32x4_t;
    vreinterpretq_s64_s8(a: int8x16_t) -> int64x2_t;
    vreinterpretq_s8_f32(a: float32x4_t) -> int8x16_t;
    vreinterpretq_s8_s64(a: int64x2_t) -> int8x16_t;
    vreinterpretq_s8_u8(a: uint8x16_t) -> int8x16_t;
    vreinterpretq_u8_s8(a: int8x16_t) -> uint8x16_t;
    vreinterpretq_u8_u32(a: uint32x4_t) -> uint8x16_t;
    vshlq_u16(a: uint16x8_t, by: int16x8_t) -> uint16x8_t;
    vshlq_u8(a: uint8x16_t, by: int8x16_t) -> uint8x16_t;
    vsubq_s16(a: int16x8_t, b: int16x8_t) -> int16x8_t;
    vsubq_s32(a: int32x4_t, b: int32x4_t) -> int32x4_t;
    vsubq_s8(a: int8x16_t, b: int8x16_t) -> int8x16_t;
    vtrn1q_s64(a: int64x2_t, b: int64x2_t) -> int64x2_t;
    vtrn2q_s64(a: int64x2_t, b: int64x2_t) -> int64x2_t;
    vtstq_u8(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t;
    vuzp1q_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t;
    vuzp2q_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t;
    vzip1_u8(a: uint8x8_t, b: uint8x8_t) -> uint8x8_t;
    vzip1q_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t;
    vzip2q_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t;
}

safe_with_constant! {
    vdupq_laneq_f32::<LANE>(a: float32x4_t) -> float32x4_t;
    vshlq_n_s32::<BY>(a: int32x4_t) -> int32x4_t;
    vshr_n_u8::<BY>(a: uint8x8_t) -> uint8x8_t;
    vshrn_n_s16::<BY>(a: int16x8_t) -> int8x8_t;
    vshrq_n_u8::<BY>(a: uint8x16_t) -> uint8x16_t;
}
