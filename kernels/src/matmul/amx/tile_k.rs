//! Many activation rows against K-quants.
//!
//! A tile register multiplies 16 tokens with 16 weight rows over 64 values in 16 cycles, into sums that cannot be scaled on the way. So
//! the scales go into the weights: `scale · q` is an integer of at most 14 bits, unpacked to two planes of bytes, `256·high + low`, and
//! one sum over the whole block of 256 is all that a plane needs:
//!
//! ```text
//! S   = 256 · Σ high·x + Σ low·x                              = Σ_sub scale · Σ q·x, exact
//! acc = fma( f32(S),               d · dx,    acc)
//! acc = fma(-f32(Σ_sub min · Σ x), dmin · dx, acc)            where the format has mins
//! ```
//!
//! Registers 0 to 3 are the sums of 16 tokens with 32 rows (high and low ones of 16 rows, then of 16 more), 4 to 6 are weights, 7 is
//! activations. While they multiply a block, the vector units scale and add the sums of the one before.

use std::arch::x86_64::*;

use super::registers::{Shapes, TILE_ROWS, TileRegisters};
use crate::activation::packed::{PACK_TOKENS, PANEL_CHUNK, PackedK, carve, sums_of_subs};
use crate::activation::rows::QuantizedRows;
use crate::matmul::formats::{FormatK, offset_k};
use crate::matmul::panel::dot_pairs;
use crate::matmul::plan::STRIP_ROWS;
use crate::matmul::rows::Rows;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::simd::avx512::rows::Avx512Rows;
use crate::simd::row_lanes::RowLanes;
use crate::weights::matrix::QuantMatrix;

/// Weight rows of a register.
const ROWS: usize = Avx512Rows::ROWS;

pub(super) static SHAPES: Shapes = Shapes::WHOLE;

/// Groups of tokens that 32 rows are multiplied with before the next 32: a block of those rows stays in L1.
const PASS: usize = 2;

/// Groups of sixteen rows that are multiplied together.
const GROUPS: usize = 2;

/// Where the registers of an unpacked block are: 64 of low bytes and 64 of high ones, one of d, and where there are mins one of dmin and
/// those of their pairs.
struct Panel<F>(F);

impl<F: FormatK> Panel<F> {
    const HIGH: usize = 64;
    const D: usize = 128;
    const DMIN: usize = Self::D + 1;
    const MINS: usize = Self::DMIN + 1;
    const N_MINS: usize = if F::HAS_MINS { 128 / F::SUB_LEN } else { 0 };
    const BLOCK: usize = if F::HAS_MINS { Self::MINS + Self::N_MINS } else { Self::DMIN };
}

/// Bytes of scratch for a strip of rows of `k` weights.
pub(super) const fn scratch_bytes(k: usize) -> usize {
    let n_blocks = if k < PANEL_CHUNK { k.div_ceil(256) } else { PANEL_CHUNK / 256 };
    let most_registers = 130 + 8;
    let strip = 64 * most_registers * n_blocks * STRIP_ROWS / ROWS;
    strip + PASS * PACK_TOKENS * GROUPS * 64 + 2 * 64
}

/// The product for a strip of K-quants on registers of [`SHAPES`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn tile_k<R: TileRegisters, F: FormatK>(
    registers: &R,
    w: QuantMatrix<'_>,
    x: QuantizedRows<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    const CHUNK: usize = PANEL_CHUNK / 256;
    // SAFETY: this function has the features.
    let s = unsafe { Avx512Rows::new() };
    let n_blocks = x.k / 256;
    let groups = x.packed_k();
    let n_groups = w.n_rows().div_ceil(ROWS);
    for first in (0..n_blocks).step_by(CHUNK) {
        let n = CHUNK.min(n_blocks - first);
        let group_len = n * Panel::<F>::BLOCK;
        let mut room = scratch.bytes();
        let strip = carve::<__m512i>(&mut room, n_groups.next_multiple_of(GROUPS) * group_len);
        for (g, panel) in strip.chunks_exact_mut(group_len).enumerate() {
            let mut rows = Rows::neighbours(s, &w, (g * ROWS).min(w.n_rows() - 1));
            rows.skip(first * F::FORMAT.block_bytes());
            for panel in panel.chunks_exact_mut(Panel::<F>::BLOCK) {
                // SAFETY: this function has the features, and the rows have that block.
                unsafe { unpack::<F>(s, &rows, panel) };
                rows.skip(F::FORMAT.block_bytes());
            }
        }
        let acc: &mut [[__m512; GROUPS]] =
            carve::<__m512>(&mut room, PASS * PACK_TOKENS * GROUPS).as_chunks_mut().0;
        for (i, packed) in groups.chunks(PASS * n_blocks).enumerate() {
            let t = i * PASS * PACK_TOKENS;
            let acc = &mut acc[..(PASS * PACK_TOKENS).min(x.m - t)];
            for (i, panel) in strip.chunks_exact(GROUPS * group_len).enumerate() {
                let rows = i * GROUPS..((i + 1) * GROUPS).min(n_groups);
                for (i, acc) in acc.iter_mut().enumerate() {
                    *acc = [_mm512_setzero_ps(); GROUPS];
                    if first > 0 {
                        for (g, acc) in rows.clone().zip(acc) {
                            *acc = s.load_rows(&y.row(t + i)[g * ROWS..]);
                        }
                    }
                }
                let packed = |i: usize, b: usize| &packed[i * n_blocks + first + b];
                multiply::<R, F>(s, registers, panel, n, packed, acc);
                for (i, acc) in acc.iter().enumerate() {
                    for (g, acc) in rows.clone().zip(acc) {
                        s.store_rows(*acc, &mut y.row(t + i)[g * ROWS..]);
                    }
                }
            }
        }
    }
}

/// Unpacks a block of each of sixteen rows.
///
/// # Safety
/// As [`FormatK::block_scales`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn unpack<F: FormatK>(s: Avx512Rows, rows: &Rows, panel: &mut [__m512i]) {
    // SAFETY: `tile_k` unpacks no more blocks than a row has, and lanes past the last row read the last one.
    let block = unsafe { F::block_scales(s, rows) };
    for i in 0..ROWS {
        rows.prefetch(s, i, ROWS, F::FORMAT.block_bytes());
    }
    let (low, high) = panel.split_at_mut(Panel::<F>::HIGH);
    // SAFETY: `tile_k` unpacks no more blocks than a row has, and lanes past the last row read the last one.
    unsafe { F::columns(s, rows, low.first_chunk_mut().expect("64 registers of values")) };
    let n = F::SUB_LEN / 4;
    for (sub, (low, high)) in low.chunks_exact_mut(n).zip(high.chunks_exact_mut(n)).enumerate() {
        let scale = s.signed_byte_in_words(block.scales[sub / 4], sub % 4);
        for i in 0..n {
            [low[i], high[i]] = planes::<F>(low[i], scale);
        }
    }
    panel[Panel::<F>::D] = _mm512_castps_si512(block.d);
    if F::HAS_MINS {
        panel[Panel::<F>::DMIN] = _mm512_castps_si512(block.dmin);
        let pairs = &mut panel[Panel::<F>::MINS..][..Panel::<F>::N_MINS];
        for (pairs, mins) in pairs.as_chunks_mut().0.iter_mut().zip(block.mins) {
            *pairs = s.words_of_u8(mins);
        }
    }
}

/// The low and the high bytes of `scale · value`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn planes<F: FormatK>(q: __m512i, scale: __m512i) -> [__m512i; 2] {
    const ODD: __mmask64 = 0xaaaa_aaaa_aaaa_aaaa;
    let mut even = _mm512_and_si512(q, _mm512_set1_epi16(0xff));
    let mut odd = _mm512_srli_epi16::<8>(q);
    let offset = const { offset_k::<Avx512Rows, F>() };
    if offset != 0 {
        let offset = _mm512_set1_epi16(offset as i16);
        (even, odd) = (_mm512_sub_epi16(even, offset), _mm512_sub_epi16(odd, offset));
    }
    (even, odd) = (_mm512_mullo_epi16(even, scale), _mm512_mullo_epi16(odd, scale));
    [
        _mm512_mask_blend_epi8(ODD, even, _mm512_slli_epi16::<8>(odd)),
        _mm512_mask_blend_epi8(ODD, _mm512_srli_epi16::<8>(even), odd),
    ]
}

/// Sums of sixteen tokens with two groups of rows: high and low ones of each.
#[repr(C, align(64))]
struct Sums([[[i32; ROWS]; TILE_ROWS]; 2 * GROUPS]);

/// Adds the products of `GROUPS` groups of rows over `n_blocks` blocks, `panel [group][block]`, with a few groups of tokens to
/// their `acc`; `packed(i, b)` is block `b` of group `i`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn multiply<'t, R: TileRegisters, F: FormatK>(
    s: Avx512Rows,
    registers: &R,
    panel: &[__m512i],
    n_blocks: usize,
    packed: impl Fn(usize, usize) -> &'t PackedK,
    acc: &mut [[__m512; GROUPS]],
) {
    let group_len = panel.len() / GROUPS;
    let block = |g: usize, b: usize| &panel[g * group_len + b * Panel::<F>::BLOCK..][..Panel::<F>::BLOCK];
    let n_sixteens = acc.len().div_ceil(TILE_ROWS);
    let n_units = n_blocks * n_sixteens;
    // A unit is sixteen tokens and a block.
    let part = |unit: usize| {
        let (b, t) = (unit / n_sixteens, unit % n_sixteens * TILE_ROWS);
        (b, t, packed(t / PACK_TOKENS, b))
    };
    let mut sums = [const { Sums([[[0; ROWS]; TILE_ROWS]; 2 * GROUPS]) }; 2];
    for unit in 0..=n_units {
        let now = (unit < n_units).then(|| part(unit));
        let before = unit.checked_sub(1).map(part);
        if now.is_some() {
            registers.zero::<0>();
            registers.zero::<1>();
            registers.zero::<2>();
            registers.zero::<3>();
        }
        for step in 0..4 {
            if let Some((b, t, x)) = now {
                let x = &x.qs[step][t % PACK_TOKENS..][..TILE_ROWS];
                let plane = |g: usize, at: usize| &block(g, b)[at + 16 * step..][..16];
                registers.load::<7>(bytemuck::cast_slice(x));
                registers.load::<4>(bytemuck::cast_slice(plane(0, Panel::<F>::HIGH)));
                registers.dot_signed::<0, 7, 4>();
                registers.load::<5>(bytemuck::cast_slice(plane(0, 0)));
                registers.dot_unsigned::<1, 7, 5>();
                registers.load::<6>(bytemuck::cast_slice(plane(1, Panel::<F>::HIGH)));
                registers.dot_signed::<2, 7, 6>();
                registers.load::<4>(bytemuck::cast_slice(plane(1, 0)));
                registers.dot_unsigned::<3, 7, 4>();
            }
            if let Some((b, first, x)) = before {
                let sums = &sums[(unit - 1) % 2].0;
                let end = acc.len().min(first + 4 * step + 4);
                for t in first + 4 * step..end {
                    for g in 0..GROUPS {
                        let [high, low] =
                            [&sums[2 * g], &sums[2 * g + 1]].map(|sums| bytemuck::cast(sums[t - first]));
                        scale_and_add::<F>(s, block(g, b), high, low, x, t % PACK_TOKENS, &mut acc[t][g]);
                    }
                }
            }
        }
        if now.is_some() {
            let [a, b, c, d] = &mut sums[unit % 2].0;
            registers.store::<0>(a);
            registers.store::<1>(b);
            registers.store::<2>(c);
            registers.store::<3>(d);
        }
    }
}

/// Adds a block's sums of token `t` of a tile with sixteen rows, scaled.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn scale_and_add<F: FormatK>(
    isa: Avx512Rows,
    panel: &[__m512i],
    high: __m512i,
    low: __m512i,
    x: &PackedK,
    t: usize,
    acc: &mut __m512,
) {
    let (d, dx) = (_mm512_castsi512_ps(panel[Panel::<F>::D]), _mm512_set1_ps(x.scales[t]));
    let s = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32::<8>(high), low));
    *acc = _mm512_fmadd_ps(s, _mm512_mul_ps(d, dx), *acc);
    if F::HAS_MINS {
        let dmin = _mm512_castsi512_ps(panel[Panel::<F>::DMIN]);
        let mins = &panel[Panel::<F>::MINS..][..Panel::<F>::N_MINS];
        let m = _mm512_cvtepi32_ps(dot_pairs(isa, mins, sums_of_subs(&x.sums[t], F::SUB_LEN)));
        *acc = _mm512_fnmadd_ps(m, _mm512_mul_ps(dmin, dx), *acc);
    }
}
