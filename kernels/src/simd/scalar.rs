//! Plain Rust.

use crate::simd::lanes::Lanes;

/// Plain Rust: every CPU has it.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

#[inline(always)]
fn map(a: [f32; 16], b: [f32; 16], f: impl Fn(f32, f32) -> f32) -> [f32; 16] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

/// Out of line: a machine that runs this calls a function for each number anyway, and a copy at each place would take a hundred kilobytes.
#[inline(never)]
fn fma(a: &[f32; 16], b: &[f32; 16], c: &[f32; 16]) -> [f32; 16] {
    std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
}

impl Lanes for Scalar {
    type F = [f32; 16];

    #[inline(always)]
    unsafe fn new() -> Self {
        Scalar
    }

    #[inline(always)]
    fn prefetch(self, _: &u8) {}

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 16] {
        [x; 16]
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> [f32; 16] {
        *x
    }

    #[inline(always)]
    fn store(self, x: [f32; 16], out: &mut [f32; 16]) {
        *out = x;
    }

    #[inline(always)]
    fn f32_le(self, x: &[u8; 64]) -> [f32; 16] {
        let x = x.as_chunks::<4>().0;
        std::array::from_fn(|i| f32::from_le_bytes(x[i]))
    }

    #[inline(always)]
    fn f16_le(self, x: &[u8; 32]) -> [f32; 16] {
        let x = x.as_chunks::<2>().0;
        std::array::from_fn(|i| half::f16::from_le_bytes(x[i]).to_f32())
    }

    #[inline(always)]
    fn splat_f16(self, x: [u8; 2]) -> [f32; 16] {
        [half::f16::from_le_bytes(x).to_f32(); 16]
    }

    #[inline(always)]
    fn bf16_le(self, x: &[u8; 32]) -> [f32; 16] {
        let x = x.as_chunks::<2>().0;
        std::array::from_fn(|i| f32::from_bits((u16::from_le_bytes(x[i]) as u32) << 16))
    }

    #[inline(always)]
    fn i8(self, x: &[u8; 16]) -> [f32; 16] {
        x.map(|x| x as i8 as f32)
    }

    #[inline(always)]
    fn nibbles(self, x: &[u8; 16]) -> [[f32; 16]; 2] {
        [x.map(|x| (x & 15) as f32 - 8.0), x.map(|x| (x >> 4) as f32 - 8.0)]
    }

    #[inline(always)]
    fn add(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        map(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        map(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        map(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        map(a, b, |a, b| a / b)
    }

    #[cfg(feature = "quantize")]
    #[inline(always)]
    fn sqrt(self, x: [f32; 16]) -> [f32; 16] {
        x.map(f32::sqrt)
    }

    #[inline(always)]
    fn fma(self, a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        fma(&a, &b, &c)
    }

    #[inline(always)]
    fn max(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        map(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn select_lt(self, a: [f32; 16], b: [f32; 16], x: [f32; 16], y: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }

    #[inline(always)]
    fn shift_left_23(self, x: [f32; 16]) -> [f32; 16] {
        x.map(|x| f32::from_bits(x.to_bits() << 23))
    }

    #[inline(always)]
    fn swap_pairs(self, x: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| x[i ^ 1])
    }

    #[inline(always)]
    fn sum(self, mut x: [f32; 16]) -> f32 {
        for n in [8, 4, 2, 1] {
            for i in 0..n {
                x[i] += x[i + n];
            }
        }
        x[0]
    }
}
