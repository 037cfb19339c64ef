//! Registers whose 32-bit lanes are weight rows: eight of them or sixteen.
//!
//! After packed bytes of several rows are transposed so that each lane holds a row, unpacking them is the same for any number of lanes.
//! So formats and drivers are written once over [`RowLanes`], and over [`DotI8`] where they multiply bytes. A value of an implementing
//! type proves that the CPU has the features of its instruction set, as with [`Lanes`](crate::simd::lanes::Lanes); everything generic is
//! `#[inline(always)]` and ends up in the `#[target_feature]` function behind [`RowLanes::call`].
//!
//! A *quarter* is 16 bytes of a register: an AVX-512 register has four, an AVX2 register two.

use std::arch::x86_64::{__m128, __m128i};

/// Most lanes of any instruction set.
pub(crate) const MAX_ROWS: usize = 16;

/// A function that [`RowLanes::call`] compiles for an instruction set.
pub(crate) trait Kernel<S> {
    /// What it returns.
    type Output;
    /// The function; to be `#[inline(always)]`.
    fn run(self, s: S) -> Self::Output;
}

/// 32-bit lanes, one for each weight row.
pub(crate) trait RowLanes: Copy {
    /// A register of integers.
    type I: bytemuck::Pod;
    /// A register of f32.
    type F: Copy;
    /// Lanes.
    const ROWS: usize;
    /// Bytes of a register.
    const BYTES: usize = 4 * Self::ROWS;
    /// Quarters of a register.
    const QUARTERS: usize = Self::ROWS / 4;

    /// # Safety
    /// The CPU has the features that the type proves.
    unsafe fn new() -> Self;

    /// Runs a kernel as a function of its own, compiled with the features of this instruction set.
    fn call<K: Kernel<Self>>(self, kernel: K) -> K::Output;

    /// Zeros.
    fn zero(self) -> Self::I;
    /// `x` in every byte.
    fn splat_u8(self, x: u8) -> Self::I;
    /// `x` in every dword.
    fn splat_i32(self, x: i32) -> Self::I;
    /// Bitwise and.
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise or.
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise exclusive or.
    fn xor(self, a: Self::I, b: Self::I) -> Self::I;
    /// `(a | b) & mask`
    fn or_and(self, a: Self::I, b: Self::I, mask: Self::I) -> Self::I;
    /// `a − b` by bytes.
    fn sub_i8(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a + b` by dwords.
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a − b` by dwords.
    fn sub_i32(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a · b` by dwords, the low half.
    fn mul_i32(self, a: Self::I, b: Self::I) -> Self::I;
    /// Dwords shifted left; `n` is a constant once inlined, as in all of these.
    fn shl32(self, v: Self::I, n: i32) -> Self::I;
    /// Dwords shifted right, zeros coming in.
    fn shr32(self, v: Self::I, n: i32) -> Self::I;
    /// 16-bit words shifted right, zeros coming in.
    fn shr16(self, v: Self::I, n: i32) -> Self::I;
    /// 16-bit words shifted left (right where negative): by `by[0]` in the first 32 bytes, by `by[1]` in the others if there are any. Both
    /// have the same sign.
    fn shift16_by_half(self, v: Self::I, by: [i32; 2]) -> Self::I;
    /// `low`, and those bits of `mask` that `high` has when each byte is shifted left by `by` (right where negative); no bit of the mask
    /// comes from another byte.
    fn join_bits(self, low: Self::I, high: Self::I, by: i32, mask: Self::I) -> Self::I;
    /// `q + value` in the bytes where `bits` has the bit `bit[0]` (first 32 bytes) or `bit[1]` (the others); `value` is a single bit that
    /// `q` does not have.
    fn add_where(self, q: Self::I, bits: Self::I, bit: [u8; 2], value: u8) -> Self::I;
    /// `low + value` where bit `i` of `bits[j]` is set for byte `i` of quarter `j`, and `high + value` where bit `16 + i` is; `value` is a
    /// single bit that neither has.
    fn add_bits(self, low: Self::I, high: Self::I, bits: [u32; 4], value: u8) -> [Self::I; 2];
    /// Byte `j` of each dword, a signed number, as a dword.
    fn signed_byte(self, v: Self::I, j: usize) -> Self::I;
    /// Byte `j` of each dword, a signed number, in both of its words.
    fn signed_byte_in_words(self, v: Self::I, j: usize) -> Self::I;
    /// Bytes 0 and 1, and bytes 2 and 3, of each dword as words: unsigned.
    fn words_of_u8(self, v: Self::I) -> [Self::I; 2];
    /// Bytes 0 and 1, and bytes 2 and 3, of each dword as words: signed.
    fn words_of_i8(self, v: Self::I) -> [Self::I; 2];
    /// `table[index]` by bytes; `index` is below 16.
    fn look_up(self, table: &[i8; 16], index: Self::I) -> Self::I;
    /// `sum + Σ a·b` over the two signed words of each dword.
    fn add_products_i16(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I;

    /// `x` in every lane.
    fn splat_f32(self, x: f32) -> Self::F;
    /// Integers to f32, to nearest even.
    fn to_f32(self, v: Self::I) -> Self::F;
    /// The f16 in the low half of each dword, exactly.
    fn low_f16(self, v: Self::I) -> Self::F;
    /// The f16 in the high half of each dword, exactly.
    fn high_f16(self, v: Self::I) -> Self::F;
    /// `a · b`
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `c − a · b`, rounded once.
    fn fnma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The bits of f32.
    fn bits(self, v: Self::F) -> Self::I;
    /// f32 of these bits.
    fn of_bits(self, v: Self::I) -> Self::F;
    /// The quarters of f32; as many as there are.
    fn quarters(self, v: Self::F) -> [__m128; 4];
    /// `a · b + c` in four lanes, rounded once.
    fn fma_quarter(self, a: __m128, b: __m128, c: __m128) -> __m128;
    /// `c − a · b` in four lanes, rounded once.
    fn fnma_quarter(self, a: __m128, b: __m128, c: __m128) -> __m128;

    /// Its four lanes.
    fn quarter_to_array(self, v: __m128) -> [f32; 4];
    /// f32 of as many halves as there are lanes, exactly.
    fn of_f16(self, halves: &[u16; MAX_ROWS]) -> Self::F;
    /// Prefetches a cache line; the address need not be valid.
    fn prefetch(self, p: *const u8);
    /// A register of bytes.
    ///
    /// # Safety
    /// [`RowLanes::BYTES`] are readable.
    unsafe fn load(self, p: *const u8) -> Self::I;
    /// 32 bytes, again in the other half if there is one.
    ///
    /// # Safety
    /// 32 bytes are readable.
    unsafe fn load_32(self, p: *const u8) -> Self::I;
    /// 16 bytes for each quarter, `at` bytes after each pointer.
    ///
    /// # Safety
    /// 16 bytes are readable there.
    unsafe fn load_quarters(self, p: [*const u8; 4], at: usize) -> Self::I;
    /// Four dwords of each row from byte `at` on: dword `j` of row `i` is lane `i` of register `j`.
    ///
    /// # Safety
    /// 16 bytes are readable there.
    unsafe fn dwords4(self, rows: &[*const u8; MAX_ROWS], at: usize) -> [Self::I; 4];
    /// Sixteen dwords of each row from byte `at` on.
    ///
    /// # Safety
    /// 64 bytes are readable there.
    unsafe fn dwords16(self, rows: &[*const u8; MAX_ROWS], at: usize) -> [Self::I; 16];

    /// Transposes the 4 × 4 dwords in each quarter.
    fn transpose_dwords(self, v: [Self::I; 4]) -> [Self::I; 4];
    /// Transposes the quarters of as many registers as a register has.
    fn transpose_quarters(self, v: [Self::I; 4]) -> [Self::I; 4];
    /// Dword `i` of each quarter is the sum of the four dwords in that quarter of register `i`.
    fn sum_dwords(self, v: [Self::I; 4]) -> Self::I;
    /// Quarter `i` is the sum of the quarters of register `i`, for as many registers as a register has quarters.
    fn sum_quarters(self, v: [Self::I; 4]) -> Self::I;
    /// The quarters of four registers; as many as there are.
    fn split_quarters(self, v: [Self::I; 4]) -> [[__m128i; 4]; 4];

    /// The first values of `y`; 0 in lanes past the last one.
    fn load_rows(self, y: &[f32]) -> Self::F;
    /// Stores as many lanes as `y` has values, at most all.
    fn store_rows(self, v: Self::F, y: &mut [f32]);
    /// The lanes, then zeros.
    fn to_array(self, v: Self::F) -> [f32; MAX_ROWS];
}

/// Dot products of bytes.
pub(crate) trait DotI8: RowLanes {
    /// Whether weights of 8 bits are taken as unsigned ones, with 128 added; otherwise they are signed.
    const UNSIGNED: bool;
    /// Accumulators that fill the registers: tokens that a panel meets at a time.
    const ACCUMULATORS: usize;

    /// `Σ w·x` over the four bytes of each dword in both registers, weights below `2^bits` (8 bits as [`DotI8::UNSIGNED`] says) and `x` in
    /// `[−127, 127]`.
    fn dot_quads(self, bits: u32, w: [Self::I; 2], x: [Self::I; 2]) -> Self::I;

    /// `sums + Σ w·x` of a lane's row and `T` tokens, separately for `P` groups of `4·N` values: register `i` of `w[p]` holds weights
    /// `4i..4i + 4` of each row, and the activations of token `t` are the `at[p]`-th `N` dwords of `x[t]`.
    fn dot<const N: usize, const T: usize, const P: usize>(
        self,
        bits: u32,
        w: [&[Self::I; N]; P],
        x: &[[i32; 16]; T],
        at: [usize; P],
        sums: [[Self::I; T]; P],
    ) -> [[Self::I; T]; P];

    /// A scale for [`DotI8::scaled_dot`]: byte `j` of each dword, a signed number.
    #[inline(always)]
    fn scale(self, v: Self::I, j: usize) -> Self::I {
        self.signed_byte(v, j)
    }

    /// `sums + Σ_p scales[p] · Σ w·x`, with the arguments of [`DotI8::dot`].
    #[inline(always)]
    fn scaled_dot<const N: usize, const T: usize, const P: usize>(
        self,
        bits: u32,
        w: [&[Self::I; N]; P],
        scales: [Self::I; P],
        x: &[[i32; 16]; T],
        at: [usize; P],
        mut sums: [Self::I; T],
    ) -> [Self::I; T] {
        let products = self.dot(bits, w, x, at, [[self.zero(); T]; P]);
        for p in 0..P {
            for t in 0..T {
                sums[t] = self.add_i32(sums[t], self.mul_i32(products[p][t], scales[p]));
            }
        }
        sums
    }
}
