use std::marker::PhantomData;

use crate::lanes::FloatKernels;
use crate::matmul::{FEW_ROWS, TILE_STRIP_ROWS, scratch_bytes};
use crate::quantize::QuantizeFn;
use crate::{Activations, Format, Isa, QuantMatrix};

/// A strip of a product's output: columns `first..first + n_rows` of `y [m, ld]`, written by one task alone.
pub struct OutStrip<'a> {
    y: *mut f32,
    ld: usize,
    n_rows: usize,
    m: usize,
    _borrow: PhantomData<&'a mut [f32]>,
}

impl<'a> OutStrip<'a> {
    /// # Safety
    /// `y` is element `[0, first]` of an f32 matrix `[m, ld]` of which, for `'a`, nobody else touches columns
    /// `first..first + n_rows`, and `first + n_rows <= ld`.
    pub(crate) unsafe fn new(y: *mut f32, ld: usize, n_rows: usize, m: usize) -> Self {
        OutStrip { y, ld, n_rows, m, _borrow: PhantomData }
    }

    /// A strip that is a whole matrix `[m, n_rows]`.
    ///
    /// # Panics
    /// Where `y` has another length.
    pub fn whole(y: &'a mut [f32], m: usize, n_rows: usize) -> Self {
        assert_eq!(y.len(), m * n_rows, "output of a product of {m} x {n_rows}");
        OutStrip { y: y.as_mut_ptr(), ld: n_rows, n_rows, m, _borrow: PhantomData }
    }

    /// The outputs of activation row `t`: one for each weight row of the strip.
    #[inline(always)]
    pub fn row(&mut self, t: usize) -> &mut [f32] {
        assert!(t < self.m);
        // SAFETY: t < m, and `new` was promised that these columns are ours; `&mut self` keeps the slices apart in time.
        unsafe { std::slice::from_raw_parts_mut(self.y.add(t * self.ld), self.n_rows) }
    }

    /// The outputs of weight rows `first..first + n` as a strip of their own.
    ///
    /// # Panics
    /// Where they are not all there.
    pub fn columns(&mut self, first: usize, n: usize) -> OutStrip<'_> {
        assert!(first + n <= self.n_rows, "rows {first} to {} of a strip of {}", first + n, self.n_rows);
        OutStrip { y: self.y.wrapping_add(first), n_rows: n, ..*self }
    }

    /// Weight rows of the strip.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Activation rows.
    pub fn m(&self) -> usize {
        self.m
    }
}

/// One thread's room for unpacked weights, aligned to a cache line; grown before a forward pass, never during one.
pub struct StripScratch {
    lines: Vec<CacheLine>,
}

/// 64 bytes at an address that they divide.
#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
pub struct CacheLine([u8; 64]);

impl StripScratch {
    /// Room for `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        StripScratch { lines: vec![CacheLine([0; 64]); bytes.div_ceil(64)] }
    }

    /// The room, 64-byte aligned.
    #[inline(always)]
    pub fn bytes(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }

    /// Makes it at least `bytes` large.
    pub fn reserve(&mut self, bytes: usize) {
        if self.lines.len() * 64 < bytes {
            self.lines.resize(bytes.div_ceil(64), CacheLine([0; 64]));
        }
    }
}

/// `y[t][r] = w[r] · x[t]` for the rows of one strip.
///
/// # Safety
/// The CPU has the features of the [`Isa`] the function was written for. (Shapes are asserted by [`KernelTable::dot`] and
/// [`KernelTable::tile`]: `x.kind()` is `w.format().activation_kind()`, `x.k() == w.k()`, `y` is `[x.m(), w.n_rows()]`.)
pub(crate) type StripFn =
    unsafe fn(w: QuantMatrix<'_>, x: Activations<'_>, y: OutStrip<'_>, scratch: &mut StripScratch);

/// The kernels of one [`Isa`]: private function pointers behind safe methods.
pub struct KernelTable {
    pub(crate) isa: Isa,
    /// By format: few activation rows; weights are read once, straight from the file.
    pub(crate) dot: [StripFn; Format::ALL.len()],
    /// By format: more activation rows; weights are unpacked once, then multiplied in register tiles.
    pub(crate) tile: [StripFn; Format::ALL.len()],
    /// By format: whether the kernels are hand-written for this ISA, not a shared slow path.
    pub(crate) tuned: [bool; Format::ALL.len()],
    /// Whether `tile` takes quantized activations as [`Tiles`](crate::activation_tile::Tiles).
    pub(crate) takes_tiles: bool,
    /// Whether `tile` takes any number of weight rows where there are [few](crate::matmul::FEW_ROWS) activation rows, not just as many as
    /// its scratch has room for.
    pub(crate) by_block: bool,
    /// Activations to blocks of 32.
    pub(crate) quantize_q8_0: QuantizeFn,
    /// Activations to blocks of 256.
    pub(crate) quantize_q8k: QuantizeFn,
    /// Everything on 16 lanes: `dot` and `tile` of F32, F16 and BF16 are its products.
    pub(crate) floats: FloatKernels,
}

impl KernelTable {
    /// The kernels for `isa`, or `None` where this machine cannot run it.
    pub fn for_isa(isa: Isa) -> Option<&'static KernelTable> {
        if !isa.is_available() {
            return None;
        }
        match isa {
            Isa::Scalar => Some(&crate::scalar::TABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Some(&crate::avx2::TABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni if is_x86_feature_detected!("avxvnni") => Some(&crate::avx2::TABLE_VEX_VNNI),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => Some(&crate::avx2::TABLE_EVEX_VNNI),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => Some(&crate::avx512::TABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => Some(&crate::avx512::amx::TABLE),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Some(&crate::neon::NEON),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDotprod => Some(&crate::neon::DOTPROD),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm => Some(&crate::neon::I8MM),
            _ => None,
        }
    }

    /// The kernels for the best instruction set of this machine.
    pub fn detect() -> &'static KernelTable {
        Isa::ALL.into_iter().rev().find_map(KernelTable::for_isa).unwrap_or(&crate::scalar::TABLE)
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Whether [`KernelTable::tile`] takes quantized activations as [`Tiles`](crate::activation_tile::Tiles).
    pub fn takes_tiles(&self) -> bool {
        self.takes_tiles
    }

    /// Whether products with this format run on hand-written kernels rather than a shared slow path.
    pub fn is_tuned(&self, format: Format) -> bool {
        self.tuned[format as usize]
    }

    /// `y[t][r] = w[r] · x[t]`, reading the weights once for each few activation rows.
    ///
    /// # Panics
    /// Where shapes do not fit, or the activations have not the form that the format asks for.
    pub fn dot(&self, w: QuantMatrix<'_>, x: Activations<'_>, y: OutStrip<'_>, scratch: &mut StripScratch) {
        check(&w, &x, &y);
        // SAFETY: a table is handed out for an available ISA only, and the shapes were checked.
        unsafe { self.dot[w.format() as usize](w, x, y, scratch) }
    }

    /// The same, unpacking the weights into `scratch` (at least [`scratch_bytes`](crate::matmul::scratch_bytes)) first.
    ///
    /// # Panics
    /// As [`KernelTable::dot`], and where [tiles are taken](KernelTable::takes_tiles) and not there.
    pub fn tile(
        &self,
        w: QuantMatrix<'_>,
        x: Activations<'_>,
        mut y: OutStrip<'_>,
        scratch: &mut StripScratch,
    ) {
        check(&w, &x, &y);
        scratch.reserve(scratch_bytes(w.k()));
        let room = if self.by_block && x.m() <= FEW_ROWS { w.n_rows() } else { TILE_STRIP_ROWS };
        for first in (0..w.n_rows()).step_by(room.max(1)) {
            let n = room.min(w.n_rows() - first);
            // SAFETY: as in `dot`.
            unsafe { self.tile[w.format() as usize](w.rows(first, n), x, y.columns(first, n), scratch) }
        }
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
