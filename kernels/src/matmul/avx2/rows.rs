//! Moving data between "a register a row" and "a lane a row": eight rows of weights are the eight lanes of a register.

use std::arch::x86_64::*;

use crate::weights::matrix::QuantMatrix;

/// Rows of weights that the kernels take at a time: the 32-bit lanes of a register.
pub(super) const ROWS: usize = 8;

/// How far ahead of its use a row is asked for.
const PREFETCH_BYTES: usize = 512;

/// Eight rows of a matrix, from some block on, as [`deal`](crate::matmul::deal) says.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// Where each row starts.
    row: [*const u8; ROWS],
    /// Bytes from there to the next block.
    at: usize,
    /// Bytes from there to what is asked for now.
    ahead: usize,
    /// Bytes in a row.
    row_bytes: usize,
    /// Bytes from the end of a row to the one that a lane reads after it.
    gap: usize,
}

impl Rows {
    /// Rows `first`, `first + apart`, `first + 2·apart` and so on of `w`. In place of those past the last row, the last one: computed,
    /// never stored.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn new(w: &QuantMatrix<'_>, first: usize, apart: usize) -> Rows {
        let (matrix, row_bytes, last) = (w.bytes().as_ptr(), w.row_bytes(), w.n_rows() - 1);
        // From the matrix's bytes, not a row's: a lane goes from row to row.
        let row: [*const u8; ROWS] =
            std::array::from_fn(|i| matrix.wrapping_add((first + i * apart).min(last) * row_bytes));
        let gap = if apart == 1 { (ROWS - 1) * row_bytes } else { 0 };
        if first == 0 && apart > 1 {
            // Those after them are asked for by the rows above; for these nobody has.
            for row in row {
                for line in (0..PREFETCH_BYTES.min(row_bytes)).step_by(64) {
                    _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(line).cast());
                }
            }
        }
        let mut rows = Rows { row, at: 0, ahead: 0, row_bytes, gap };
        rows.skip(0);
        rows
    }

    /// Goes `bytes` on in every row.
    #[inline(always)]
    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
        self.ahead = self.at + PREFETCH_BYTES;
        if self.ahead >= self.row_bytes {
            self.ahead += self.gap;
        }
    }

    /// The address of row `i`'s next block.
    #[inline(always)]
    pub(super) fn ptr(&self, i: usize) -> *const u8 {
        self.row[i].wrapping_add(self.at)
    }

    /// Asks for the cache lines that come a while after row `i`'s next `bytes`, be it in the row that its lane reads next.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn prefetch(&self, i: usize, bytes: usize) {
        for line in (0..bytes).step_by(64) {
            _mm_prefetch::<_MM_HINT_T0>(self.row[i].wrapping_add(self.ahead + line).cast());
        }
    }

    /// Four consecutive dwords of each row: dword `j` of row `i` is lane `i` of register `j`.
    ///
    /// # Safety
    /// Bytes `at..at + 16` from each row's pointer are readable.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn dwords(&self, at: usize) -> [__m256i; 4] {
        let mut v = [_mm256_setzero_si256(); 4];
        for i in 0..4 {
            // SAFETY: promised by the caller.
            v[i] = unsafe { load_lanes([self.ptr(i), self.ptr(i + 4)], at) };
        }
        transpose4(v)
    }
}

/// A register of two 16-byte pieces, `at` bytes after two pointers.
///
/// # Safety
/// 16 bytes are readable there.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn load_lanes(p: [*const u8; 2], at: usize) -> __m256i {
    // SAFETY: promised by the caller; the loads have no alignment.
    unsafe { _mm256_loadu2_m128i(p[1].add(at).cast(), p[0].add(at).cast()) }
}

/// 32 bytes.
///
/// # Safety
/// They are readable.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn load(p: *const u8) -> __m256i {
    // SAFETY: promised by the caller; the load has no alignment.
    unsafe { _mm256_loadu_si256(p.cast()) }
}

/// The f16 in the low half of each lane.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn low_f16(v: __m256i) -> __m256 {
    high_f16(_mm256_slli_epi32::<16>(v))
}

/// The f16 in the high half of each lane.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn high_f16(v: __m256i) -> __m256 {
    // Signed saturation leaves 16-bit numbers as they are.
    let halves = _mm256_packs_epi32(_mm256_srai_epi32::<16>(v), _mm256_setzero_si256());
    _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(halves)))
}

/// Transposes the 4 × 4 dwords in each 128-bit lane.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn transpose4([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let (ab_lo, ab_hi) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd_lo, cd_hi) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab_lo, cd_lo),
        _mm256_unpackhi_epi64(ab_lo, cd_lo),
        _mm256_unpacklo_epi64(ab_hi, cd_hi),
        _mm256_unpackhi_epi64(ab_hi, cd_hi),
    ]
}

/// Transposes the 2 × 2 lanes of 128 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn transpose_lanes([a, b]: [__m256i; 2]) -> [__m256i; 2] {
    [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)]
}

/// Transposes 8 × 8 dwords.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn transpose8(v: &[__m256i; 8]) -> [__m256i; 8] {
    let above = transpose4([v[0], v[1], v[2], v[3]]);
    let below = transpose4([v[4], v[5], v[6], v[7]]);
    let mut out = [_mm256_setzero_si256(); 8];
    for i in 0..4 {
        [out[i], out[i + 4]] = transpose_lanes([above[i], below[i]]);
    }
    out
}

/// Dword `i` of each 128-bit lane is the sum of the four dwords in that lane of register `i`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn sum_dwords([a, b, c, d]: [__m256i; 4]) -> __m256i {
    let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
}

/// 128-bit lane `i` is the sum of the two lanes of register `i`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn sum_lanes(v: [__m256i; 2]) -> __m256i {
    let [a, b] = transpose_lanes(v);
    _mm256_add_epi32(a, b)
}

/// The 128-bit lanes of registers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn split_lanes(v: [__m256i; 4]) -> [[__m128i; 2]; 4] {
    // SAFETY: both are 128 bytes, and any bits are valid.
    unsafe { std::mem::transmute(v) }
}

/// Eight values of `y` from `first` on; 0 in lanes past the last one.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn load_rows(y: &[f32], first: usize) -> __m256 {
    let y = &y[first..];
    // SAFETY: the mask has no more lanes than `y` has values.
    unsafe { _mm256_maskload_ps(y.as_ptr(), mask(y.len())) }
}

/// Stores the lanes that are rows to values `first`, `first + apart`, `first + 2·apart` and so on of `y`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn store_rows(y: &mut [f32], first: usize, apart: usize, v: __m256) {
    let y = &mut y[first..];
    if apart == 1 {
        // SAFETY: the mask has no more lanes than `y` has values.
        return unsafe { _mm256_maskstore_ps(y.as_mut_ptr(), mask(y.len()), v) };
    }
    let mut lanes = [0.0; ROWS];
    // SAFETY: 32 bytes.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), v) };
    for (lane, y) in lanes.iter().zip(y.iter_mut().step_by(apart)) {
        *y = *lane;
    }
}

/// The lanes below `n`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn mask(n: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n.min(ROWS) as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}
