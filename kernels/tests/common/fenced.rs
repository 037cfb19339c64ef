//! Outputs between margins that must be found as they were: a kernel that writes past its end, or its columns, is caught.

use bytemuck::Pod;

/// A byte that outputs do not happen to consist of.
const CANARY: u8 = 0xa5;

/// Elements of a margin: more than any kernel writes at once.
const MARGIN: usize = 128;

/// A slice between two margins.
pub struct Fenced<T>(Vec<T>);

impl<T: Pod> Fenced<T> {
    /// `x` between margins.
    pub fn new(x: &[T]) -> Fenced<T> {
        let mut all: Vec<T> = bytemuck::zeroed_vec(x.len() + 2 * MARGIN);
        bytemuck::cast_slice_mut::<T, u8>(&mut all).fill(CANARY);
        all[MARGIN..][..x.len()].copy_from_slice(x);
        Fenced(all)
    }

    pub fn inner(&mut self) -> &mut [T] {
        let len = self.0.len() - 2 * MARGIN;
        &mut self.0[MARGIN..][..len]
    }

    /// The slice; panics if a margin was written to.
    #[track_caller]
    pub fn check(self) -> Vec<T> {
        let (before, rest) = self.0.split_at(MARGIN);
        let (x, after) = rest.split_at(rest.len() - MARGIN);
        assert_canary(before, "before its output");
        assert_canary(after, "behind its output");
        x.to_vec()
    }
}

/// The matrix `[m, n]` that `write` leaves in `n` columns in the middle of a wider one; panics if it wrote beside them.
#[track_caller]
#[allow(dead_code)]
pub fn fenced_columns<T: Pod>(
    m: usize,
    n: usize,
    x: T,
    write: impl FnOnce(&mut [T], usize, usize),
) -> Vec<T> {
    let width = MARGIN + n + MARGIN;
    let mut all: Vec<T> = bytemuck::zeroed_vec(m * width);
    bytemuck::cast_slice_mut::<T, u8>(&mut all).fill(CANARY);
    all.chunks_exact_mut(width).for_each(|row| row[MARGIN..][..n].fill(x));
    write(&mut all, width, MARGIN);
    let mut out = Vec::with_capacity(m * n);
    for (i, row) in all.chunks_exact(width).enumerate() {
        assert_canary(&row[..MARGIN], format_args!("before its columns in row {i}"));
        assert_canary(&row[MARGIN + n..], format_args!("behind its columns in row {i}"));
        out.extend_from_slice(&row[MARGIN..][..n]);
    }
    out
}

#[track_caller]
fn assert_canary<T: Pod>(margin: &[T], at: impl std::fmt::Display) {
    let bytes: &[u8] = bytemuck::cast_slice(margin);
    if let Some(i) = bytes.iter().position(|b| *b != CANARY) {
        panic!("a kernel wrote {at}: element {} of the margin", i / size_of::<T>());
    }
}
