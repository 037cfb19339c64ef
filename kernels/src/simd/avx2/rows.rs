//! AVX2, alone or with the `vpdpbusd` of AVX-VNNI: eight rows.

use std::arch::asm;
use std::arch::x86_64::*;
use std::marker::PhantomData;

use crate::simd::row_lanes::{DotI8, Kernel, MAX_ROWS, RowLanes};

/// Proof of AVX2, FMA and F16C, and of what `D` needs besides for products of bytes.
pub(crate) struct Avx2Rows<D>(PhantomData<D>);

impl<D> Clone for Avx2Rows<D> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<D> Copy for Avx2Rows<D> {}

/// Products of bytes by `vpmaddubsw`, which AVX2 has.
pub(crate) struct Maddubs;
/// By the `vpdpbusd` of AVX-VNNI.
pub(crate) struct Vnni;

macro_rules! proven {
    ($e:expr) => {
        // SAFETY: `self` proves the features; pointers are to slices as long as the loads and stores, or the method is unsafe for them.
        unsafe { $e }
    };
}

/// Sixteen bytes in both quarters.
macro_rules! repeated {
    ($($x:expr),*) => { _mm256_broadcastsi128_si256(_mm_setr_epi8($($x),*)) };
}

impl<D> RowLanes for Avx2Rows<D> {
    type I = __m256i;
    type F = __m256;
    const ROWS: usize = 8;

    #[inline(always)]
    unsafe fn new() -> Self {
        Avx2Rows(PhantomData)
    }

    #[inline(always)]
    fn call<K: Kernel<Self>>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma,f16c")]
        fn compiled<D, K: Kernel<Avx2Rows<D>>>(s: Avx2Rows<D>, kernel: K) -> K::Output {
            kernel.run(s)
        }
        proven!(compiled(self, kernel))
    }

    #[inline(always)]
    fn zero(self) -> __m256i {
        proven!(_mm256_setzero_si256())
    }

    #[inline(always)]
    fn splat_u8(self, x: u8) -> __m256i {
        proven!(_mm256_set1_epi8(x as i8))
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m256i {
        proven!(_mm256_set1_epi32(x))
    }

    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_and_si256(a, b))
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_or_si256(a, b))
    }

    #[inline(always)]
    fn xor(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_xor_si256(a, b))
    }

    #[inline(always)]
    fn or_and(self, a: __m256i, b: __m256i, mask: __m256i) -> __m256i {
        self.and(self.or(a, b), mask)
    }

    #[inline(always)]
    fn sub_i8(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_sub_epi8(a, b))
    }

    #[inline(always)]
    fn add_i32(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_add_epi32(a, b))
    }

    #[inline(always)]
    fn sub_i32(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_sub_epi32(a, b))
    }

    #[inline(always)]
    fn mul_i32(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_mullo_epi32(a, b))
    }

    #[inline(always)]
    fn shl32(self, v: __m256i, n: i32) -> __m256i {
        proven!(_mm256_sll_epi32(v, _mm_cvtsi32_si128(n)))
    }

    #[inline(always)]
    fn shr32(self, v: __m256i, n: i32) -> __m256i {
        proven!(_mm256_srl_epi32(v, _mm_cvtsi32_si128(n)))
    }

    #[inline(always)]
    fn shr16(self, v: __m256i, n: i32) -> __m256i {
        proven!(_mm256_srl_epi16(v, _mm_cvtsi32_si128(n)))
    }

    #[inline(always)]
    fn shift16_by_half(self, v: __m256i, by: [i32; 2]) -> __m256i {
        let n = by[0];
        proven!(match n {
            0 => v,
            1.. => _mm256_sll_epi16(v, _mm_cvtsi32_si128(n)),
            _ => _mm256_srl_epi16(v, _mm_cvtsi32_si128(-n)),
        })
    }

    #[inline(always)]
    fn join_bits(self, low: __m256i, high: __m256i, by: i32, mask: __m256i) -> __m256i {
        let high = match by {
            0 => high,
            1.. => self.shl32(high, by),
            _ => self.shr32(high, -by),
        };
        self.or(low, self.and(high, mask))
    }

    #[inline(always)]
    fn add_where(self, q: __m256i, bits: __m256i, bit: [u8; 2], value: u8) -> __m256i {
        let bit = self.splat_u8(bit[0]);
        let set = proven!(_mm256_cmpeq_epi8(_mm256_and_si256(bits, bit), bit));
        self.or(q, self.and(set, self.splat_u8(value)))
    }

    #[inline(always)]
    fn add_bits(self, low: __m256i, high: __m256i, bits: [u32; 4], value: u8) -> [__m256i; 2] {
        proven!({
            let bits = _mm256_set_m128i(_mm_set1_epi32(bits[1] as i32), _mm_set1_epi32(bits[0] as i32));
            // Each byte of a quarter takes the byte that has its bit, then asks for that bit.
            let first = repeated!(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
            let second = repeated!(2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
            let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201u64 as i64);
            let value = _mm256_set1_epi8(value as i8);
            let set_low = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(bits, first), bit), bit);
            let set_high = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(bits, second), bit), bit);
            [
                _mm256_or_si256(low, _mm256_and_si256(set_low, value)),
                _mm256_or_si256(high, _mm256_and_si256(set_high, value)),
            ]
        })
    }

    #[inline(always)]
    fn signed_byte(self, v: __m256i, j: usize) -> __m256i {
        proven!(_mm256_srai_epi32::<24>(_mm256_sll_epi32(v, _mm_cvtsi32_si128(24 - 8 * j as i32))))
    }

    #[inline(always)]
    fn signed_byte_in_words(self, v: __m256i, j: usize) -> __m256i {
        // To the tops of words.
        proven!({
            let first = _mm256_setr_epi32(
                0x0080_0080,
                0x0480_0480,
                0x0880_0880,
                0x0c80_0c80,
                0x0080_0080,
                0x0480_0480,
                0x0880_0880,
                0x0c80_0c80,
            );
            let index = _mm256_add_epi8(first, _mm256_set1_epi16((j as i16) << 8));
            _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(v, index))
        })
    }

    #[inline(always)]
    fn words_of_u8(self, v: __m256i) -> [__m256i; 2] {
        proven!([
            _mm256_shuffle_epi8(v, repeated!(0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1)),
            _mm256_shuffle_epi8(v, repeated!(2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15, -1)),
        ])
    }

    #[inline(always)]
    fn words_of_i8(self, v: __m256i) -> [__m256i; 2] {
        // To the tops of words.
        proven!([
            _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(
                v,
                repeated!(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13)
            )),
            _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(
                v,
                repeated!(-1, 2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15)
            )),
        ])
    }

    #[inline(always)]
    fn look_up(self, table: &[i8; 16], index: __m256i) -> __m256i {
        proven!({
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            _mm256_shuffle_epi8(table, index)
        })
    }

    #[inline(always)]
    fn add_products_i16(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_add_epi32(sum, _mm256_madd_epi16(a, b)))
    }

    #[inline(always)]
    fn splat_f32(self, x: f32) -> __m256 {
        proven!(_mm256_set1_ps(x))
    }

    #[inline(always)]
    fn to_f32(self, v: __m256i) -> __m256 {
        proven!(_mm256_cvtepi32_ps(v))
    }

    #[inline(always)]
    fn low_f16(self, v: __m256i) -> __m256 {
        self.high_f16(proven!(_mm256_slli_epi32::<16>(v)))
    }

    #[inline(always)]
    fn high_f16(self, v: __m256i) -> __m256 {
        proven!({
            // Signed saturation leaves 16-bit numbers as they are.
            let halves = _mm256_packs_epi32(_mm256_srai_epi32::<16>(v), _mm256_setzero_si256());
            _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(halves)))
        })
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        proven!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn fnma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        proven!(_mm256_fnmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn bits(self, v: __m256) -> __m256i {
        proven!(_mm256_castps_si256(v))
    }

    #[inline(always)]
    fn of_bits(self, v: __m256i) -> __m256 {
        proven!(_mm256_castsi256_ps(v))
    }

    #[inline(always)]
    fn quarters(self, v: __m256) -> [__m128; 4] {
        proven!({
            let (first, second) = (_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            [first, second, first, second]
        })
    }

    #[inline(always)]
    fn fma_quarter(self, a: __m128, b: __m128, c: __m128) -> __m128 {
        proven!(_mm_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn fnma_quarter(self, a: __m128, b: __m128, c: __m128) -> __m128 {
        proven!(_mm_fnmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn quarter_to_array(self, v: __m128) -> [f32; 4] {
        // SAFETY: both are 16 bytes, and any bits are valid.
        unsafe { std::mem::transmute(v) }
    }

    #[inline(always)]
    fn of_f16(self, halves: &[u16; MAX_ROWS]) -> __m256 {
        proven!(_mm256_cvtph_ps(_mm_loadu_si128(halves.as_ptr().cast())))
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        proven!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }

    #[inline(always)]
    unsafe fn load(self, p: *const u8) -> __m256i {
        proven!(_mm256_loadu_si256(p.cast()))
    }

    #[inline(always)]
    unsafe fn load_32(self, p: *const u8) -> __m256i {
        proven!(_mm256_loadu_si256(p.cast()))
    }

    #[inline(always)]
    unsafe fn load_quarters(self, p: [*const u8; 4], at: usize) -> __m256i {
        proven!(_mm256_loadu2_m128i(p[1].add(at).cast(), p[0].add(at).cast()))
    }

    #[inline(always)]
    unsafe fn dwords4(self, rows: &[*const u8; MAX_ROWS], at: usize) -> [__m256i; 4] {
        let mut v = [self.zero(); 4];
        for i in 0..4 {
            v[i] = proven!(self.load_quarters([rows[i], rows[i + 4], rows[i], rows[i + 4]], at));
        }
        self.transpose_dwords(v)
    }

    #[inline(always)]
    unsafe fn dwords16(self, rows: &[*const u8; MAX_ROWS], at: usize) -> [__m256i; 16] {
        let mut out = [self.zero(); 16];
        for j in 0..4 {
            out[4 * j..][..4].copy_from_slice(&proven!(self.dwords4(rows, at + 16 * j)));
        }
        out
    }

    #[inline(always)]
    fn transpose_dwords(self, [a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
        proven!({
            let (ab_lo, ab_hi) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (cd_lo, cd_hi) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(ab_lo, cd_lo),
                _mm256_unpackhi_epi64(ab_lo, cd_lo),
                _mm256_unpacklo_epi64(ab_hi, cd_hi),
                _mm256_unpackhi_epi64(ab_hi, cd_hi),
            ]
        })
    }

    #[inline(always)]
    fn transpose_quarters(self, [a, b, ..]: [__m256i; 4]) -> [__m256i; 4] {
        let [first, second] =
            proven!([_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b),]);
        [first, second, first, second]
    }

    #[inline(always)]
    fn sum_dwords(self, [a, b, c, d]: [__m256i; 4]) -> __m256i {
        proven!({
            let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
        })
    }

    #[inline(always)]
    fn sum_quarters(self, v: [__m256i; 4]) -> __m256i {
        let [a, b, ..] = self.transpose_quarters(v);
        self.add_i32(a, b)
    }

    #[inline(always)]
    fn split_quarters(self, v: [__m256i; 4]) -> [[__m128i; 4]; 4] {
        // SAFETY: both are 128 bytes, and any bits are valid.
        let v: [[__m128i; 2]; 4] = unsafe { std::mem::transmute(v) };
        [
            [v[0][0], v[0][1], v[0][0], v[0][1]],
            [v[1][0], v[1][1], v[1][0], v[1][1]],
            [v[2][0], v[2][1], v[2][0], v[2][1]],
            [v[3][0], v[3][1], v[3][0], v[3][1]],
        ]
    }

    #[inline(always)]
    fn load_rows(self, y: &[f32]) -> __m256 {
        proven!(_mm256_maskload_ps(y.as_ptr(), mask(y.len())))
    }

    #[inline(always)]
    fn store_rows(self, v: __m256, y: &mut [f32]) {
        proven!(_mm256_maskstore_ps(y.as_mut_ptr(), mask(y.len()), v))
    }

    #[inline(always)]
    fn to_array(self, v: __m256) -> [f32; MAX_ROWS] {
        let mut lanes = [0.0; MAX_ROWS];
        proven!(_mm256_storeu_ps(lanes.as_mut_ptr(), v));
        lanes
    }
}

/// The lanes below `n`.
#[inline]
#[target_feature(enable = "avx2")]
fn mask(n: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n.min(8) as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

impl DotI8 for Avx2Rows<Maddubs> {
    const UNSIGNED: bool = false;
    const ACCUMULATORS: usize = 8;

    #[inline(always)]
    fn dot_quads(self, bits: u32, w: [__m256i; 2], x: [__m256i; 2]) -> __m256i {
        proven!({
            let ones = _mm256_set1_epi16(1);
            if bits == 8 {
                // |w| · (±x): an offset of 128 would saturate, while |−128| is an unsigned byte, and x is never −128.
                let a = _mm256_maddubs_epi16(_mm256_abs_epi8(w[0]), _mm256_sign_epi8(x[0], w[0]));
                let b = _mm256_maddubs_epi16(_mm256_abs_epi8(w[1]), _mm256_sign_epi8(x[1], w[1]));
                _mm256_add_epi32(_mm256_madd_epi16(a, ones), _mm256_madd_epi16(b, ones))
            } else {
                let (a, b) = (_mm256_maddubs_epi16(w[0], x[0]), _mm256_maddubs_epi16(w[1], x[1]));
                if fits_16_bits(4, bits) {
                    _mm256_madd_epi16(_mm256_add_epi16(a, b), ones)
                } else {
                    _mm256_add_epi32(_mm256_madd_epi16(a, ones), _mm256_madd_epi16(b, ones))
                }
            }
        })
    }

    /// Pairs of products of `bits` by 7 bits are summed in 16 bits for as long as they fit. With signed weights it is `|w| · (±x)`: two
    /// products of 128 by 127 fit.
    #[inline(always)]
    fn dot<const N: usize, const T: usize, const P: usize>(
        self,
        bits: u32,
        w: [&[__m256i; N]; P],
        x: &[[i32; 16]; T],
        at: [usize; P],
        mut sums: [[__m256i; T]; P],
    ) -> [[__m256i; T]; P] {
        let ones = proven!(_mm256_set1_epi16(1));
        for p in 0..P {
            sums[p] = self.add_words(bits, w[p], ones, x, at[p], sums[p]);
        }
        sums
    }

    #[inline(always)]
    fn scale(self, v: __m256i, j: usize) -> __m256i {
        self.signed_byte_in_words(v, j)
    }

    /// `vpmaddwd` scales the words while it adds them up.
    #[inline(always)]
    fn scaled_dot<const N: usize, const T: usize, const P: usize>(
        self,
        bits: u32,
        w: [&[__m256i; N]; P],
        scales: [__m256i; P],
        x: &[[i32; 16]; T],
        at: [usize; P],
        mut sums: [__m256i; T],
    ) -> [__m256i; T] {
        for p in 0..P {
            sums = self.add_words(bits, w[p], scales[p], x, at[p], sums);
        }
        sums
    }
}

impl Avx2Rows<Maddubs> {
    /// `sums + factor · Σ w·x`; `factor` is the same in both words of a dword.
    #[inline(always)]
    fn add_words<const N: usize, const T: usize>(
        self,
        bits: u32,
        w: &[__m256i; N],
        factor: __m256i,
        x: &[[i32; 16]; T],
        at: usize,
        mut sums: [__m256i; T],
    ) -> [__m256i; T] {
        // As many registers of products as can be added up in words.
        let n = (0x7fff / (2 * 127 * ((1 << bits) - 1))).clamp(1, N);
        for first in (0..N).step_by(n) {
            for t in 0..T {
                let x = &x[t].as_chunks::<N>().0[at];
                let mut words = self.pairs(bits, w[first], x[first]);
                for i in first + 1..(first + n).min(N) {
                    words = proven!(_mm256_add_epi16(words, self.pairs(bits, w[i], x[i])));
                }
                sums[t] = self.add_products_i16(sums[t], words, factor);
            }
        }
        sums
    }

    /// Sums of two products of weights with four activations.
    #[inline(always)]
    fn pairs(self, bits: u32, w: __m256i, x: i32) -> __m256i {
        let x = self.splat_i32(x);
        proven!(match bits {
            8 => _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)),
            _ => _mm256_maddubs_epi16(w, x),
        })
    }
}

/// Whether `n` products of `bits` by 7 bits, added, fit a signed word.
const fn fits_16_bits(n: u32, bits: u32) -> bool {
    n * 127 * ((1 << bits) - 1) <= 0x7fff
}

impl Avx2Rows<Vnni> {
    /// `vpdpbusd`, as `asm!`: a function compiled for AVX2 cannot take in one that is compiled for AVX-VNNI.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn dpbusd(self, mut sum: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // SAFETY: `self` proves the instruction; it touches registers only.
        unsafe {
            asm!("{{vex}} vpdpbusd {0}, {1}, {2}", inout(ymm_reg) sum, in(ymm_reg) w, in(ymm_reg) x,
                options(pure, nomem, nostack, preserves_flags));
        }
        sum
    }
}

impl DotI8 for Avx2Rows<Vnni> {
    const UNSIGNED: bool = true;
    const ACCUMULATORS: usize = 8;

    #[inline(always)]
    fn dot_quads(self, _: u32, w: [__m256i; 2], x: [__m256i; 2]) -> __m256i {
        proven!({
            let sum = self.dpbusd(_mm256_setzero_si256(), w[0], x[0]);
            self.dpbusd(sum, w[1], x[1])
        })
    }

    #[inline(always)]
    fn dot<const N: usize, const T: usize, const P: usize>(
        self,
        _: u32,
        w: [&[__m256i; N]; P],
        x: &[[i32; 16]; T],
        at: [usize; P],
        mut sums: [[__m256i; T]; P],
    ) -> [[__m256i; T]; P] {
        for i in 0..N {
            for p in 0..P {
                for t in 0..T {
                    let x = self.splat_i32(x[t].as_chunks::<N>().0[at[p]][i]);
                    sums[p][t] = proven!(self.dpbusd(sums[p][t], w[p][i], x));
                }
            }
        }
        sums
    }
}
