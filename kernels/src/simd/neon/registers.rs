//! Small things that the kernels share: loads, nibbles, and sums across lanes.

use std::arch::aarch64::{
    vld1_s16, vld1_u16, vld1q_f32, vld1q_s8, vld1q_s16, vld1q_u8, vst1q_f32, vst1q_s8, vst1q_s16,
};

use super::intrinsics::*;

use crate::weights::block::F16Le;

/// `[f(0), f(1), f(2), f(3)]`. A macro, because a closure may fail to be inlined, and then arrays of registers end up in memory.
macro_rules! four {
    (|$i:ident| $f:expr) => {
        [
            {
                let $i = 0usize;
                $f
            },
            {
                let $i = 1usize;
                $f
            },
            {
                let $i = 2usize;
                $f
            },
            {
                let $i = 3usize;
                $f
            },
        ]
    };
}
pub(crate) use four;

/// `f(i)` for each `i` below `n`, which is 1 or 2: the fours of tokens and the steps of a tile. A macro for the same reason.
macro_rules! each {
    ($n:expr, |$i:ident| $f:block) => {
        const { assert!($n == 1 || $n == 2) };
        {
            let $i = 0usize;
            $f
        }
        if $n == 2 {
            let $i = 1usize;
            $f
        }
    };
}
pub(crate) use each;

#[inline(always)]
pub(crate) fn load(x: &[i8; 16]) -> int8x16_t {
    // SAFETY: 16 readable bytes.
    unsafe { vld1q_s8(x.as_ptr()) }
}

#[inline(always)]
pub(crate) fn load_u8(x: &[u8; 16]) -> uint8x16_t {
    // SAFETY: 16 readable bytes.
    unsafe { vld1q_u8(x.as_ptr()) }
}

/// Bytes `16i..16i + 16`.
#[inline(always)]
pub(crate) fn load_nth<const N: usize>(x: &[u8; N], i: usize) -> uint8x16_t {
    load_u8(&x.as_chunks().0[i])
}

#[inline(always)]
pub(crate) fn load_i16(x: &[i16; 8]) -> int16x8_t {
    // SAFETY: 8 readable numbers.
    unsafe { vld1q_s16(x.as_ptr()) }
}

#[inline(always)]
pub(crate) fn load_f32(x: &[f32; 4]) -> float32x4_t {
    // SAFETY: 4 readable numbers.
    unsafe { vld1q_f32(x.as_ptr()) }
}

#[inline(always)]
pub(crate) fn store(to: &mut [i8; 16], x: int8x16_t) {
    // SAFETY: 16 writable bytes.
    unsafe { vst1q_s8(to.as_mut_ptr(), x) }
}

#[inline(always)]
pub(crate) fn store_f32(to: &mut [f32; 4], x: float32x4_t) {
    // SAFETY: 4 writable numbers.
    unsafe { vst1q_f32(to.as_mut_ptr(), x) }
}

#[inline(always)]
pub(crate) fn store_i16(to: &mut [i16; 8], x: int16x8_t) {
    // SAFETY: 8 writable numbers.
    unsafe { vst1q_s16(to.as_mut_ptr(), x) }
}

/// Four numbers, widened.
#[inline(always)]
pub(crate) fn load_widened(x: &[i16; 4]) -> int32x4_t {
    // SAFETY: 4 readable numbers.
    vmovl_s16(unsafe { vld1_s16(x.as_ptr()) })
}

/// Four halves as f32.
#[inline(always)]
pub(crate) fn halves(x: [F16Le; 4]) -> float32x4_t {
    let x = four!(|i| u16::from_le_bytes(x[i].0));
    // SAFETY: 4 readable numbers.
    let bits = unsafe { vld1_u16(x.as_ptr()) };
    vcvt_f32_f16(vreinterpret_f16_u16(bits))
}

/// The low four bits of each byte.
#[inline(always)]
pub(crate) fn low(x: uint8x16_t) -> int8x16_t {
    vreinterpretq_s8_u8(vandq_u8(x, vdupq_n_u8(15)))
}

/// The high four bits of each byte.
#[inline(always)]
pub(crate) fn high(x: uint8x16_t) -> int8x16_t {
    vreinterpretq_s8_u8(vshrq_n_u8::<4>(x))
}

/// Bits of each byte, moved left by `shift` (right where it is negative) and masked.
#[inline(always)]
pub(crate) fn bits(x: uint8x16_t, shift: i8, mask: u8) -> int8x16_t {
    vreinterpretq_s8_u8(vandq_u8(vshlq_u8(x, vdupq_n_s8(shift)), vdupq_n_u8(mask)))
}

/// `levels[q[i]]`, `q` below 16.
#[inline(always)]
pub(crate) fn look_up(levels: &[i8; 16], q: int8x16_t) -> int8x16_t {
    vqtbl1q_s8(load(levels), vreinterpretq_u8_s8(q))
}

/// The sum of each register's lanes.
#[inline(always)]
pub(crate) fn sum_lanes([a, b, c, d]: [int32x4_t; 4]) -> int32x4_t {
    vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d))
}

/// Columns to rows.
#[inline(always)]
pub(crate) fn transpose([a, b, c, d]: [float32x4_t; 4]) -> [float32x4_t; 4] {
    let (ac, bd) = (vzip1q_f32(a, c), vzip1q_f32(b, d));
    let (ac_high, bd_high) = (vzip2q_f32(a, c), vzip2q_f32(b, d));
    [vzip1q_f32(ac, bd), vzip2q_f32(ac, bd), vzip1q_f32(ac_high, bd_high), vzip2q_f32(ac_high, bd_high)]
}

/// The first lanes, as many as there is room for.
#[inline(always)]
pub(crate) fn store_some(to: &mut [f32], x: float32x4_t) {
    if let Some(to) = to.first_chunk_mut() {
        store_f32(to, x);
    } else {
        let mut lanes = [0.0; 4];
        store_f32(&mut lanes, x);
        to.copy_from_slice(&lanes[..to.len()]);
    }
}

/// The first four numbers, zeros where there are fewer.
#[inline(always)]
pub(crate) fn load_some(x: &[f32]) -> float32x4_t {
    if let Some(x) = x.first_chunk() {
        load_f32(x)
    } else {
        let mut lanes = [0.0; 4];
        lanes[..x.len()].copy_from_slice(x);
        load_f32(&lanes)
    }
}
