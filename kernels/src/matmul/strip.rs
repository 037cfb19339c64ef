//! What one task of a product works on: the columns it writes, and a thread's room for unpacked weights.

use std::collections::TryReserveError;
use std::marker::PhantomData;

use crate::activation::rows::Activations;
use crate::aligned::{CacheLine, try_zeros};
use crate::matmul::shape::DotShape;
use crate::weights::matrix::QuantMatrix;

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
        // A strip's columns are its own: it is a whole matrix, a part of a strip that is borrowed meanwhile, or a task's by `new`.
        // SAFETY: `t` is below `m`, nobody else has these columns, and `&mut self` lets one slice live at a time.
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

    /// The outputs of activation rows `first..first + n` as a strip of their own.
    ///
    /// # Panics
    /// Where they are not all there.
    pub fn rows(&mut self, first: usize, n: usize) -> OutStrip<'_> {
        assert!(first + n <= self.m, "activation rows {first} to {} of {}", first + n, self.m);
        OutStrip { y: self.y.wrapping_add(first * self.ld), m: n, ..*self }
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
    /// How dot products take their rows; that of this machine unless set otherwise.
    pub shape: DotShape,
}

impl StripScratch {
    /// Room for `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        StripScratch { lines: vec![CacheLine::ZERO; bytes.div_ceil(64)], shape: DotShape::detect() }
    }

    /// Room for `bytes` bytes.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn try_new(bytes: usize) -> Result<Self, TryReserveError> {
        Ok(StripScratch { lines: try_zeros(bytes)?, shape: DotShape::detect() })
    }

    /// The room, 64-byte aligned.
    #[inline(always)]
    pub fn bytes(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }

    /// Makes it at least `bytes` large.
    pub fn reserve(&mut self, bytes: usize) {
        if self.lines.len() * 64 < bytes {
            self.lines.resize(bytes.div_ceil(64), CacheLine::ZERO);
        }
    }
}

/// `y[t][r] = w[r] · x[t]` for the rows of one strip.
///
/// # Safety
/// The CPU has the features of the instruction set the function was written for. (The kernel table asserts shapes: `x.kind()` is
/// `w.format().activation_kind()`, `x.k() == w.k()`, `y` is `[x.m(), w.n_rows()]`.)
pub(crate) type StripFn =
    unsafe fn(w: QuantMatrix<'_>, x: Activations<'_>, y: OutStrip<'_>, scratch: &mut StripScratch);
