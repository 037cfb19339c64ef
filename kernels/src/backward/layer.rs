//! The derivatives of the steps between products.

use super::dropout::Dropout;
use super::executor::{Executor, Output};
use super::product::rows_of;
use crate::ops::LeF32;

/// Elements of a task of an elementwise step.
const ELEMENTS_A_TASK: usize = 4096;

impl Executor {
    /// The derivative of [`rms_norm`](crate::KernelTable::rms_norm) by its input, added to `dx`: with `y = x·r·w` and
    /// `r = 1/√(mean(x²) + eps)`, `dx += r·(g − x·r²·mean(g·x))` where `g = dy·w`. `x`, `dy` and `dx` are `[m, width of the norm]`.
    ///
    /// # Panics
    /// Where shapes do not fit.
    pub fn rms_norm_backward(&mut self, x: &[f32], weight: LeF32<'_>, eps: f32, dy: &[f32], dx: &mut [f32]) {
        let width = weight.len();
        rows_of("inputs of a norm", x, width);
        assert_eq!((dy.len(), dx.len()), (x.len(), x.len()), "gradients of a norm");
        let kernel = self.backward().rms_norm_backward;
        self.team.together(|| {
            self.team.for_each_chunk(dx, width, |t, dx| {
                let row = t * width..(t + 1) * width;
                // SAFETY: a table is handed out for an available ISA only.
                unsafe { kernel(&x[row.clone()], weight, eps, &dy[row], dx) }
            });
        });
    }

    /// `out = silu(gate) · up`, as [`swiglu`](crate::KernelTable::swiglu) but for keeping its inputs.
    ///
    /// # Panics
    /// Where lengths differ.
    pub fn swiglu(&mut self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert_eq!((gate.len(), up.len()), (out.len(), out.len()), "lengths of swiglu");
        self.team.together(|| {
            self.team.for_each_chunk(out, ELEMENTS_A_TASK, |i, out| {
                let part = i * ELEMENTS_A_TASK..i * ELEMENTS_A_TASK + out.len();
                out.copy_from_slice(&gate[part.clone()]);
                self.kernels.swiglu(out, &up[part]);
            });
        });
    }

    /// The derivatives of [`Executor::swiglu`], in place: `gate` becomes `dy · up · σ(gate)·(1 + gate·(1 − σ(gate)))`, and `up` becomes
    /// `dy · silu(gate)`.
    ///
    /// # Panics
    /// Where lengths differ.
    pub fn swiglu_backward(&mut self, gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
        assert_eq!((gate.len(), up.len()), (dy.len(), dy.len()), "lengths of swiglu");
        let kernel = self.backward().swiglu_backward;
        let up = Output::new(up);
        self.team.together(|| {
            self.team.for_each_chunk(gate, ELEMENTS_A_TASK, |i, gate| {
                let first = i * ELEMENTS_A_TASK;
                // SAFETY: as long as `gate`, which this chunk is part of; chunks are disjoint, and `up` stays borrowed until all are done.
                let up = unsafe { std::slice::from_raw_parts_mut(up.at(first), gate.len()) };
                // SAFETY: a table is handed out for an available ISA only.
                unsafe { kernel(gate, up, &dy[first..first + gate.len()]) }
            });
        });
    }

    /// The derivative of [`apply_rope`](crate::KernelTable::apply_rope) by its input, in place: each row's heads turn back. `rotations` has
    /// one of [`fill_rope`](crate::fill_rope) for each row of `rows [m, width]`, of `2 · rope_dims`.
    ///
    /// A rotation with a magnitude (YaRN's `mscale`) is a scaled one: its derivative has the same factor.
    ///
    /// # Panics
    /// Where shapes do not fit.
    pub fn rope_backward(
        &mut self,
        rows: &mut [f32],
        width: usize,
        head_dim: usize,
        rope_dims: usize,
        rotations: &[f32],
    ) {
        let m = rows_of("gradients of heads", rows, width);
        assert!(width.is_multiple_of(head_dim), "a row of {width} is no whole number of heads");
        assert!(rope_dims.is_multiple_of(2) && rope_dims <= head_dim, "{rope_dims} of {head_dim} to rotate");
        assert_eq!(rotations.len(), m * 2 * rope_dims, "rotations of {m} rows");
        let kernel = self.backward().rope_backward;
        self.team.together(|| {
            self.team.for_each_chunk(rows, width, |t, row| {
                let rotation = &rotations[t * 2 * rope_dims..][..2 * rope_dims];
                // SAFETY: a table is handed out for an available ISA only.
                unsafe { kernel(row, head_dim, rope_dims, rotation) }
            });
        });
    }

    /// `out[t] = mask(keys[t]) ⊙ x[t] / (1 − p)`; both `[keys, width]`.
    ///
    /// # Panics
    /// Where shapes do not fit.
    pub fn dropout(&mut self, dropout: Dropout, keys: &[u64], x: &[f32], out: &mut [f32]) {
        self.each_dropped(self.backward().drop_row, dropout, keys, x, out);
    }

    /// The derivative of [`Executor::dropout`], added: `dx[t] += mask(keys[t]) ⊙ g[t] / (1 − p)`; both `[keys, width]`.
    ///
    /// # Panics
    /// Where shapes do not fit.
    pub fn add_dropout_backward(&mut self, dropout: Dropout, keys: &[u64], g: &[f32], dx: &mut [f32]) {
        self.each_dropped(self.backward().add_dropped, dropout, keys, g, dx);
    }

    fn each_dropped(
        &self,
        kernel: unsafe fn(u64, u32, f32, &[f32], &mut [f32]),
        Dropout { threshold, scale }: Dropout,
        keys: &[u64],
        x: &[f32],
        out: &mut [f32],
    ) {
        assert_eq!(x.len(), out.len(), "inputs and outputs of dropout");
        if keys.is_empty() {
            assert!(x.is_empty(), "{} inputs without keys", x.len());
            return;
        }
        let width = x.len() / keys.len();
        assert_eq!(rows_of("inputs", x, width.max(1)), keys.len(), "rows and their keys");
        self.team.together(|| {
            self.team.for_each_chunk(out, width, |t, out| {
                // SAFETY: a table is handed out for an available ISA only.
                unsafe { kernel(keys[t], threshold, scale, &x[t * width..][..width], out) }
            });
        });
    }
}
