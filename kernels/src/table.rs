//! The kernels of one instruction set: private function pointers behind safe methods.

use crate::activation::kind::ActivationKind;
use crate::activation::packed::Packed;
use crate::activation::quantize::QuantizeFn;
use crate::activation::rows::{Activations, QuantizedRows};
use crate::aligned::CacheLine;
use crate::attention::layout::PAGE_LEN;
use crate::attention::partials::{PageHead, Partials};
#[cfg(feature = "train")]
use crate::backward::kernels::BackwardKernels;
#[cfg(feature = "quantize")]
use crate::linalg::factor::Factor;
#[cfg(feature = "quantize")]
use crate::linalg::product::{BlockJob, ProductBlockFn};
use crate::low_rank::expand::{ExpandFn, ExpandJob};
use crate::low_rank::pair::LowRankPair;
use crate::matmul::plan::{FEW_ROWS, STRIP_ROWS};
use crate::matmul::scratch::scratch_bytes;
use crate::matmul::strip::{OutStrip, StripFn, StripScratch};
use crate::ops::LeF32;
#[cfg(feature = "quantize")]
use crate::quantize::{
    FeedbackFn, FeedbackScratch, QuantizeBlocksFn, QuantizeError, quantize_weights, quantize_with_feedback,
};
use crate::simd::isa::Isa;
use crate::team::Team;
use crate::weights::format::Format;
use crate::weights::matrix::QuantMatrix;

/// Packs rows into room of at least [`packed_bytes`](crate::activation::packed::packed_bytes) bytes, or panics.
pub(crate) type PackFn = for<'a> fn(&Team, &QuantizedRows<'_>, &'a mut [CacheLine]) -> Packed<'a>;

/// The kernels of one [`Isa`].
pub struct KernelTable {
    pub(crate) isa: Isa,
    /// By format: for few activation rows, reading the weights as they lie in the file.
    pub(crate) dot: [StripFn; Format::ALL.len()],
    /// By format: for more activation rows, unpacking the weights to panels first.
    pub(crate) panel: [StripFn; Format::ALL.len()],
    /// By format: whether the kernels are written for this ISA and not plain Rust.
    pub(crate) tuned: [bool; Format::ALL.len()],
    /// How activations are [packed](crate::activation::packed::Packed) for `panel`, unless it reads them as they are.
    pub(crate) pack: Option<PackFn>,
    /// Whether `panel` unpacks one block at a time when there are [few](crate::matmul::FEW_ROWS) activation rows, so that its scratch
    /// does not limit the weight rows of a call.
    pub(crate) by_block: bool,
    /// Activations to blocks of 32.
    pub(crate) quantize_q8_0: QuantizeFn,
    /// Activations to blocks of 256.
    pub(crate) quantize_q8k: QuantizeFn,
    /// Float operations, the products with F32, F16 and BF16 weights among them.
    pub(crate) floats: FloatKernels,
}

/// Kernels on 16 f32 lanes. They are `unsafe` only because the CPU must have the features of their instruction set; shapes are asserted,
/// or checked by the methods of the table.
pub(crate) struct FloatKernels {
    /// Products with F32, F16 and BF16 weights, for few activation rows and for many.
    pub(crate) product: [StripFn; 3],
    /// The second product of a low-rank pair, with a B in F32, F16 or BF16.
    pub(crate) expand: [ExpandFn; 3],
    pub(crate) rms_norm: unsafe fn(&[f32], LeF32<'_>, f32, &mut [f32]) -> bool,
    pub(crate) swiglu: unsafe fn(&mut [f32], &[f32]),
    pub(crate) add_scaled: unsafe fn(&mut [f32], &[f32], f32),
    pub(crate) scale: unsafe fn(&mut [f32], f32),
    pub(crate) softmax: unsafe fn(&mut [f32]),
    pub(crate) apply_rope: unsafe fn(&mut [f32], usize, usize, &[f32]),
    #[allow(clippy::type_complexity)]
    pub(crate) attend_page: unsafe fn(PageHead<'_>, &[f32], &[(u8, u8)], &mut Partials),
    pub(crate) merge: unsafe fn(&mut Partials, &Partials, usize),
    pub(crate) finish: unsafe fn(&Partials, usize, &mut [f32]),
    /// Weights to the formats with scales, those of [`Format::ALL`] from Q8_0 on.
    #[cfg(feature = "quantize")]
    pub(crate) quantize_blocks: [QuantizeBlocksFn; Format::N_QUANTIZED],
    /// The same with error feedback.
    #[cfg(feature = "quantize")]
    pub(crate) quantize_columns: [FeedbackFn; Format::N_QUANTIZED],
    /// Products of f32 matrices.
    #[cfg(feature = "quantize")]
    pub(crate) product_block: ProductBlockFn,
    /// Derivatives, and products in f32.
    #[cfg(feature = "train")]
    pub(crate) backward: BackwardKernels,
}

impl KernelTable {
    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Whether [`KernelTable::panel`] reads quantized activations [packed](crate::activation::packed::Packed).
    pub fn takes_packed(&self) -> bool {
        self.pack.is_some()
    }

    /// Whether products with this format run on kernels written for this ISA rather than on plain Rust.
    pub fn is_tuned(&self, format: Format) -> bool {
        self.tuned[format as usize]
    }

    /// `y[t][r] = w[r] · x[t]` for few activation rows: the weights are read once for every four of them.
    ///
    /// # Panics
    /// If shapes do not fit, or the activations are not of the format's [`ActivationKind`].
    pub fn dot(&self, w: QuantMatrix<'_>, x: Activations<'_>, y: OutStrip<'_>, scratch: &mut StripScratch) {
        check(&w, &x, &y);
        scratch.reserve(scratch_bytes(w.k()));
        // SAFETY: a table is handed out for an available ISA only, and the shapes were checked.
        unsafe { self.dot[w.format() as usize](w, x, y, scratch) }
    }

    /// `y[t][r] = w[r] · x[t]` for more activation rows: the weights are unpacked into `scratch` first, which grows to
    /// [`scratch_bytes`](crate::matmul::scratch_bytes) if it is smaller.
    ///
    /// # Panics
    /// As [`KernelTable::dot`], and if the activations are not packed although [they must be](KernelTable::takes_packed).
    pub fn panel(
        &self,
        w: QuantMatrix<'_>,
        x: Activations<'_>,
        mut y: OutStrip<'_>,
        scratch: &mut StripScratch,
    ) {
        check(&w, &x, &y);
        scratch.reserve(scratch_bytes(w.k()));
        let room = if self.by_block && x.m() <= FEW_ROWS { w.n_rows() } else { STRIP_ROWS };
        for first in (0..w.n_rows()).step_by(room.max(1)) {
            let n = room.min(w.n_rows() - first);
            // SAFETY: a table is handed out for an available ISA only, and the shapes of whole and parts were checked.
            unsafe { self.panel[w.format() as usize](w.rows(first, n), x, y.columns(first, n), scratch) }
        }
    }

    /// `y[t][r] += scale · Σ u[t][j] · B[first + r][j]`, with `u [m, rank]` and `y [m, _]` for rows of B from `first` on.
    ///
    /// # Panics
    /// Where `first` is no multiple of 16, `u` has another shape, or B has fewer rows.
    pub(crate) fn expand(&self, pair: &LowRankPair, first: usize, u: &[f32], scale: f32, y: OutStrip<'_>) {
        assert_eq!(u.len(), y.m() * pair.rank(), "{} rows of {} numbers", y.m(), pair.rank());
        let b = pair.b_tiles(first..first + y.n_rows());
        // SAFETY: a table is handed out for an available ISA only, and the shapes were checked.
        unsafe {
            self.floats.expand[pair.b_format() as usize](ExpandJob { u, rank: pair.rank(), b, scale, y })
        }
    }

    /// Quantizes rows of activations for products: `x ≈ scale · q`. Any number of rows of whole blocks at once.
    ///
    /// In each block, with `amax` the largest magnitude: `scale = amax / 127`, `q = x · (127 / amax)` rounded to nearest, ties to
    /// even. A block whose `127 / amax` is not finite (`amax` is zero or below 2⁻¹²¹ or so) becomes zeros with scale 0.
    ///
    /// Returns false where an input is infinite or NaN; the outputs are then unspecified.
    ///
    /// # Panics
    /// Where `kind` is [`ActivationKind::F32`], or lengths do not fit: with `B` and `S` of [`ActivationKind::block_len`] and
    /// [`ActivationKind::sum_len`], `n` a multiple of `B`: `x [n]`, `qs [n]`, `scales [n / B]`, `sums [n / S]`.
    #[must_use]
    pub fn quantize(
        &self,
        kind: ActivationKind,
        x: &[f32],
        qs: &mut [i8],
        scales: &mut [f32],
        sums: &mut [i16],
    ) -> bool {
        let f = match kind {
            ActivationKind::F32 => panic!("f32 activations are not quantized"),
            ActivationKind::Q8_0 => self.quantize_q8_0,
            ActivationKind::Q8K => self.quantize_q8k,
        };
        let (n, b, s) = (x.len(), kind.block_len(), kind.sum_len());
        assert!(n.is_multiple_of(b) && qs.len() == n, "{n} values into {} in blocks of {b}", qs.len());
        assert_eq!((scales.len(), sums.len()), (n / b, n / s), "scales and sums of {n} values");
        // SAFETY: a table is handed out for an available ISA only, and the lengths were checked.
        unsafe { f(x, qs, scales, sums) }
    }

    /// Packs quantized activations for [`KernelTable::panel`] into `room`, at least
    /// [`packed_bytes`](crate::activation::packed::packed_bytes) large; [`Packed::None`] if it reads them as they are.
    ///
    /// # Panics
    /// If `room` is smaller.
    pub fn pack<'a>(&self, team: &Team, x: &QuantizedRows<'_>, room: &'a mut [CacheLine]) -> Packed<'a> {
        self.pack.map_or(Packed::None, |pack| pack(team, x, room))
    }

    /// Root mean square norm: `out = (x · 1/√(mean(x²) + eps)) · weight`, in this order of operations (that of `transformers`).
    ///
    /// False, with `out` undefined, where the sum of the squares is not finite.
    ///
    /// # Panics
    /// Where lengths differ.
    #[must_use]
    pub fn rms_norm(&self, x: &[f32], weight: LeF32<'_>, eps: f32, out: &mut [f32]) -> bool {
        assert_eq!((x.len(), out.len()), (weight.len(), weight.len()), "lengths of a norm");
        // SAFETY: a table is handed out for an available ISA only.
        unsafe { (self.floats.rms_norm)(x, weight, eps, out) }
    }

    /// `gate = silu(gate) · up`, where `silu(g) = g / (1 + e⁻ᵍ)`.
    ///
    /// # Panics
    /// Where lengths differ.
    pub fn swiglu(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "lengths of swiglu");
        // SAFETY: a table is handed out for an available ISA only.
        unsafe { (self.floats.swiglu)(gate, up) }
    }

    /// `y += x`
    ///
    /// # Panics
    /// Where lengths differ.
    pub fn add_assign(&self, y: &mut [f32], x: &[f32]) {
        // Exact: y + 1·x is rounded once, as y + x is.
        self.add_scaled(y, x, 1.0);
    }

    /// `y += factor · x`, fused.
    ///
    /// # Panics
    /// Where lengths differ.
    pub fn add_scaled(&self, y: &mut [f32], x: &[f32], factor: f32) {
        assert_eq!(y.len(), x.len(), "lengths of a sum");
        // SAFETY: a table is handed out for an available ISA only.
        unsafe { (self.floats.add_scaled)(y, x, factor) }
    }

    /// `x *= factor`
    pub fn scale(&self, x: &mut [f32], factor: f32) {
        // SAFETY: a table is handed out for an available ISA only.
        unsafe { (self.floats.scale)(x, factor) }
    }

    /// `x = eˣ / Σ eˣ`, with the largest taken off first.
    pub fn softmax(&self, x: &mut [f32]) {
        // SAFETY: a table is handed out for an available ISA only.
        unsafe { (self.floats.softmax)(x) }
    }

    /// Turns the first `rope_dims` dimensions of each head of `row` (a whole number of heads) by a rotation of
    /// [`fill_rope`](crate::fill_rope):
    /// `y[2i] = fma(x[2i], cos, x[2i+1] · −sin)` and `y[2i+1] = fma(x[2i+1], cos, x[2i] · sin)`.
    ///
    /// # Panics
    /// Where `row` is no whole number of heads, `rope_dims` is odd or larger than a head, or `rotation` is not `[2 · rope_dims]`.
    pub fn apply_rope(&self, row: &mut [f32], head_dim: usize, rope_dims: usize, rotation: &[f32]) {
        assert!(row.len().is_multiple_of(head_dim), "a row of {} is no whole number of heads", row.len());
        assert!(rope_dims.is_multiple_of(2) && rope_dims <= head_dim, "{rope_dims} of {head_dim} to rotate");
        assert_eq!(rotation.len(), 2 * rope_dims, "a rotation of {rope_dims} dimensions");
        // SAFETY: a table is handed out for an available ISA only.
        unsafe { (self.floats.apply_rope)(row, head_dim, rope_dims, rotation) }
    }

    /// Lets queries `q [n_q][head_dim]` (scaled beforehand) attend to one head of a page: query `r` to the slots
    /// `ranges[r].0..ranges[r].1`. Overwrites the first `n_q` rows of `out`.
    ///
    /// # Panics
    /// Where shapes do not fit the layout, or a range ends past the page.
    pub fn attend_page(&self, head: PageHead<'_>, q: &[f32], ranges: &[(u8, u8)], out: &mut Partials) {
        let layout = head.layout;
        assert_eq!(head.page.len(), layout.page_bytes(), "bytes of a page");
        assert!(head.kv_head < layout.n_kv_heads(), "head {} of {}", head.kv_head, layout.n_kv_heads());
        assert_eq!(q.len(), ranges.len() * layout.head_dim(), "queries");
        assert_eq!(out.head_dim, layout.head_dim(), "dimensions of a head");
        assert!(ranges.len() <= out.n_rows(), "room for {} queries, not {}", out.n_rows(), ranges.len());
        assert!(ranges.iter().all(|range| range.1 as usize <= PAGE_LEN), "a range past the page");
        // SAFETY: a table is handed out for an available ISA only.
        unsafe { (self.floats.attend_page)(head, q, ranges, out) }
    }

    /// Adds a page's first `n_rows` rows to what its predecessors gave.
    ///
    /// # Panics
    /// Where there are not so many rows, or the heads differ.
    pub fn merge(&self, running: &mut Partials, page: &Partials, n_rows: usize) {
        assert_eq!(running.head_dim, page.head_dim, "dimensions of a head");
        assert!(n_rows <= running.n_rows().min(page.n_rows()), "{n_rows} rows to merge");
        // SAFETY: a table is handed out for an available ISA only.
        unsafe { (self.floats.merge)(running, page, n_rows) }
    }

    /// Quantizes rows of `k` weights: `x [n, k]`, `out` the bytes of as many rows.
    ///
    /// `importance [k]` says what an error of a weight costs, column by column: the mean square of what it is multiplied with. F32, F16, BF16
    /// and Q8_0 have nothing to choose and ignore it.
    ///
    /// # Errors
    /// Where a weight is not finite or too large for the format. What `out` holds then is unspecified.
    ///
    /// # Panics
    /// Where `x` is not whole rows, rows are not whole blocks, or `out` or `importance` have another length.
    #[cfg(feature = "quantize")]
    pub fn quantize_weights(
        &self,
        format: Format,
        k: usize,
        x: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), QuantizeError> {
        // SAFETY: a table is handed out for an available ISA only.
        unsafe { quantize_weights(&self.floats.quantize_blocks, format, k, x, importance, out) }
    }

    /// Quantizes rows of `k` weights, `x [n, k]`, with error feedback ([`crate::quantize`] says how): `factor` is that of the inputs' `XᵀX`, and
    /// `out` the bytes of as many rows. A row does not depend on the others, but the factor is read once for all rows of a call.
    ///
    /// # Errors
    /// Where a weight is not finite or too large for the format. What `out` holds then is unspecified.
    ///
    /// # Panics
    /// Where `x` is not whole rows, rows are not whole blocks, `out` has another length, or the format has no scales.
    #[cfg(feature = "quantize")]
    pub fn quantize_with_feedback(
        &self,
        format: Format,
        factor: &Factor,
        x: &[f32],
        out: &mut [u8],
        scratch: &mut FeedbackScratch,
    ) -> Result<(), QuantizeError> {
        let index = (format as usize).checked_sub(Format::ALL.len() - Format::N_QUANTIZED);
        let quantize =
            self.floats.quantize_columns[index.unwrap_or_else(|| panic!("{format} has no scales"))];
        // SAFETY: a table is handed out for an available ISA only.
        unsafe {
            quantize_with_feedback(self.floats.product_block, quantize, format, factor, x, out, scratch)
        }
    }

    /// A block of a product of f32 matrices.
    #[cfg(feature = "quantize")]
    pub(crate) fn product_block(&self, job: BlockJob<'_>) {
        // SAFETY: a table is handed out for an available ISA only.
        unsafe { (self.floats.product_block)(job) }
    }

    /// The output of query `row`, `[head_dim]`: zeros where it saw no key.
    ///
    /// # Panics
    /// Where there is no such row, or `out` is not as long as a head.
    pub fn finish(&self, running: &Partials, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), running.head_dim, "dimensions of a head");
        // SAFETY: a table is handed out for an available ISA only.
        unsafe { (self.floats.finish)(running, row, out) }
    }
}

fn check(w: &QuantMatrix<'_>, x: &Activations<'_>, y: &OutStrip<'_>) {
    assert_eq!(x.kind(), w.format().activation_kind(), "activations for {}", w.format());
    assert_eq!(x.k(), w.k(), "activations in a row");
    assert_eq!((y.m(), y.n_rows()), (x.m(), w.n_rows()), "shape of the output");
    if let Activations::Quantized(q) = x {
        let (b, s) = (q.kind.block_len(), q.kind.sum_len());
        assert!(q.k % b == 0 && q.qs.len() == q.m * q.k);
        assert!(q.scales.len() == q.m * q.k / b && q.sums.len() == q.m * q.k / s);
    } else if let Activations::F32 { m, k, x } = x {
        assert_eq!(x.len(), m * k);
    }
}
