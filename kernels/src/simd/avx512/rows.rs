//! AVX-512 with VNNI: sixteen rows.

use std::arch::x86_64::*;

use crate::simd::row_lanes::{DotI8, Kernel, MAX_ROWS, RowLanes};

/// Proof of AVX2, FMA, F16C and AVX-512 F, BW, VL, DQ and VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Rows(());

macro_rules! proven {
    ($e:expr) => {
        // SAFETY: `self` proves the features; pointers are to slices as long as the loads and stores, or the method is unsafe for them.
        unsafe { $e }
    };
}

/// A value of this type for every byte or dword, in the order of memory.
macro_rules! constant {
    ($v:expr) => {{
        const V: __m512i = {
            // SAFETY: both are 64 bytes, and any bits are valid.
            unsafe { std::mem::transmute($v) }
        };
        V
    }};
}

/// Sixteen bytes in every quarter.
const fn repeated(v: [i8; 16]) -> [i8; 64] {
    let mut all = [0; 64];
    let mut i = 0;
    while i < 64 {
        all[i] = v[i % 16];
        i += 1;
    }
    all
}

impl RowLanes for Avx512Rows {
    type I = __m512i;
    type F = __m512;
    const ROWS: usize = 16;

    #[inline(always)]
    unsafe fn new() -> Self {
        Avx512Rows(())
    }

    #[inline(always)]
    fn call<K: Kernel<Self>>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
        fn compiled<K: Kernel<Avx512Rows>>(s: Avx512Rows, kernel: K) -> K::Output {
            kernel.run(s)
        }
        proven!(compiled(self, kernel))
    }

    #[inline(always)]
    fn zero(self) -> __m512i {
        proven!(_mm512_setzero_si512())
    }

    #[inline(always)]
    fn splat_u8(self, x: u8) -> __m512i {
        proven!(_mm512_set1_epi8(x as i8))
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m512i {
        proven!(_mm512_set1_epi32(x))
    }

    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_and_si512(a, b))
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_or_si512(a, b))
    }

    #[inline(always)]
    fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_xor_si512(a, b))
    }

    #[inline(always)]
    fn or_and(self, a: __m512i, b: __m512i, mask: __m512i) -> __m512i {
        proven!(_mm512_ternarylogic_epi32::<0xa8>(a, b, mask))
    }

    #[inline(always)]
    fn sub_i8(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_sub_epi8(a, b))
    }

    #[inline(always)]
    fn add_i32(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_add_epi32(a, b))
    }

    #[inline(always)]
    fn sub_i32(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_sub_epi32(a, b))
    }

    #[inline(always)]
    fn mul_i32(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_mullo_epi32(a, b))
    }

    #[inline(always)]
    fn shl32(self, v: __m512i, n: i32) -> __m512i {
        proven!(_mm512_sll_epi32(v, _mm_cvtsi32_si128(n)))
    }

    #[inline(always)]
    fn shr32(self, v: __m512i, n: i32) -> __m512i {
        proven!(_mm512_srl_epi32(v, _mm_cvtsi32_si128(n)))
    }

    #[inline(always)]
    fn shr16(self, v: __m512i, n: i32) -> __m512i {
        proven!(_mm512_srl_epi16(v, _mm_cvtsi32_si128(n)))
    }

    #[inline(always)]
    fn shift16_by_half(self, v: __m512i, by: [i32; 2]) -> __m512i {
        let (a, b) = (by[0].abs() as i16, by[1].abs() as i16);
        proven!({
            let n = _mm512_inserti64x4::<1>(_mm512_set1_epi16(a), _mm256_set1_epi16(b));
            if by[0] > 0 { _mm512_sllv_epi16(v, n) } else { _mm512_srlv_epi16(v, n) }
        })
    }

    #[inline(always)]
    fn join_bits(self, low: __m512i, high: __m512i, by: i32, mask: __m512i) -> __m512i {
        // A rotation of dwords: what comes in from another byte is masked away.
        proven!({
            let high = _mm512_rolv_epi32(high, _mm512_set1_epi32(by));
            _mm512_ternarylogic_epi32::<0xf8>(low, high, mask)
        })
    }

    #[inline(always)]
    fn add_where(self, q: __m512i, bits: __m512i, bit: [u8; 2], value: u8) -> __m512i {
        proven!({
            let bit = _mm512_inserti64x4::<1>(_mm512_set1_epi8(bit[0] as i8), _mm256_set1_epi8(bit[1] as i8));
            _mm512_mask_add_epi8(q, _mm512_test_epi8_mask(bits, bit), q, _mm512_set1_epi8(value as i8))
        })
    }

    #[inline(always)]
    fn add_bits(self, low: __m512i, high: __m512i, bits: [u32; 4], value: u8) -> [__m512i; 2] {
        let (mut low_mask, mut high_mask) = (0, 0);
        for j in 0..4 {
            let bits = bits[j] as u64;
            low_mask |= (bits & 0xffff) << (16 * j);
            high_mask |= (bits >> 16) << (16 * j);
        }
        let value = self.splat_u8(value);
        proven!([
            _mm512_mask_add_epi8(low, low_mask, low, value),
            _mm512_mask_add_epi8(high, high_mask, high, value)
        ])
    }

    #[inline(always)]
    fn signed_byte(self, v: __m512i, j: usize) -> __m512i {
        proven!(_mm512_srai_epi32::<24>(_mm512_sll_epi32(v, _mm_cvtsi32_si128(24 - 8 * j as i32))))
    }

    #[inline(always)]
    fn signed_byte_in_words(self, v: __m512i, j: usize) -> __m512i {
        // To the tops of words.
        proven!({
            let first = _mm512_set4_epi32(0x0c80_0c80, 0x0880_0880, 0x0480_0480, 0x0080_0080);
            let index = _mm512_add_epi8(first, _mm512_set1_epi16((j as i16) << 8));
            _mm512_srai_epi16::<8>(_mm512_shuffle_epi8(v, index))
        })
    }

    #[inline(always)]
    fn words_of_u8(self, v: __m512i) -> [__m512i; 2] {
        let first = constant!(repeated([0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1]));
        let second = constant!(repeated([2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15, -1]));
        proven!([_mm512_shuffle_epi8(v, first), _mm512_shuffle_epi8(v, second)])
    }

    #[inline(always)]
    fn words_of_i8(self, v: __m512i) -> [__m512i; 2] {
        // To the tops of words.
        let first = constant!(repeated([-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13]));
        let second = constant!(repeated([-1, 2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15]));
        proven!([
            _mm512_srai_epi16::<8>(_mm512_shuffle_epi8(v, first)),
            _mm512_srai_epi16::<8>(_mm512_shuffle_epi8(v, second)),
        ])
    }

    #[inline(always)]
    fn look_up(self, table: &[i8; 16], index: __m512i) -> __m512i {
        proven!({
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, index)
        })
    }

    #[inline(always)]
    fn add_products_i16(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_dpwssd_epi32(sum, a, b))
    }

    #[inline(always)]
    fn splat_f32(self, x: f32) -> __m512 {
        proven!(_mm512_set1_ps(x))
    }

    #[inline(always)]
    fn to_f32(self, v: __m512i) -> __m512 {
        proven!(_mm512_cvtepi32_ps(v))
    }

    #[inline(always)]
    fn low_f16(self, v: __m512i) -> __m512 {
        proven!(_mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)))
    }

    #[inline(always)]
    fn high_f16(self, v: __m512i) -> __m512 {
        proven!(_mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(v))))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        proven!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn fnma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        proven!(_mm512_fnmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn bits(self, v: __m512) -> __m512i {
        proven!(_mm512_castps_si512(v))
    }

    #[inline(always)]
    fn of_bits(self, v: __m512i) -> __m512 {
        proven!(_mm512_castsi512_ps(v))
    }

    #[inline(always)]
    fn quarters(self, v: __m512) -> [__m128; 4] {
        proven!([
            _mm512_castps512_ps128(v),
            _mm512_extractf32x4_ps::<1>(v),
            _mm512_extractf32x4_ps::<2>(v),
            _mm512_extractf32x4_ps::<3>(v),
        ])
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
    fn of_f16(self, halves: &[u16; MAX_ROWS]) -> __m512 {
        proven!(_mm512_cvtph_ps(_mm256_loadu_si256(halves.as_ptr().cast())))
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        proven!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }

    #[inline(always)]
    unsafe fn load(self, p: *const u8) -> __m512i {
        proven!(_mm512_loadu_si512(p.cast()))
    }

    #[inline(always)]
    unsafe fn load_32(self, p: *const u8) -> __m512i {
        proven!(_mm512_broadcast_i64x4(_mm256_loadu_si256(p.cast())))
    }

    #[inline(always)]
    unsafe fn load_quarters(self, p: [*const u8; 4], at: usize) -> __m512i {
        proven!({
            let v = _mm512_castsi128_si512(_mm_loadu_si128(p[0].add(at).cast()));
            let v = _mm512_inserti32x4::<1>(v, _mm_loadu_si128(p[1].add(at).cast()));
            let v = _mm512_inserti32x4::<2>(v, _mm_loadu_si128(p[2].add(at).cast()));
            _mm512_inserti32x4::<3>(v, _mm_loadu_si128(p[3].add(at).cast()))
        })
    }

    #[inline(always)]
    unsafe fn dwords4(self, rows: &[*const u8; MAX_ROWS], at: usize) -> [__m512i; 4] {
        let mut v = [self.zero(); 4];
        for i in 0..4 {
            v[i] = proven!(self.load_quarters([rows[i], rows[i + 4], rows[i + 8], rows[i + 12]], at));
        }
        self.transpose_dwords(v)
    }

    #[inline(always)]
    unsafe fn dwords16(self, rows: &[*const u8; MAX_ROWS], at: usize) -> [__m512i; 16] {
        let mut t = [[self.zero(); 4]; 4];
        for g in 0..4 {
            for i in 0..4 {
                t[g][i] = proven!(self.load(rows[4 * g + i].add(at)));
            }
            t[g] = self.transpose_dwords(t[g]);
        }
        let mut out = [self.zero(); 16];
        for i in 0..4 {
            let quarters = self.transpose_quarters([t[0][i], t[1][i], t[2][i], t[3][i]]);
            for j in 0..4 {
                out[4 * j + i] = quarters[j];
            }
        }
        out
    }

    #[inline(always)]
    fn transpose_dwords(self, [a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
        proven!({
            let (ab_lo, ab_hi) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (cd_lo, cd_hi) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            [
                _mm512_unpacklo_epi64(ab_lo, cd_lo),
                _mm512_unpackhi_epi64(ab_lo, cd_lo),
                _mm512_unpacklo_epi64(ab_hi, cd_hi),
                _mm512_unpackhi_epi64(ab_hi, cd_hi),
            ]
        })
    }

    #[inline(always)]
    fn transpose_quarters(self, [a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
        proven!({
            let (ab_lo, ab_hi) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
            let (cd_lo, cd_hi) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
            [
                _mm512_shuffle_i32x4::<0x88>(ab_lo, cd_lo),
                _mm512_shuffle_i32x4::<0xdd>(ab_lo, cd_lo),
                _mm512_shuffle_i32x4::<0x88>(ab_hi, cd_hi),
                _mm512_shuffle_i32x4::<0xdd>(ab_hi, cd_hi),
            ]
        })
    }

    #[inline(always)]
    fn sum_dwords(self, [a, b, c, d]: [__m512i; 4]) -> __m512i {
        proven!({
            let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
        })
    }

    #[inline(always)]
    fn sum_quarters(self, [a, b, c, d]: [__m512i; 4]) -> __m512i {
        proven!({
            let ab = _mm512_add_epi32(_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
            let cd = _mm512_add_epi32(_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
            _mm512_add_epi32(_mm512_shuffle_i32x4::<0x88>(ab, cd), _mm512_shuffle_i32x4::<0xdd>(ab, cd))
        })
    }

    #[inline(always)]
    fn split_quarters(self, v: [__m512i; 4]) -> [[__m128i; 4]; 4] {
        // SAFETY: both are 256 bytes, and any bits are valid.
        unsafe { std::mem::transmute(v) }
    }

    #[inline(always)]
    fn load_rows(self, y: &[f32]) -> __m512 {
        proven!(_mm512_maskz_loadu_ps(mask(y.len()), y.as_ptr()))
    }

    #[inline(always)]
    fn store_rows(self, v: __m512, y: &mut [f32]) {
        proven!(_mm512_mask_storeu_ps(y.as_mut_ptr(), mask(y.len()), v))
    }

    #[inline(always)]
    fn to_array(self, v: __m512) -> [f32; MAX_ROWS] {
        let mut lanes = [0.0; MAX_ROWS];
        proven!(_mm512_storeu_ps(lanes.as_mut_ptr(), v));
        lanes
    }
}

/// The lanes below `n`.
#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    if n >= 16 { !0 } else { (1 << n) - 1 }
}

impl DotI8 for Avx512Rows {
    const UNSIGNED: bool = true;
    const ACCUMULATORS: usize = 16;

    #[inline(always)]
    fn dot_quads(self, _: u32, w: [__m512i; 2], x: [__m512i; 2]) -> __m512i {
        proven!(_mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), w[0], x[0]), w[1], x[1]))
    }

    #[inline(always)]
    fn dot<const N: usize, const T: usize, const P: usize>(
        self,
        _: u32,
        w: [&[__m512i; N]; P],
        x: &[[i32; 16]; T],
        at: [usize; P],
        mut sums: [[__m512i; T]; P],
    ) -> [[__m512i; T]; P] {
        for i in 0..N {
            for p in 0..P {
                for t in 0..T {
                    let x = self.splat_i32(x[t].as_chunks::<N>().0[at[p]][i]);
                    sums[p][t] = proven!(_mm512_dpbusd_epi32(sums[p][t], w[p][i], x));
                }
            }
        }
        sums
    }
}
