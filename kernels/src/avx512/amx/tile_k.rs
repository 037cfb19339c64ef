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

use super::tiles::{Shapes, TILE_ROWS, Tiles};
use super::tokens::{PASS_TOKENS, Tokens};
use crate::activation_tile::{TILE_CHUNK, carve, pairs_of_sums};
use crate::activations::QuantizedRows;
use crate::avx512::dot_k::{Heads, KQuant, dot_mins, pairs_of_mins};
use crate::avx512::rows::*;
use crate::matmul::TILE_STRIP_ROWS;
use crate::{OutStrip, QuantMatrix, StripScratch};

static SHAPES: Shapes = Shapes::WHOLE;

/// Groups of sixteen rows that are multiplied together.
const GROUPS: usize = 2;

/// Where the registers of an unpacked block are: 64 of low bytes and 64 of high ones, one of d, and where there are mins one of dmin and
/// those of their pairs.
struct Lines<F>(F);

impl<F: KQuant> Lines<F> {
    const HIGH: usize = 64;
    const D: usize = 128;
    const DMIN: usize = Self::D + 1;
    const MINS: usize = Self::DMIN + 1;
    const N_MINS: usize = if F::HAS_MINS { 128 / F::SUB_LEN } else { 0 };
    const BLOCK: usize = if F::HAS_MINS { Self::MINS + Self::N_MINS } else { Self::DMIN };
}

/// Bytes of scratch for a strip of rows of `k` weights.
pub(super) const fn scratch_bytes(k: usize) -> usize {
    let n_blocks = if k < TILE_CHUNK { k.div_ceil(256) } else { TILE_CHUNK / 256 };
    let most_lines = 130 + 8;
    let strip = 64 * most_lines * n_blocks * TILE_STRIP_ROWS / ROWS;
    let pass = PASS_TOKENS * (GROUPS * 64 + n_blocks * (4 + 32));
    strip + pass + Tokens::room_bytes(256 * n_blocks) + 4 * 64
}

/// The product for a strip of K-quants.
///
/// # Safety
/// The system lets this process use AMX.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
pub(super) unsafe fn tile_k<F: KQuant>(
    w: QuantMatrix<'_>,
    x: QuantizedRows<'_>,
    mut y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    const CHUNK: usize = TILE_CHUNK / 256;
    // SAFETY: promised by the caller.
    let tiles = unsafe { Tiles::new(&SHAPES) };
    let n_blocks = x.k / 256;
    let n_groups = w.n_rows().div_ceil(ROWS).next_multiple_of(GROUPS);
    for first in (0..n_blocks).step_by(CHUNK) {
        let n = CHUNK.min(n_blocks - first);
        let group_lines = n * Lines::<F>::BLOCK;
        let mut room = scratch.bytes();
        let strip = carve::<__m512i>(&mut room, n_groups * group_lines);
        for (g, lines) in strip.chunks_exact_mut(group_lines).enumerate() {
            let mut rows = Rows::new(&w, (g * ROWS).min(w.n_rows() - 1));
            rows.skip(first * F::FORMAT.block_bytes());
            for lines in lines.chunks_exact_mut(Lines::<F>::BLOCK) {
                // SAFETY: this function has the features, and the rows have that block.
                unsafe { unpack::<F>(&rows, lines) };
                rows.skip(F::FORMAT.block_bytes());
            }
        }
        for t in (0..x.m).step_by(PASS_TOKENS) {
            let x = x.rows(t, PASS_TOKENS.min(x.m - t));
            let mut pass = Pass::pack::<F>(room, &x, first, n);
            for (i, lines) in strip.chunks_exact(GROUPS * group_lines).enumerate() {
                let groups = i * GROUPS..((i + 1) * GROUPS).min(w.n_rows().div_ceil(ROWS));
                for (j, g) in groups.clone().enumerate() {
                    for (i, acc) in pass.acc.iter_mut().enumerate() {
                        acc[j] = if first > 0 { load_rows(&y.row(t + i)[g * ROWS..]) } else { _mm512_setzero_ps() };
                    }
                }
                multiply::<F>(&tiles, lines, &mut pass);
                for (j, g) in groups.enumerate() {
                    for (i, acc) in pass.acc.iter().enumerate() {
                        store_rows(&mut y.row(t + i)[g * ROWS..], acc[j]);
                    }
                }
            }
        }
    }
}

/// Unpacks a block of each of sixteen rows.
///
/// # Safety
/// As [`KQuant::heads`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
unsafe fn unpack<F: KQuant>(rows: &Rows, lines: &mut [__m512i]) {
    // SAFETY: promised by the caller.
    let Heads { d, dmin, scales, mins } = unsafe { F::heads(rows) };
    let mut quants = [[_mm512_setzero_si512(); ROWS]; 4];
    for i in 0..ROWS {
        // SAFETY: promised by the caller.
        let q = unsafe { F::quants(rows.ptr(i)) };
        for v in 0..4 {
            quants[v][i] = q[v];
        }
    }
    let (low, high) = lines.split_at_mut(Lines::<F>::HIGH);
    for v in 0..4 {
        let dwords = transpose16(&quants[v]);
        for l in 0..4 {
            let sixteen = F::ORDER[4 * v + l];
            let sub = sixteen * 16 / F::SUB_LEN;
            let scale = words_of_byte(scales[sub / 4], sub % 4);
            for i in 0..4 {
                [low[4 * sixteen + i], high[4 * sixteen + i]] = planes::<F>(dwords[4 * l + i], scale);
            }
        }
    }
    lines[Lines::<F>::D] = _mm512_castps_si512(d);
    if F::HAS_MINS {
        lines[Lines::<F>::DMIN] = _mm512_castps_si512(dmin);
        let n = Lines::<F>::N_MINS;
        lines[Lines::<F>::MINS..][..n].copy_from_slice(&pairs_of_mins(mins)[..n]);
    }
}

/// Byte `j` of each dword, a signed number, in both of its words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn words_of_byte(v: __m512i, j: usize) -> __m512i {
    // To the top of each word; the rest is zeros.
    let first = _mm512_set4_epi32(0x0c80_0c80, 0x0880_0880, 0x0480_0480, 0x0080_0080);
    let index = _mm512_add_epi8(first, _mm512_set1_epi16((j as i16) << 8));
    _mm512_srai_epi16::<8>(_mm512_shuffle_epi8(v, index))
}

/// The low and the high bytes of `scale · value`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn planes<F: KQuant>(q: __m512i, scale: __m512i) -> [__m512i; 2] {
    const ODD: __mmask64 = 0xaaaa_aaaa_aaaa_aaaa;
    let mut even = _mm512_and_si512(q, _mm512_set1_epi16(0xff));
    let mut odd = _mm512_srli_epi16::<8>(q);
    if F::OFFSET != 0 {
        let offset = _mm512_set1_epi16(F::OFFSET as i16);
        (even, odd) = (_mm512_sub_epi16(even, offset), _mm512_sub_epi16(odd, offset));
    }
    (even, odd) = (_mm512_mullo_epi16(even, scale), _mm512_mullo_epi16(odd, scale));
    [
        _mm512_mask_blend_epi8(ODD, even, _mm512_slli_epi16::<8>(odd)),
        _mm512_mask_blend_epi8(ODD, _mm512_srli_epi16::<8>(even), odd),
    ]
}

/// Some tokens over a chunk of blocks, and room for their products with [`GROUPS`] groups of rows.
struct Pass<'a> {
    tokens: Tokens<'a>,
    n_blocks: usize,
    /// `[block][token]`
    scales: &'a [f32],
    /// `[block][token]`: see [`pairs_of_sums`]; empty where the format has no mins.
    pairs: &'a [[i32; 8]],
    /// `[token][group]`
    acc: &'a mut [[__m512; GROUPS]],
}

impl<'a> Pass<'a> {
    /// The rows of `x` in blocks `first..first + n_blocks`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
    fn pack<F: KQuant>(
        mut room: &'a mut [u8],
        x: &QuantizedRows<'a>,
        first: usize,
        n_blocks: usize,
    ) -> Pass<'a> {
        let n = x.m;
        let acc = carve::<__m512>(&mut room, GROUPS * n).as_chunks_mut().0;
        let scales = carve::<f32>(&mut room, n_blocks * n);
        let pairs = carve::<[i32; 8]>(&mut room, if F::HAS_MINS { n_blocks * n } else { 0 });
        for t in 0..n {
            for b in 0..n_blocks {
                let at = t * (x.k / 256) + first + b;
                scales[b * n + t] = x.scales[at];
                if F::HAS_MINS {
                    pairs[b * n + t] = pairs_of_sums(&x.sums.as_chunks::<16>().0[at], F::SUB_LEN);
                }
            }
        }
        let tokens = Tokens::new(&mut room, x, 256 * first, 256 * n_blocks);
        Pass { tokens, n_blocks, scales, pairs, acc }
    }
}

/// Sums of a tile of tokens with two groups of rows: high and low ones of each.
#[repr(C, align(64))]
struct Sums([[[i32; ROWS]; TILE_ROWS]; 2 * GROUPS]);

/// Adds the products of `GROUPS` groups of rows, `[group][block]`, with all tokens to `pass.acc`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn multiply<F: KQuant>(tiles: &Tiles, lines: &[__m512i], pass: &mut Pass<'_>) {
    let (block, other) = (Lines::<F>::BLOCK, lines.len() / GROUPS);
    let n_tiles = pass.tokens.n_tiles();
    let mut sums = const { [const { Sums([[[0; ROWS]; TILE_ROWS]; 2 * GROUPS]) }; 2] };
    let n_units = pass.n_blocks * n_tiles;
    for unit in 0..=n_units {
        let (b, i) = (unit / n_tiles, unit % n_tiles);
        let before = unit.checked_sub(1).map(|unit| (unit / n_tiles, unit % n_tiles));
        if unit < n_units {
            (tiles.zero::<0>(), tiles.zero::<1>(), tiles.zero::<2>(), tiles.zero::<3>());
        }
        for step in 0..4 {
            if unit < n_units {
                let (x, stride) = pass.tokens.at(i, 256 * b + 64 * step);
                let plane = |g: usize, at: usize| lines[g * other + b * block + at + 16 * step..][..16].as_ptr().cast();
                // SAFETY: a tile has sixteen tokens of 64 values from there, and each plane sixteen lines.
                unsafe {
                    tiles.load::<7>(x, stride);
                    tiles.load::<4>(plane(0, Lines::<F>::HIGH), 64);
                    tiles.dot_signed::<0, 7, 4>();
                    tiles.load::<5>(plane(0, 0), 64);
                    tiles.dot_unsigned::<1, 7, 5>();
                    tiles.load::<6>(plane(1, Lines::<F>::HIGH), 64);
                    tiles.dot_signed::<2, 7, 6>();
                    tiles.load::<4>(plane(1, 0), 64);
                    tiles.dot_unsigned::<3, 7, 4>();
                }
            }
            if let Some((b, i)) = before {
                let sums = &sums[(unit - 1) % 2];
                let tokens = 4 * step..pass.tokens.len(i).min(4 * step + 4);
                for g in 0..GROUPS {
                    let heads = &lines[g * other + b * block..][..block];
                    scale_and_add::<F>(heads, sums, g, b, i * TILE_ROWS, tokens.clone(), pass);
                }
            }
        }
        if unit < n_units {
            let [a, b, c, d] = &mut sums[unit % 2].0;
            (tiles.store::<0>(a), tiles.store::<1>(b), tiles.store::<2>(c), tiles.store::<3>(d));
        }
    }
}

/// Adds a block's sums with group `g` to what the tokens `first + tokens` have.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn scale_and_add<F: KQuant>(
    heads: &[__m512i],
    sums: &Sums,
    g: usize,
    b: usize,
    first: usize,
    tokens: std::ops::Range<usize>,
    pass: &mut Pass<'_>,
) {
    let n = pass.tokens.n;
    let d = _mm512_castsi512_ps(heads[Lines::<F>::D]);
    for t in tokens {
        let row = |i: usize| bytemuck::cast::<[i32; ROWS], __m512i>(sums.0[2 * g + i][t]);
        let s = _mm512_add_epi32(_mm512_slli_epi32::<8>(row(0)), row(1));
        let dx = _mm512_set1_ps(pass.scales[b * n + first + t]);
        let acc = &mut pass.acc[first + t][g];
        *acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s), _mm512_mul_ps(d, dx), *acc);
        if F::HAS_MINS {
            let dmin = _mm512_castsi512_ps(heads[Lines::<F>::DMIN]);
            let mins = &heads[Lines::<F>::MINS..][..Lines::<F>::N_MINS];
            let m = _mm512_cvtepi32_ps(dot_mins(mins, &pass.pairs[b * n + first + t]));
            *acc = _mm512_fnmadd_ps(m, _mm512_mul_ps(dmin, dx), *acc);
        }
    }
}
