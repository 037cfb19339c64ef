//! Sixteen f32 lanes on every instruction set, and the kernels written once on top of them.
//!
//! A value of a type that is [`Lanes`] proves that the CPU has the features of its instruction set. A kernel is a generic function over
//! such a type; the registry inlines it into a `#[target_feature]` function for each instruction set. Whatever the registers, there are 16
//! lanes, sums are folded in one fixed tree and products are fused with their addition, so that all instruction sets agree on every bit (but
//! not on the payload of a NaN).

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// Sixteen f32 lanes.
pub(crate) trait Lanes: Copy {
    /// The sixteen values.
    type F: Copy;

    /// # Safety
    /// The CPU has the features that the type proves.
    unsafe fn new() -> Self;

    /// Prefetches the cache line of `x`.
    fn prefetch(self, x: &u8);
    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::F;
    /// Lane `i` is `x[i]`.
    fn load(self, x: &[f32; 16]) -> Self::F;
    /// `out[i]` is lane `i`.
    fn store(self, x: Self::F, out: &mut [f32; 16]);

    /// Little-endian f32 at any alignment.
    fn f32_le(self, x: &[u8; 64]) -> Self::F;
    /// Little-endian IEEE half precision, exactly.
    fn f16_le(self, x: &[u8; 32]) -> Self::F;
    /// One little-endian IEEE half in every lane, exactly.
    fn splat_f16(self, x: [u8; 2]) -> Self::F;
    /// Little-endian bfloat16, exactly.
    fn bf16_le(self, x: &[u8; 32]) -> Self::F;
    /// Two's complement bytes.
    fn i8(self, x: &[u8; 16]) -> Self::F;
    /// The low nibbles and the high nibbles, less 8.
    fn nibbles(self, x: &[u8; 16]) -> [Self::F; 2];

    /// `a + b`
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a − b`
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a · b`
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `√x`
    #[cfg(feature = "quantize")]
    fn sqrt(self, x: Self::F) -> Self::F;
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `if a > b { a } else { b }`, which settles NaN and the sign of zero.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `if a < b { x } else { y }`
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F;
    /// The bits of each lane, shifted left by 23.
    fn shift_left_23(self, x: Self::F) -> Self::F;
    /// Lanes `2i` and `2i + 1` exchanged.
    fn swap_pairs(self, x: Self::F) -> Self::F;
    /// The sum in the fixed tree: lane `i` and lane `i + 8`, then `+ 4`, `+ 2`, `+ 1`.
    fn sum(self, x: Self::F) -> f32;

    /// The largest lane, taken in the order of the lanes.
    #[inline(always)]
    fn largest(self, x: Self::F) -> f32 {
        let mut lanes = [0.0; 16];
        self.store(x, &mut lanes);
        let mut max = lanes[0];
        for x in &lanes[1..] {
            max = if *x > max { *x } else { max };
        }
        max
    }

    /// Lane `j` of vector `i` becomes lane `i` of vector `j`.
    #[cfg(any(feature = "quantize", feature = "train"))]
    #[inline(always)]
    fn transpose(self, x: [Self::F; 16]) -> [Self::F; 16] {
        let (mut rows, mut columns) = ([[0.0; 16]; 16], [[0.0; 16]; 16]);
        for i in 0..16 {
            self.store(x[i], &mut rows[i]);
        }
        for (j, column) in columns.iter_mut().enumerate() {
            for i in 0..16 {
                column[i] = rows[i][j];
            }
        }
        columns.map(|column| self.load(&column))
    }

    /// Up to sixteen values, then zeros.
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::F {
        let mut lanes = [0.0; 16];
        lanes[..x.len()].copy_from_slice(x);
        self.load(&lanes)
    }

    /// The first lanes, as many as `out` takes.
    #[inline(always)]
    fn store_part(self, x: Self::F, out: &mut [f32]) {
        let mut lanes = [0.0; 16];
        self.store(x, &mut lanes);
        out.copy_from_slice(&lanes[..out.len()]);
    }
}
