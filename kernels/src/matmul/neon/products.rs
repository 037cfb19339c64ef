//! The integer products of each instruction set, behind tokens that prove the core has it.
//!
//! | instruction            | multiplications | of what                                       |
//! |------------------------|-----------------|-----------------------------------------------|
//! | `smull`, `smlal`       | 8               | i8·i8 into i16, `sadalp` adds pairs into i32  |
//! | `sdot`                 | 16              | four i8·i8 into each i32                      |
//! | `sdot` by element      | 16              | the same four of one operand in each lane     |
//! | `smmla`                | 32              | `[2, 8]·[8, 2]` into `[2, 2]` of i32          |
//!
//! `vdotq_s32` and `vmmlaq_s32` are not stable in Rust, so both are written in assembly; `.arch_extension` lets the assembler take them
//! in a binary that runs on older cores too.

use crate::simd::neon::intrinsics::*;
use std::arch::asm;

use crate::simd::neon::registers::*;

/// `Σ w·x` of one row and one token; what the lanes hold is unspecified, their sum is the product.
pub(crate) trait Dot: Copy {
    /// The token.
    ///
    /// # Safety
    /// The core has the instructions.
    unsafe fn new() -> Self;

    /// `N` registers of weights and as many of activations, the latter in `[−127, 127]`. `small`, a constant, says that all weights are
    /// within `[−64, 64]`.
    fn dot<const N: usize>(self, w: [int8x16_t; N], x: [int8x16_t; N], small: bool) -> int32x4_t;
}

/// Products of four rows and four tokens, 16 of i32 in four registers, arranged as the instructions like it.
///
/// A step is 16 values of each row or token: 64 bytes, [arranged](Tile::weights) once and multiplied often.
pub(crate) trait Tile: Copy {
    /// The token.
    ///
    /// # Safety
    /// The core has the instructions.
    unsafe fn new() -> Self;

    /// Arranges a step of four rows.
    fn weights(rows: [int8x16_t; 4]) -> [int8x16_t; 4];

    /// Arranges a step of four tokens.
    fn activations(tokens: [int8x16_t; 4]) -> [int8x16_t; 4];

    /// `Σ w·x` over `N` steps; ranges as in [`Dot::dot`].
    fn products<const N: usize>(
        self,
        w: [[int8x16_t; 4]; N],
        x: [[int8x16_t; 4]; N],
        small: bool,
    ) -> [int32x4_t; 4];

    /// `Σ w·x` over the first eight values of a step, and 32 times that over the last eight.
    fn products_of_mins(self, w: [int8x16_t; 4], x: [int8x16_t; 4]) -> [int32x4_t; 4];

    /// A number for each row, where the products of that row are.
    fn by_row(rows: float32x4_t) -> [float32x4_t; 4];

    /// A number for each token, where the products of that token are.
    fn by_token(tokens: float32x4_t) -> [float32x4_t; 4];

    /// The four rows of each token.
    fn to_tokens(tile: [float32x4_t; 4]) -> [float32x4_t; 4];

    /// The reverse of [`Tile::to_tokens`].
    fn from_tokens(tokens: [float32x4_t; 4]) -> [float32x4_t; 4];
}

/// Register `i` of each step.
#[inline(always)]
fn column<const N: usize>(steps: &[[int8x16_t; 4]; N], i: usize) -> [int8x16_t; N] {
    let mut column = [vdupq_n_s8(0); N];
    each!(N, |n| { column[n] = steps[n][i] });
    column
}

/// Armv8.0.
#[derive(Clone, Copy)]
pub(crate) struct Neon;

impl Dot for Neon {
    unsafe fn new() -> Self {
        Neon
    }

    /// Two products of 128·127 fit an i16, and so do four of 64·127.
    #[inline(always)]
    fn dot<const N: usize>(self, w: [int8x16_t; N], x: [int8x16_t; N], small: bool) -> int32x4_t {
        let mut sum = vdupq_n_s32(0);
        let mut i = 0;
        while i < N {
            let mut pairs = vmull_s8(vget_low_s8(w[i]), vget_low_s8(x[i]));
            pairs = vmlal_high_s8(pairs, w[i], x[i]);
            i += 1;
            if small && i < N {
                pairs = vmlal_s8(pairs, vget_low_s8(w[i]), vget_low_s8(x[i]));
                pairs = vmlal_high_s8(pairs, w[i], x[i]);
                i += 1;
            }
            sum = vpadalq_s16(sum, pairs);
        }
        sum
    }
}

/// A register for each token, a lane for each row. Steps stay as they come.
impl Tile for Neon {
    unsafe fn new() -> Self {
        Neon
    }

    #[inline(always)]
    fn weights(rows: [int8x16_t; 4]) -> [int8x16_t; 4] {
        rows
    }

    #[inline(always)]
    fn activations(tokens: [int8x16_t; 4]) -> [int8x16_t; 4] {
        tokens
    }

    #[inline(always)]
    fn products<const N: usize>(
        self,
        w: [[int8x16_t; 4]; N],
        x: [[int8x16_t; 4]; N],
        small: bool,
    ) -> [int32x4_t; 4] {
        four!(|t| sum_lanes(four!(|r| self.dot(column(&w, r), column(&x, t), small))))
    }

    #[inline(always)]
    fn products_of_mins(self, w: [int8x16_t; 4], x: [int8x16_t; 4]) -> [int32x4_t; 4] {
        four!(|t| sum_lanes(four!(|r| {
            let ones = vpaddlq_s16(vmull_s8(vget_low_s8(w[r]), vget_low_s8(x[t])));
            let thirty_twos = vpaddlq_s16(vmull_high_s8(w[r], x[t]));
            vaddq_s32(ones, vshlq_n_s32::<5>(thirty_twos))
        })))
    }

    #[inline(always)]
    fn by_row(rows: float32x4_t) -> [float32x4_t; 4] {
        [rows; 4]
    }

    #[inline(always)]
    fn by_token(tokens: float32x4_t) -> [float32x4_t; 4] {
        [
            vdupq_laneq_f32::<0>(tokens),
            vdupq_laneq_f32::<1>(tokens),
            vdupq_laneq_f32::<2>(tokens),
            vdupq_laneq_f32::<3>(tokens),
        ]
    }

    #[inline(always)]
    fn to_tokens(tile: [float32x4_t; 4]) -> [float32x4_t; 4] {
        tile
    }

    #[inline(always)]
    fn from_tokens(tokens: [float32x4_t; 4]) -> [float32x4_t; 4] {
        tokens
    }
}

/// Proof of `sdot`.
#[derive(Clone, Copy)]
pub(crate) struct Dotprod(());

impl Dotprod {
    /// `sum[i] + Σ_j w[4i + j]·x[4i + j]`
    #[inline(always)]
    fn sdot(self, mut sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the token proves that the core has the instruction, which touches nothing but its registers.
        unsafe {
            asm!(".arch_extension dotprod", "sdot {sum:v}.4s, {w:v}.16b, {x:v}.16b",
                sum = inout(vreg) sum, w = in(vreg) w, x = in(vreg) x, options(pure, nomem, nostack, preserves_flags));
        }
        sum
    }

    /// `sum[i] + Σ_j w[4i + j]·x[4·LANE + j]`
    #[inline(always)]
    fn sdot_lane<const LANE: usize>(self, mut sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: as in `sdot`.
        unsafe {
            asm!(".arch_extension dotprod", "sdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
                sum = inout(vreg) sum, w = in(vreg) w, x = in(vreg) x, lane = const LANE,
                options(pure, nomem, nostack, preserves_flags));
        }
        sum
    }

    /// A step of four rows and one token.
    #[inline(always)]
    fn sdot_lanes(self, sum: int32x4_t, w: [int8x16_t; 4], x: int8x16_t) -> int32x4_t {
        let sum = self.sdot_lane::<0>(sum, w[0], x);
        let sum = self.sdot_lane::<1>(sum, w[1], x);
        let sum = self.sdot_lane::<2>(sum, w[2], x);
        self.sdot_lane::<3>(sum, w[3], x)
    }
}

impl Dot for Dotprod {
    unsafe fn new() -> Self {
        Dotprod(())
    }

    #[inline(always)]
    fn dot<const N: usize>(self, w: [int8x16_t; N], x: [int8x16_t; N], _: bool) -> int32x4_t {
        let mut sum = vdupq_n_s32(0);
        each!(N, |i| { sum = self.sdot(sum, w[i], x[i]) });
        sum
    }
}

/// A register for each token, a lane for each row. Register `i` of a step of weights holds values `4i..4i + 4` of the four rows; each is
/// multiplied with an element of a token.
impl Tile for Dotprod {
    unsafe fn new() -> Self {
        Dotprod(())
    }

    #[inline(always)]
    fn weights(rows: [int8x16_t; 4]) -> [int8x16_t; 4] {
        let words = transpose(four!(|r| vreinterpretq_f32_s8(rows[r])));
        four!(|i| vreinterpretq_s8_f32(words[i]))
    }

    #[inline(always)]
    fn activations(tokens: [int8x16_t; 4]) -> [int8x16_t; 4] {
        tokens
    }

    #[inline(always)]
    fn products<const N: usize>(
        self,
        w: [[int8x16_t; 4]; N],
        x: [[int8x16_t; 4]; N],
        _: bool,
    ) -> [int32x4_t; 4] {
        let mut sums = [vdupq_n_s32(0); 4];
        each!(N, |n| {
            sums = four!(|t| self.sdot_lanes(sums[t], w[n], x[n][t]));
        });
        sums
    }

    #[inline(always)]
    fn products_of_mins(self, w: [int8x16_t; 4], x: [int8x16_t; 4]) -> [int32x4_t; 4] {
        four!(|t| {
            let x = x[t];
            let thirty_twos = self.sdot_lane::<2>(vdupq_n_s32(0), w[2], x);
            let thirty_twos = self.sdot_lane::<3>(thirty_twos, w[3], x);
            let sum = self.sdot_lane::<0>(vshlq_n_s32::<5>(thirty_twos), w[0], x);
            self.sdot_lane::<1>(sum, w[1], x)
        })
    }

    #[inline(always)]
    fn by_row(rows: float32x4_t) -> [float32x4_t; 4] {
        Neon::by_row(rows)
    }

    #[inline(always)]
    fn by_token(tokens: float32x4_t) -> [float32x4_t; 4] {
        Neon::by_token(tokens)
    }

    #[inline(always)]
    fn to_tokens(tile: [float32x4_t; 4]) -> [float32x4_t; 4] {
        tile
    }

    #[inline(always)]
    fn from_tokens(tokens: [float32x4_t; 4]) -> [float32x4_t; 4] {
        tokens
    }
}

/// Proof of `smmla`.
#[derive(Clone, Copy)]
pub(crate) struct I8mm(());

impl I8mm {
    /// `sum[2i + j] + Σ_l w[8i + l]·x[8j + l]`
    #[inline(always)]
    fn smmla(self, mut sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the token proves that the core has the instruction, which touches nothing but its registers.
        unsafe {
            asm!(".arch_extension i8mm", "smmla {sum:v}.4s, {w:v}.16b, {x:v}.16b",
                sum = inout(vreg) sum, w = in(vreg) w, x = in(vreg) x, options(pure, nomem, nostack, preserves_flags));
        }
        sum
    }

    /// Adds the products of eight values: `w` and `x` hold a pair of rows or tokens each.
    #[inline(always)]
    fn pairs(self, sums: [int32x4_t; 4], w: [int8x16_t; 2], x: [int8x16_t; 2]) -> [int32x4_t; 4] {
        [
            self.smmla(sums[0], w[0], x[0]),
            self.smmla(sums[1], w[0], x[1]),
            self.smmla(sums[2], w[1], x[0]),
            self.smmla(sums[3], w[1], x[1]),
        ]
    }
}

/// Eight values of rows 0 and 1, of rows 2 and 3, then the other eight values of each.
#[inline(always)]
fn pair_up(rows: [int8x16_t; 4]) -> [int8x16_t; 4] {
    let [a, b, c, d] = four!(|i| vreinterpretq_s64_s8(rows[i]));
    let pairs = [vtrn1q_s64(a, b), vtrn1q_s64(c, d), vtrn2q_s64(a, b), vtrn2q_s64(c, d)];
    four!(|i| vreinterpretq_s8_s64(pairs[i]))
}

/// Register `2i + j` holds rows `2i` and `2i + 1` by tokens `2j` and `2j + 1`, row-major.
impl Tile for I8mm {
    unsafe fn new() -> Self {
        I8mm(())
    }

    #[inline(always)]
    fn weights(rows: [int8x16_t; 4]) -> [int8x16_t; 4] {
        pair_up(rows)
    }

    #[inline(always)]
    fn activations(tokens: [int8x16_t; 4]) -> [int8x16_t; 4] {
        pair_up(tokens)
    }

    #[inline(always)]
    fn products<const N: usize>(
        self,
        w: [[int8x16_t; 4]; N],
        x: [[int8x16_t; 4]; N],
        _: bool,
    ) -> [int32x4_t; 4] {
        let mut sums = [vdupq_n_s32(0); 4];
        each!(N, |n| {
            let [w, x] = [w[n], x[n]];
            sums = self.pairs(sums, [w[0], w[1]], [x[0], x[1]]);
            sums = self.pairs(sums, [w[2], w[3]], [x[2], x[3]]);
        });
        sums
    }

    #[inline(always)]
    fn products_of_mins(self, w: [int8x16_t; 4], x: [int8x16_t; 4]) -> [int32x4_t; 4] {
        let thirty_twos = self.pairs([vdupq_n_s32(0); 4], [w[2], w[3]], [x[2], x[3]]);
        self.pairs(four!(|i| vshlq_n_s32::<5>(thirty_twos[i])), [w[0], w[1]], [x[0], x[1]])
    }

    #[inline(always)]
    fn by_row(rows: float32x4_t) -> [float32x4_t; 4] {
        let (first, last) = (vzip1q_f32(rows, rows), vzip2q_f32(rows, rows));
        [first, first, last, last]
    }

    #[inline(always)]
    fn by_token(tokens: float32x4_t) -> [float32x4_t; 4] {
        let (first, last) = (vget_low_f32(tokens), vget_high_f32(tokens));
        let (first, last) = (vcombine_f32(first, first), vcombine_f32(last, last));
        [first, last, first, last]
    }

    #[inline(always)]
    fn to_tokens([a, b, c, d]: [float32x4_t; 4]) -> [float32x4_t; 4] {
        [vuzp1q_f32(a, c), vuzp2q_f32(a, c), vuzp1q_f32(b, d), vuzp2q_f32(b, d)]
    }

    #[inline(always)]
    fn from_tokens([a, b, c, d]: [float32x4_t; 4]) -> [float32x4_t; 4] {
        [vzip1q_f32(a, b), vzip1q_f32(c, d), vzip2q_f32(a, b), vzip2q_f32(c, d)]
    }
}
