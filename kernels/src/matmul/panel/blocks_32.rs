//! Panel products of formats in blocks of 32 weights.

use std::marker::PhantomData;

use super::{Sums, load_sums, of_tokens, store_sums, store_sums_apart};
use crate::activation::packed::{PACK_TOKENS, PANEL_CHUNK, Packed32, carve};
use crate::activation::rows::{Activations, QuantizedRows};
use crate::matmul::formats::{Format32, offset_32};
use crate::matmul::plan::{FEW_ROWS, interleave};
use crate::matmul::rows::{PREFETCH_BYTES, Rows, transpose};
use crate::matmul::scales_32::Scales32;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::simd::row_lanes::{DotI8, Kernel, MAX_ROWS};
use crate::weights::matrix::QuantMatrix;

/// Registers of an unpacked block: values, d, m.
pub(crate) const N_32: usize = 10;

/// The product for a strip: a [`StripFn`](crate::matmul::strip::StripFn).
///
/// # Safety
/// The CPU has the features that `S` proves.
pub(crate) unsafe fn panel_32<S: DotI8, F: Format32>(
    w: QuantMatrix<'_>,
    x: Activations<'_>,
    y: OutStrip<'_>,
    scratch: &mut StripScratch,
) {
    // SAFETY: the caller vouches for the features.
    let s = unsafe { S::new() };
    let (x, format) = (x.quantized(), PhantomData::<F>);
    if x.m <= FEW_ROWS {
        s.call(Few { w, x, y, scratch, format });
    } else {
        s.call(Many { w, x, y, scratch, format });
    }
}

/// The product with more than [`FEW_ROWS`] tokens.
struct Many<'t, F> {
    w: QuantMatrix<'t>,
    x: QuantizedRows<'t>,
    y: OutStrip<'t>,
    scratch: &'t mut StripScratch,
    format: PhantomData<F>,
}

impl<S: DotI8, F: Format32> Kernel<S> for Many<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run(self, s: S) {
        const CHUNK: usize = PANEL_CHUNK / 32;
        let Many { w, x, mut y, scratch, .. } = self;
        let (n_blocks, n_pairs) = (x.k / 32, x.k.div_ceil(64));
        let groups = x.packed_32();
        for first in (0..n_blocks).step_by(CHUNK) {
            let n = CHUNK.min(n_blocks - first);
            let group_len = n * N_32;
            let mut room = scratch.bytes();
            let strip = carve::<S::I>(&mut room, w.n_rows().div_ceil(S::ROWS) * group_len);
            for (g, panel) in strip.chunks_exact_mut(group_len).enumerate() {
                let mut rows = Rows::neighbours(s, &w, g * S::ROWS);
                rows.skip(first * F::FORMAT.block_bytes());
                // SAFETY: the rows have `n` blocks from there.
                unsafe { unpack_32::<S, F>(s, &mut rows, n, panel) };
            }
            for (i, packed) in groups.chunks_exact(n_pairs).enumerate() {
                let t = i * PACK_TOKENS;
                let n_tokens = PACK_TOKENS.min(x.m - t);
                for (g, panel) in strip.chunks_exact(group_len).enumerate() {
                    let known = if first > 0 { n_tokens } else { 0 };
                    let mut acc = load_sums(s, &mut y, t, known, g * S::ROWS);
                    multiply_32::<S, F>(s, panel, &packed[first / 2..], n_tokens, &mut acc);
                    store_sums(s, &mut y, t, n_tokens, g * S::ROWS, &acc);
                }
            }
        }
    }
}

/// The product with up to [`FEW_ROWS`] tokens: a few blocks are multiplied as soon as they are unpacked.
struct Few<'t, F> {
    w: QuantMatrix<'t>,
    x: QuantizedRows<'t>,
    y: OutStrip<'t>,
    scratch: &'t mut StripScratch,
    format: PhantomData<F>,
}

impl<S: DotI8, F: Format32> Kernel<S> for Few<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run(self, s: S) {
        const CHUNK: usize = 16;
        let Few { w, x, mut y, scratch, .. } = self;
        let n_blocks = x.k / 32;
        let mut room = scratch.bytes();
        let panel = carve::<S::I>(&mut room, CHUNK.min(n_blocks) * N_32);
        for (row, apart) in interleave(w.n_rows(), S::ROWS) {
            let mut rows = Rows::new(s, &w, (row, apart), S::ROWS, 0, PREFETCH_BYTES);
            let mut acc = [s.splat_f32(0.0); PACK_TOKENS];
            for first in (0..n_blocks).step_by(CHUNK) {
                let n = CHUNK.min(n_blocks - first);
                let panel = &mut panel[..n * N_32];
                // SAFETY: the rows have `n` blocks from there.
                unsafe { unpack_32::<S, F>(s, &mut rows, n, panel) };
                multiply_32::<S, F>(s, panel, &x.packed_32()[first / 2..], x.m, &mut acc);
            }
            store_sums_apart(s, &mut y, x.m, (row, apart), &acc);
        }
    }
}

/// Unpacks `n` blocks of each lane's row.
///
/// # Safety
/// The rows have that many blocks left.
#[inline(always)]
pub(crate) unsafe fn unpack_32<S: DotI8, F: Format32>(s: S, rows: &mut Rows, n: usize, panel: &mut [S::I]) {
    let mut scales = Scales32::ZERO;
    for panel in panel[..n * N_32].chunks_mut(S::QUARTERS * N_32) {
        let n = panel.len() / N_32;
        // SAFETY: as many are left.
        unsafe {
            if n == S::QUARTERS {
                unpack_group::<S, F>(s, rows, S::QUARTERS, &mut scales, panel);
            } else {
                unpack_group::<S, F>(s, rows, n, &mut scales, panel);
            }
        }
        rows.skip(n * F::FORMAT.block_bytes());
    }
}

/// Unpacks the first `n` blocks of a group: a block for each quarter.
///
/// # Safety
/// The rows have that many blocks left.
#[inline(always)]
unsafe fn unpack_group<S: DotI8, F: Format32>(
    s: S,
    rows: &Rows,
    n: usize,
    scales: &mut Scales32,
    panel: &mut [S::I],
) {
    let block_bytes = F::FORMAT.block_bytes();
    let mut values = [[s.zero(); MAX_ROWS]; 2];
    for p in 0..S::ROWS {
        rows.prefetch(s, p, S::ROWS, S::QUARTERS * block_bytes);
        let row = rows.group(p, S::ROWS);
        let mut blocks = [row; 4];
        for j in 0..S::QUARTERS {
            blocks[j] = row.wrapping_add(j.min(n - 1) * block_bytes);
        }
        // SAFETY: blocks that are left.
        [values[0][p], values[1][p]] = unsafe {
            scales.take::<S, F>(p, blocks);
            F::values(s, blocks)
        };
    }
    let [low, high] = [transpose(s, &values[0]), transpose(s, &values[1])];
    for (j, panel) in panel.as_chunks_mut::<N_32>().0.iter_mut().enumerate() {
        panel[..4].copy_from_slice(&low[4 * j..][..4]);
        panel[4..8].copy_from_slice(&high[4 * j..][..4]);
        let [d, m] = scales.block::<S, F>(s, j);
        (panel[8], panel[9]) = (s.bits(d), s.bits(m));
    }
}

/// Multiplies unpacked blocks with those of the first `n_tokens` tokens, which are packed in pairs, and adds the products to their sums.
#[inline(always)]
fn multiply_32<S: DotI8, F: Format32>(
    s: S,
    panel: &[S::I],
    packed: &[Packed32],
    n_tokens: usize,
    acc: &mut Sums<S>,
) {
    for (panel, packed) in panel.as_chunks::<N_32>().0.chunks(2).zip(packed) {
        for first in (0..n_tokens).step_by(S::ACCUMULATORS) {
            match (panel, n_tokens - first) {
                // The sums of a few tokens are too few to hide the latency of a product: two blocks at a time double them.
                ([a, b], ..=6) if S::ACCUMULATORS == 16 => {
                    multiply::<S, F, 6, 2>(s, [a, b], packed, 0, first, acc);
                }
                ([a, b], 7..=8) if S::ACCUMULATORS == 16 => {
                    multiply::<S, F, 8, 2>(s, [a, b], packed, 0, first, acc);
                }
                _ => {
                    for (half, panel) in panel.iter().enumerate() {
                        if S::ACCUMULATORS == 16 {
                            multiply::<S, F, 16, 1>(s, [panel], packed, half, first, acc);
                        } else {
                            multiply::<S, F, 8, 1>(s, [panel], packed, half, first, acc);
                        }
                    }
                }
            }
        }
    }
}

/// [`multiply_32`] for `T` tokens from `first` on and `P` blocks, the first of them number `half` of the packed pair.
#[inline(always)]
fn multiply<S: DotI8, F: Format32, const T: usize, const P: usize>(
    s: S,
    panel: [&[S::I; N_32]; P],
    packed: &Packed32,
    half: usize,
    first: usize,
    acc: &mut Sums<S>,
) {
    let offset = const { offset_32::<S, F>() };
    let acc: &mut [S::F; T] = acc[first..].first_chunk_mut().expect("tokens of the group");
    let mut sums = [[s.zero(); T]; P];
    for p in 0..P {
        let starts = of_tokens::<_, T>(&packed.blocks[half + p].starts, first);
        for t in 0..T {
            sums[p][t] = s.splat_i32(start(offset, starts[t]));
        }
    }
    let values = std::array::from_fn(|p| panel[p].first_chunk::<8>().expect("eight registers of values"));
    let at = std::array::from_fn(|p| half + p);
    let sums = s.dot(F::BITS, values, of_tokens::<_, T>(&packed.qs, first), at, sums);
    for p in 0..P {
        let (d, m) = (s.of_bits(panel[p][8]), s.of_bits(panel[p][9]));
        let of_x = &packed.blocks[half + p];
        let (scales, x_sums) = (of_tokens::<_, T>(&of_x.scales, first), of_tokens::<_, T>(&of_x.sums, first));
        for t in 0..T {
            let dx = s.splat_f32(scales[t]);
            acc[t] = s.fma(s.to_f32(sums[p][t]), s.mul(d, dx), acc[t]);
            if F::HAS_MIN {
                acc[t] = s.fma(s.splat_f32(x_sums[t]), s.mul(m, dx), acc[t]);
            }
        }
    }
}

/// Where sums start for weights that are stored with `offset` added; `start` is that of an offset of 128.
#[inline(always)]
fn start(offset: u8, start: i32) -> i32 {
    if offset == 0 { 0 } else { start >> (7 - offset.trailing_zeros()) }
}
