//! The derivative. A thread takes a head of keys of a sequence, with all queries on it; or, where that would leave others idle, a block of keys and
//! then a block of queries, which computes scores twice. Sums have the same order either way.

use std::cmp::Reverse;
use std::ops::Range;

use super::super::block::Multiply;
use super::super::block::Right;
use super::super::executor::{Buffers, Executor, Output, lock, room};
use super::super::kernels::BackwardKernels;
use super::output::hide;
use super::shape::{AttentionShape, Block, KEYS, makespan, multiply, pack_left, pack_right};
use crate::matmul::strip::OutStrip;
use crate::table::KernelTable;
use crate::tile::Left;

/// What went into attention, came out of it, and came back.
pub struct AttentionInputs<'a> {
    /// `[m, n_heads · head_dim]`
    pub q: &'a [f32],
    /// `[m, n_kv_heads · head_dim]`
    pub k: &'a [f32],
    /// `[m, n_kv_heads · head_dim]`
    pub v: &'a [f32],
    /// The output, `[m, n_heads · head_dim]`.
    pub out: &'a [f32],
    /// `[m, n_heads]`
    pub log_sums: &'a [f32],
    /// The gradient of the output.
    pub d_out: &'a [f32],
}

/// Where the gradients of attention's inputs go.
pub struct AttentionGradients<'a> {
    /// `[m, n_heads · head_dim]`
    pub q: &'a mut [f32],
    /// `[m, n_kv_heads · head_dim]`
    pub k: &'a mut [f32],
    /// `[m, n_kv_heads · head_dim]`
    pub v: &'a mut [f32],
}

impl Executor {
    /// The derivative of [`Executor::attention`].
    ///
    /// With `p = e^(scale · q·k − log_sum)` and `ds = p · (d_out·v − d_out·out)`: `dv = Σ p · d_out` and `dk = Σ ds · (scale · q)` over the queries
    /// and heads that see a key, in rising order, and `dq = scale · Σ ds · k` over the keys in rising order.
    ///
    /// # Panics
    /// Where shapes do not fit.
    pub fn attention_backward(
        &mut self,
        shape: &AttentionShape<'_>,
        inputs: &AttentionInputs<'_>,
        gradients: AttentionGradients<'_>,
    ) {
        shape.check();
        let AttentionInputs { q, k, v, out, log_sums, d_out } = inputs;
        let (m, q_len, kv_len) = (shape.m(), shape.m() * shape.q_width(), shape.m() * shape.kv_width());
        assert_eq!((q.len(), k.len(), v.len()), (q_len, kv_len, kv_len), "queries, keys, values of {m} rows");
        assert_eq!((out.len(), d_out.len()), (q_len, q_len), "outputs of {m} rows and their gradients");
        assert_eq!(log_sums.len(), m * shape.n_heads, "sums of {m} rows");
        let AttentionGradients { q: dq, k: dk, v: dv } = gradients;
        assert_eq!((dq.len(), dk.len(), dv.len()), (q_len, kv_len, kv_len), "gradients of {m} rows");
        let backward = self.backward();
        let mut deltas = vec![0.0; m * shape.n_heads];
        let mut heads = shape.blocks(usize::MAX);
        heads.sort_by_key(|block| Reverse(block.n));
        let costs: Vec<u64> = heads.iter().map(|block| (block.n as u64).pow(2)).collect();
        // Five products in one go, or seven in small tasks.
        let n_threads = self.team.n_threads();
        let at_once = 5 * makespan(&costs, n_threads) * n_threads as u64 <= 7 * costs.iter().sum::<u64>();
        let (key_blocks, query_blocks) = (shape.blocks(KEYS), shape.blocks(shape.queries()));
        let (dq, dk, dv) = (Output::new(dq), Output::new(dk), Output::new(dv));
        let head_dim = shape.head_dim;
        self.team.together(|| {
            self.team.for_each_chunk(&mut deltas, shape.n_heads, |t, deltas| {
                let row = t * shape.q_width()..(t + 1) * shape.q_width();
                let heads = out[row.clone()].chunks_exact(head_dim).zip(d_out[row].chunks_exact(head_dim));
                for (delta, (out, d_out)) in deltas.iter_mut().zip(heads) {
                    // SAFETY: a table is handed out for an available ISA only.
                    *delta = unsafe { (backward.dot)(out, d_out) };
                }
            });
            let deltas = &deltas[..];
            let task = Task { table: self.kernels, shape, inputs, deltas, dq, dk, dv };
            if at_once {
                self.team.run(heads.len(), |i, worker| {
                    // SAFETY: tasks differ in their sequence or in their head.
                    unsafe { task.head(&heads[i], &mut lock(&self.workers[worker])) }
                });
                return;
            }
            // The first keys are seen by most queries.
            self.team.run(key_blocks.len(), |i, worker| {
                // SAFETY: blocks are disjoint in their rows or in their heads, and queries' gradients are left alone.
                unsafe { task.keys(&key_blocks[i], &mut lock(&self.workers[worker]), false) }
            });
            self.team.run(query_blocks.len(), |i, worker| {
                let block = &query_blocks[query_blocks.len() - 1 - i];
                // SAFETY: blocks are disjoint in their rows or in their heads.
                unsafe { task.queries(block, &mut lock(&self.workers[worker])) }
            });
        });
    }
}

struct Task<'a> {
    table: &'a KernelTable,
    shape: &'a AttentionShape<'a>,
    inputs: &'a AttentionInputs<'a>,
    /// `d_out · out` of each row and head.
    deltas: &'a [f32],
    /// As large as the inputs, which `attention_backward` asserted, and borrowed by it.
    dq: Output,
    dk: Output,
    dv: Output,
}

impl Task<'_> {
    fn kernels(&self) -> &BackwardKernels {
        &self.table.floats.backward
    }

    /// The gradients of keys or values at `positions`.
    ///
    /// # Safety
    /// Nobody else has those of the block's head at these positions meanwhile.
    unsafe fn key_rows(&self, out: Output, block: &Block, positions: &Range<usize>) -> OutStrip<'_> {
        let (width, head_dim) = (self.shape.kv_width(), self.shape.head_dim);
        let at = (block.first + positions.start) * width + block.kv_head * head_dim;
        // SAFETY: positions lie in the block's sequence, and its head in each row; the caller vouches for the rest.
        unsafe { OutStrip::new(out.at(at), width, head_dim, positions.len()) }
    }

    /// The gradients of queries at `positions`: `n` heads from `head` on.
    ///
    /// # Safety
    /// Nobody else has those of these heads at these positions meanwhile.
    unsafe fn query_rows(
        &self,
        block: &Block,
        positions: &Range<usize>,
        head: usize,
        n: usize,
    ) -> OutStrip<'_> {
        let (width, head_dim) = (self.shape.q_width(), self.shape.head_dim);
        assert!(head + n <= self.shape.n_heads);
        let at = (block.first + positions.start) * width + head * head_dim;
        // SAFETY: positions lie in the block's sequence, and the heads in each row; the caller vouches for the rest.
        unsafe { OutStrip::new(self.dq.at(at), width, n * head_dim, positions.len()) }
    }

    /// All gradients of a head of keys of a sequence.
    ///
    /// # Safety
    /// Nobody else has the gradients of this head and its queries meanwhile.
    unsafe fn head(&self, block: &Block, buffers: &mut Buffers) {
        let n_rep = self.shape.n_rep();
        // SAFETY: the caller vouches for these heads.
        let mut dq = unsafe { self.query_rows(block, &block.rows, block.kv_head * n_rep, n_rep) };
        for t in 0..block.n {
            dq.row(t).fill(0.0);
        }
        for start in (0..block.n).step_by(KEYS) {
            let keys = Block { rows: start..block.n.min(start + KEYS), ..block.clone() };
            // SAFETY: the caller vouches for this head and its queries.
            unsafe { self.keys(&keys, buffers, true) };
        }
        // SAFETY: as above.
        let mut dq = unsafe { self.query_rows(block, &block.rows, block.kv_head * n_rep, n_rep) };
        for t in 0..block.n {
            self.table.scale(dq.row(t), self.shape.scales[block.first + t]);
        }
    }

    /// The gradients of a block of keys and values, and, where `add_queries`, what these keys add to those of queries.
    ///
    /// # Safety
    /// Nobody else has the gradients of these keys and values meanwhile, nor, where `add_queries`, those of the head's queries.
    unsafe fn keys(&self, block: &Block, buffers: &mut Buffers, add_queries: bool) {
        let (shape, inputs, kernels) = (self.shape, self.inputs, self.kernels());
        let (n_rep, head_dim, keys, n) = (shape.n_rep(), shape.head_dim, &block.rows, block.rows.len());
        let key_rows = match add_queries {
            true => block.pack_keys(kernels, shape, inputs.k, keys, false, &mut buffers.key_rows),
            false => &[],
        };
        let packed_keys = block.pack_keys(kernels, shape, inputs.k, keys, true, &mut buffers.right);
        let values = block.pack_keys(kernels, shape, inputs.v, keys, true, &mut buffers.values);
        let [k_sums, v_sums] = &mut buffers.sums;
        let (k_sums, v_sums) = (room(k_sums, n * head_dim), room(v_sums, n * head_dim));
        k_sums.fill(0.0);
        v_sums.fill(0.0);
        let seeing = shape.seeing(keys, block.n);
        for first in seeing.clone().step_by(shape.queries()) {
            let positions = first..seeing.end.min(first + shape.queries());
            let rows = positions.len() * n_rep;
            let queries = room(&mut buffers.queries, rows * head_dim);
            block.gather(shape, inputs.q, positions.clone(), true, queries);
            let outputs = room(&mut buffers.outputs, rows * head_dim);
            block.gather(shape, inputs.d_out, positions.clone(), false, outputs);
            let by_row = |data| Left::ByRow { data, stride: head_dim };
            let left = pack_left(kernels, by_row(&*queries), rows, head_dim, &mut buffers.packed_queries);
            let scores = room(&mut buffers.scores, rows * n);
            multiply(kernels, left, packed_keys, (rows, n, head_dim), scores, false);
            let left = pack_left(kernels, by_row(&*outputs), rows, head_dim, &mut buffers.packed_queries);
            let gradients = room(&mut buffers.score_gradients, rows * n);
            multiply(kernels, left, values, (rows, n, head_dim), gradients, false);
            self.score_gradients(block, positions.clone(), keys, scores, gradients);
            for (factor, right, sums) in
                [(&*scores, &*outputs, &mut *v_sums), (&*gradients, &*queries, &mut *k_sums)]
            {
                let left = Left::ByDepth { data: factor, stride: n };
                let left = pack_left(kernels, left, n, rows, &mut buffers.packed_scores);
                let right = Right::ByDepth { data: right, stride: head_dim };
                let right = pack_right(kernels, right, head_dim, rows, &mut buffers.packed_outputs);
                multiply(kernels, left, right, (n, head_dim, rows), sums, true);
            }
            for h in (0..n_rep).filter(|_| add_queries) {
                let left = Left::ByRow { data: &gradients[h * n..], stride: n_rep * n };
                let left = pack_left(kernels, left, positions.len(), n, &mut buffers.packed_scores);
                // SAFETY: the caller vouches for the head's queries.
                let out = unsafe { self.query_rows(block, &positions, block.kv_head * n_rep + h, 1) };
                let job = Multiply { left, left_depth: n, depth: 0..n, right: key_rows, out, add: true };
                // SAFETY: a table is handed out for an available ISA only.
                unsafe { (kernels.multiply)(job) }
            }
        }
        // SAFETY: the caller vouches for these keys and values.
        let [mut dk, mut dv] = unsafe { [self.dk, self.dv].map(|rows| self.key_rows(rows, block, keys)) };
        for t in 0..n {
            dk.row(t).copy_from_slice(&k_sums[t * head_dim..][..head_dim]);
            dv.row(t).copy_from_slice(&v_sums[t * head_dim..][..head_dim]);
        }
    }

    /// The gradients of a block of queries.
    ///
    /// # Safety
    /// Nobody else has them meanwhile.
    unsafe fn queries(&self, block: &Block, buffers: &mut Buffers) {
        let (shape, inputs, kernels) = (self.shape, self.inputs, self.kernels());
        let (n_rep, head_dim, positions) = (shape.n_rep(), shape.head_dim, block.rows.clone());
        let rows = positions.len() * n_rep;
        let gathered = room(&mut buffers.queries, rows * head_dim);
        block.gather(shape, inputs.q, positions.clone(), true, gathered);
        let left = Left::ByRow { data: gathered, stride: head_dim };
        let queries = pack_left(kernels, left, rows, head_dim, &mut buffers.packed_queries);
        let gathered = room(&mut buffers.outputs, rows * head_dim);
        block.gather(shape, inputs.d_out, positions.clone(), false, gathered);
        let left = Left::ByRow { data: gathered, stride: head_dim };
        let outputs = pack_left(kernels, left, rows, head_dim, &mut buffers.packed_outputs);
        let sums = room(&mut buffers.sums[0], rows * head_dim);
        sums.fill(0.0);
        let first = shape.seen(positions.start).start / KEYS * KEYS;
        for start in (first..positions.end).step_by(KEYS) {
            let keys = start..block.n.min(start + KEYS);
            let n = keys.len();
            let right = block.pack_keys(kernels, shape, inputs.k, &keys, true, &mut buffers.right);
            let scores = room(&mut buffers.scores, rows * n);
            multiply(kernels, queries, right, (rows, n, head_dim), scores, false);
            let values = block.pack_keys(kernels, shape, inputs.v, &keys, true, &mut buffers.values);
            let gradients = room(&mut buffers.score_gradients, rows * n);
            multiply(kernels, outputs, values, (rows, n, head_dim), gradients, false);
            self.score_gradients(block, positions.clone(), &keys, scores, gradients);
            let left = Left::ByRow { data: gradients, stride: n };
            let left = pack_left(kernels, left, rows, n, &mut buffers.packed_scores);
            let right = block.pack_keys(kernels, shape, inputs.k, &keys, false, &mut buffers.right);
            multiply(kernels, left, right, (rows, head_dim, n), sums, true);
        }
        // SAFETY: the caller vouches for these queries.
        let mut dq = unsafe { self.query_rows(block, &positions, block.kv_head * n_rep, n_rep) };
        for (r, sums) in sums.chunks_exact(head_dim).enumerate() {
            let (t, h) = (r / n_rep, r % n_rep);
            let out = &mut dq.row(t)[h * head_dim..][..head_dim];
            out.copy_from_slice(sums);
            self.table.scale(out, shape.scales[block.first + positions.start + t]);
        }
    }

    /// Scores of queries and keys become probabilities, and the gradients of these those of scores.
    fn score_gradients(
        &self,
        block: &Block,
        positions: Range<usize>,
        keys: &Range<usize>,
        scores: &mut [f32],
        gradients: &mut [f32],
    ) {
        let (n_rep, n) = (self.shape.n_rep(), keys.len());
        for (r, (scores, gradients)) in
            scores.chunks_exact_mut(n).zip(gradients.chunks_exact_mut(n)).enumerate()
        {
            let (t, h) = (positions.start + r / n_rep, r % n_rep);
            if hide(self.shape, t, keys.start, scores) {
                let at = (block.first + t) * self.shape.n_heads + block.kv_head * n_rep + h;
                let (log_sum, delta) = (self.inputs.log_sums[at], self.deltas[at]);
                // SAFETY: a table is handed out for an available ISA only.
                unsafe { (self.kernels().score_gradients)(scores, gradients, log_sum, delta) }
            } else {
                scores.fill(0.0);
                gradients.fill(0.0);
            }
        }
    }
}
