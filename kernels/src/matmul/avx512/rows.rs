//! Moving data between "a register a row" and "a lane a row": sixteen rows of weights are the sixteen lanes of a register.

use std::arch::x86_64::*;

use crate::weights::matrix::QuantMatrix;

/// Rows of weights that the kernels take at a time: the 32-bit lanes of a register.
pub(crate) const ROWS: usize = 16;

/// How far ahead of its use a row is asked for.
const PREFETCH_BYTES: usize = 512;

/// Sixteen rows of a matrix, from some block on, as [`deal`](crate::matmul::deal) says.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
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
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    pub(crate) fn new(w: &QuantMatrix<'_>, first: usize, apart: usize) -> Rows {
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
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
        self.ahead = self.at + PREFETCH_BYTES;
        if self.ahead >= self.row_bytes {
            self.ahead += self.gap;
        }
    }

    /// The address of row `i`'s next block.
    #[inline(always)]
    pub(crate) fn ptr(&self, i: usize) -> *const u8 {
        self.row[i].wrapping_add(self.at)
    }

    /// Asks for the cache lines that come a while after row `i`'s next `bytes`, be it in the row that its lane reads next.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    pub(crate) fn prefetch(&self, i: usize, bytes: usize) {
        for line in (0..bytes).step_by(64) {
            _mm_prefetch::<_MM_HINT_T0>(self.row[i].wrapping_add(self.ahead + line).cast());
        }
    }

    /// Four consecutive dwords of each row: dword `j` of row `i` is lane `i` of register `j`.
    ///
    /// # Safety
    /// Bytes `at..at + 16` from each row's pointer are readable.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    pub(crate) unsafe fn dwords(&self, at: usize) -> [__m512i; 4] {
        let mut v = [_mm512_setzero_si512(); 4];
        for i in 0..4 {
            let rows = [self.ptr(i), self.ptr(i + 4), self.ptr(i + 8), self.ptr(i + 12)];
            // SAFETY: promised by the caller.
            v[i] = unsafe { load_lanes(rows, at) };
        }
        transpose4(v)
    }

    /// Sixteen consecutive dwords of each row: dword `j` of row `i` is lane `i` of register `j`.
    ///
    /// # Safety
    /// Bytes `at..at + 64` from each row's pointer are readable.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    pub(crate) unsafe fn columns(&self, at: usize) -> [__m512i; 16] {
        let mut v = [_mm512_setzero_si512(); 16];
        for i in 0..ROWS {
            // SAFETY: promised by the caller.
            v[i] = unsafe { _mm512_loadu_si512(self.ptr(i).add(at).cast()) };
        }
        transpose16(&v)
    }
}

/// `low`, and those bits of `mask` that `high`, rotated left `by` places, has: a shift of each byte, as none that is kept leaves its own.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn join_bits(low: __m512i, high: __m512i, by: i32, mask: __m512i) -> __m512i {
    const OR_AND: i32 = 0xf8;
    let high = _mm512_rolv_epi32(high, _mm512_set1_epi32(by));
    _mm512_ternarylogic_epi32::<OR_AND>(low, high, mask)
}

/// A register of four 16-byte pieces, `at` bytes after four pointers.
///
/// # Safety
/// 16 bytes are readable there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) unsafe fn load_lanes(p: [*const u8; 4], at: usize) -> __m512i {
    // SAFETY: promised by the caller; the loads have no alignment.
    unsafe {
        let v = _mm512_castsi128_si512(_mm_loadu_si128(p[0].add(at).cast()));
        let v = _mm512_inserti32x4::<1>(v, _mm_loadu_si128(p[1].add(at).cast()));
        let v = _mm512_inserti32x4::<2>(v, _mm_loadu_si128(p[2].add(at).cast()));
        _mm512_inserti32x4::<3>(v, _mm_loadu_si128(p[3].add(at).cast()))
    }
}

/// The f16 in the low half of each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn low_f16(v: __m512i) -> __m512 {
    _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v))
}

/// The f16 in the high half of each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn high_f16(v: __m512i) -> __m512 {
    low_f16(_mm512_srli_epi32::<16>(v))
}

/// Transposes the 4 × 4 dwords in each 128-bit lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn transpose4([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab_lo, ab_hi) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd_lo, cd_hi) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab_lo, cd_lo),
        _mm512_unpackhi_epi64(ab_lo, cd_lo),
        _mm512_unpacklo_epi64(ab_hi, cd_hi),
        _mm512_unpackhi_epi64(ab_hi, cd_hi),
    ]
}

/// Transposes the 4 × 4 lanes of 128 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn transpose_lanes([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab_lo, ab_hi) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
    let (cd_lo, cd_hi) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
    [
        _mm512_shuffle_i32x4::<0x88>(ab_lo, cd_lo),
        _mm512_shuffle_i32x4::<0xdd>(ab_lo, cd_lo),
        _mm512_shuffle_i32x4::<0x88>(ab_hi, cd_hi),
        _mm512_shuffle_i32x4::<0xdd>(ab_hi, cd_hi),
    ]
}

/// Transposes 16 × 16 dwords.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn transpose16(v: &[__m512i; 16]) -> [__m512i; 16] {
    let mut t = [[_mm512_setzero_si512(); 4]; 4];
    for g in 0..4 {
        t[g] = transpose4([v[4 * g], v[4 * g + 1], v[4 * g + 2], v[4 * g + 3]]);
    }
    let mut out = [_mm512_setzero_si512(); 16];
    for i in 0..4 {
        let lanes = transpose_lanes([t[0][i], t[1][i], t[2][i], t[3][i]]);
        for j in 0..4 {
            out[4 * j + i] = lanes[j];
        }
    }
    out
}

/// Dword `i` of each 128-bit lane is the sum of the four dwords in that lane of register `i`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn sum_dwords([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}

/// 128-bit lane `i` is the sum of the four lanes of register `i`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn sum_lanes([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let ab = _mm512_add_epi32(_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
    let cd = _mm512_add_epi32(_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
    _mm512_add_epi32(_mm512_shuffle_i32x4::<0x88>(ab, cd), _mm512_shuffle_i32x4::<0xdd>(ab, cd))
}

/// The 128-bit lanes of registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn split_lanes(v: [__m512i; 4]) -> [[__m128i; 4]; 4] {
    // SAFETY: both are 256 bytes, and any bits are valid.
    unsafe { std::mem::transmute(v) }
}

/// Sixteen values of `y` from `first` on; 0 in lanes past the last one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn load_rows(y: &[f32], first: usize) -> __m512 {
    let y = &y[first..];
    // SAFETY: the mask has no more lanes than `y` has values.
    unsafe { _mm512_maskz_loadu_ps(mask(y.len()), y.as_ptr()) }
}

/// Stores the lanes that are rows to values `first`, `first + apart`, `first + 2·apart` and so on of `y`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(crate) fn store_rows(y: &mut [f32], first: usize, apart: usize, v: __m512) {
    let y = &mut y[first..];
    if apart == 1 {
        // SAFETY: the mask has no more lanes than `y` has values.
        return unsafe { _mm512_mask_storeu_ps(y.as_mut_ptr(), mask(y.len()), v) };
    }
    let mut lanes = [0.0; ROWS];
    // SAFETY: 64 bytes.
    unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), v) };
    for (lane, y) in lanes.iter().zip(y.iter_mut().step_by(apart)) {
        *y = *lane;
    }
}

/// The lanes below `n`.
fn mask(n: usize) -> __mmask16 {
    if n >= ROWS { !0 } else { (1 << n) - 1 }
}
