//! Panel products of formats in blocks of 256 weights.

use std::marker::PhantomData;

use super::{Sums, load_sums, of_tokens, store_sums, store_sums_apart};
use crate::activation::packed::{PACK_TOKENS, PANEL_CHUNK, PackedK, carve, sums_of_subs};
use crate::activation::rows::{Activations, QuantizedRows};
use crate::matmul::formats::{FormatK, offset_k};
use crate::matmul::plan::{FEW_ROWS, interleave};
use crate::matmul::rows::{PREFETCH_BYTES, Rows};
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::simd::row_lanes::{DotI8, Kernel};
use crate::weights::matrix::QuantMatrix;

/// The product for a strip: a [`StripFn`](crate::matmul::strip::StripFn).
///
/// # Safety
/// The CPU has the features that `S` proves.
pub(crate) unsafe fn panel_k<S: DotI8, F: FormatK>(
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

/// The registers of an unpacked block: 64 of values, those of scales, one of d, one of dmin, then pairs of mins (or of scales, where values
/// are stored with an offset).
struct Panel<F>(F);

impl<F: FormatK> Panel<F> {
    const SUBS: usize = 256 / F::SUB_LEN;
    const SCALES: usize = 64;
    const D: usize = Self::SCALES + Self::SUBS;
    const DMIN: usize = Self::D + 1;
    const PAIRS: usize = Self::DMIN + 1;
    const BLOCK: usize = Self::PAIRS + Self::SUBS / 2;
}

/// The product with more than [`FEW_ROWS`] tokens.
struct Many<'t, F> {
    w: QuantMatrix<'t>,
    x: QuantizedRows<'t>,
    y: OutStrip<'t>,
    scratch: &'t mut StripScratch,
    format: PhantomData<F>,
}

impl<S: DotI8, F: FormatK> Kernel<S> for Many<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run(self, s: S) {
        const CHUNK: usize = PANEL_CHUNK / 256;
        let Many { w, x, mut y, scratch, .. } = self;
        let n_blocks = x.k / 256;
        let groups = x.packed_k();
        for first in (0..n_blocks).step_by(CHUNK) {
            let n = CHUNK.min(n_blocks - first);
            let group_len = n * Panel::<F>::BLOCK;
            let mut room = scratch.bytes();
            let strip = carve::<S::I>(&mut room, w.n_rows().div_ceil(S::ROWS) * group_len);
            for (g, panel) in strip.chunks_exact_mut(group_len).enumerate() {
                let mut rows = Rows::neighbours(s, &w, g * S::ROWS);
                rows.skip(first * F::FORMAT.block_bytes());
                for panel in panel.chunks_exact_mut(Panel::<F>::BLOCK) {
                    // SAFETY: the rows have `n` blocks from there.
                    unsafe { unpack_k::<S, F>(s, &rows, panel) };
                    rows.skip(F::FORMAT.block_bytes());
                }
            }
            for (i, packed) in groups.chunks_exact(n_blocks).enumerate() {
                let t = i * PACK_TOKENS;
                let packed = &packed[first..][..n];
                let n_tokens = PACK_TOKENS.min(x.m - t);
                for (g, panel) in strip.chunks_exact(group_len).enumerate() {
                    let known = if first > 0 { n_tokens } else { 0 };
                    let mut acc = load_sums(s, &mut y, t, known, g * S::ROWS);
                    for (panel, packed) in panel.chunks_exact(Panel::<F>::BLOCK).zip(packed) {
                        multiply_k::<S, F>(s, panel, packed, n_tokens, &mut acc);
                    }
                    store_sums(s, &mut y, t, n_tokens, g * S::ROWS, &acc);
                }
            }
        }
    }
}

/// The product with up to [`FEW_ROWS`] tokens: a block is multiplied as soon as it is unpacked.
struct Few<'t, F> {
    w: QuantMatrix<'t>,
    x: QuantizedRows<'t>,
    y: OutStrip<'t>,
    scratch: &'t mut StripScratch,
    format: PhantomData<F>,
}

impl<S: DotI8, F: FormatK> Kernel<S> for Few<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run(self, s: S) {
        let Few { w, x, mut y, scratch, .. } = self;
        let mut room = scratch.bytes();
        let panel = carve::<S::I>(&mut room, Panel::<F>::BLOCK);
        for (row, apart) in interleave(w.n_rows(), S::ROWS) {
            let mut rows = Rows::new(s, &w, (row, apart), S::ROWS, 0, PREFETCH_BYTES);
            let mut acc = [s.splat_f32(0.0); PACK_TOKENS];
            for packed in x.packed_k() {
                // SAFETY: rows have as many blocks as the activations.
                unsafe { unpack_k::<S, F>(s, &rows, panel) };
                rows.skip(F::FORMAT.block_bytes());
                multiply_k::<S, F>(s, panel, packed, x.m, &mut acc);
            }
            store_sums_apart(s, &mut y, x.m, (row, apart), &acc);
        }
    }
}

/// Unpacks a block of each lane's row.
///
/// # Safety
/// Each lane has a whole block left.
#[inline(always)]
unsafe fn unpack_k<S: DotI8, F: FormatK>(s: S, rows: &Rows, panel: &mut [S::I]) {
    let offset = const { offset_k::<S, F>() };
    // SAFETY: the caller vouches for the block.
    let block = unsafe { F::block_scales(s, rows) };
    for p in 0..S::ROWS {
        rows.prefetch(s, p, S::ROWS, F::FORMAT.block_bytes());
    }
    // SAFETY: as above.
    unsafe { F::columns(s, rows, panel.first_chunk_mut().expect("64 registers of values")) };
    for j in 0..Panel::<F>::SUBS {
        panel[Panel::<F>::SCALES + j] = s.scale(block.scales[j / 4], j % 4);
    }
    panel[Panel::<F>::D] = s.bits(block.d);
    let n = Panel::<F>::SUBS / 2;
    let pairs = &mut panel[Panel::<F>::DMIN..][..1 + n];
    if F::HAS_MINS {
        pairs[0] = s.bits(block.dmin);
    }
    for v in 0..n / 2 {
        if F::HAS_MINS {
            [pairs[1 + 2 * v], pairs[2 + 2 * v]] = s.words_of_u8(block.mins[v]);
        } else if offset != 0 {
            [pairs[1 + 2 * v], pairs[2 + 2 * v]] = s.words_of_i8(block.scales[v]);
        }
    }
}

/// Multiplies an unpacked block with a block of the first `n_tokens` tokens, and adds the products to their sums.
#[inline(always)]
fn multiply_k<S: DotI8, F: FormatK>(
    s: S,
    panel: &[S::I],
    packed: &PackedK,
    n_tokens: usize,
    acc: &mut Sums<S>,
) {
    for first in (0..n_tokens).step_by(S::ACCUMULATORS) {
        if S::ACCUMULATORS == 8 {
            Multiply::<S, F, 8, 1> { panel, packed, first, acc, format: PhantomData }.run(s);
            continue;
        }
        // The sums of a few tokens are too few to hide the latency of a product: two sub-blocks at a time double them.
        match n_tokens - first {
            ..=6 => s.call(Multiply::<S, F, 6, 2> { panel, packed, first, acc, format: PhantomData }),
            7..=8 => s.call(Multiply::<S, F, 8, 2> { panel, packed, first, acc, format: PhantomData }),
            9..=12 => s.call(Multiply::<S, F, 12, 1> { panel, packed, first, acc, format: PhantomData }),
            _ => s.call(Multiply::<S, F, 16, 1> { panel, packed, first, acc, format: PhantomData }),
        }
    }
}

/// [`multiply_k`] for `T` tokens from `first` on, `P` sub-blocks at a time. A function of its own, so that the loops around it take no
/// registers from the sums.
struct Multiply<'t, S: DotI8, F, const T: usize, const P: usize> {
    panel: &'t [S::I],
    packed: &'t PackedK,
    first: usize,
    acc: &'t mut Sums<S>,
    format: PhantomData<F>,
}

impl<S: DotI8, F: FormatK, const T: usize, const P: usize> Kernel<S> for Multiply<'_, S, F, T, P> {
    type Output = ();

    #[inline(always)]
    fn run(self, s: S) {
        let Multiply { panel, packed, first, acc, .. } = self;
        let offset = const { offset_k::<S, F>() };
        let acc: &mut [S::F; T] = acc[first..].first_chunk_mut().expect("tokens of the group");
        let (scales, x_sums) =
            (of_tokens::<_, T>(&packed.scales, first), of_tokens::<_, T>(&packed.sums, first));
        let pairs = &panel[Panel::<F>::PAIRS..][..Panel::<F>::SUBS / 2];
        let mut sums = [s.zero(); T];
        if offset != 0 {
            // The offset of the values adds offset · Σ_sub scale · Σ x, which is subtracted.
            for t in 0..T {
                let excess = dot_pairs(s, pairs, sums_of_subs(&x_sums[t], F::SUB_LEN));
                sums[t] = s.sub_i32(s.zero(), s.shl32(excess, offset.trailing_zeros() as i32));
            }
        }
        sums = match F::SUB_LEN {
            16 => scaled_dots::<S, F, 4, T, P>(s, panel, packed, first, sums),
            _ => scaled_dots::<S, F, 8, T, P>(s, panel, packed, first, sums),
        };
        let (d, dmin) = (s.of_bits(panel[Panel::<F>::D]), s.of_bits(panel[Panel::<F>::DMIN]));
        for t in 0..T {
            let dx = s.splat_f32(scales[t]);
            acc[t] = s.fma(s.to_f32(sums[t]), s.mul(d, dx), acc[t]);
            if F::HAS_MINS {
                let m = s.to_f32(dot_pairs(s, pairs, sums_of_subs(&x_sums[t], F::SUB_LEN)));
                acc[t] = s.fnma(m, s.mul(dmin, dx), acc[t]);
            }
        }
    }
}

/// `sums + Σ_sub scale · Σ q·x` over the sub-blocks, of `N` registers each, `P` of them at a time.
#[inline(always)]
fn scaled_dots<S: DotI8, F: FormatK, const N: usize, const T: usize, const P: usize>(
    s: S,
    panel: &[S::I],
    packed: &PackedK,
    first: usize,
    mut sums: [S::I; T],
) -> [S::I; T] {
    let values = panel[..Panel::<F>::SCALES].as_chunks::<N>().0.as_chunks::<P>().0;
    let scales = panel[Panel::<F>::SCALES..][..Panel::<F>::SUBS].as_chunks::<P>().0;
    for (i, (values, scales)) in values.iter().zip(scales).enumerate() {
        let (step, at) = (i * P * N / 16, i * P % (16 / N));
        let x = of_tokens::<_, T>(&packed.qs[step], first);
        let at = std::array::from_fn(|p| at + p);
        sums = s.scaled_dot(F::BITS, values.each_ref(), *scales, x, at, sums);
    }
    sums
}

/// `Σ_sub min · Σ x`, or of scales, from pairs of sub-blocks.
#[inline(always)]
pub(crate) fn dot_pairs<S: DotI8>(s: S, pairs: &[S::I], sums: &[i32]) -> S::I {
    let mut sum = s.zero();
    for j in 0..pairs.len().min(sums.len()) {
        sum = s.add_products_i16(sum, pairs[j], s.splat_i32(sums[j]));
    }
    sum
}
