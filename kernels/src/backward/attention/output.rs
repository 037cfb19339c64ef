//! What queries get, and the logarithms of the sums that the derivative starts from.

use super::super::executor::{Buffers, Executor, Output, lock, room};
use super::super::kernels::BackwardKernels;
use super::shape::{AttentionShape, Block, KEYS, multiply, pack_left};
use crate::matmul::strip::OutStrip;
use crate::table::KernelTable;
use crate::tile::Left;

impl Executor {
    /// `out = softmax(scale · q·kᵀ)·v`, and of each row and head `log_sums = ln Σ e^(scale · q·k)`: `q` and `out`
    /// `[m, n_heads · head_dim]`, `k` and `v` `[m, n_kv_heads · head_dim]`, `log_sums [m, n_heads]`.
    ///
    /// Keys are taken 64 at a time, in order; a row's bits do not depend on the other rows.
    ///
    /// # Panics
    /// Where shapes do not fit.
    pub fn attention(
        &mut self,
        shape: &AttentionShape<'_>,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        out: &mut [f32],
        log_sums: &mut [f32],
    ) {
        shape.check();
        let (m, q_len, kv_len) = (shape.m(), shape.m() * shape.q_width(), shape.m() * shape.kv_width());
        assert_eq!((q.len(), k.len(), v.len()), (q_len, kv_len, kv_len), "queries, keys, values of {m} rows");
        assert_eq!((out.len(), log_sums.len()), (q_len, m * shape.n_heads), "outputs of {m} rows");
        let blocks = shape.blocks(shape.queries());
        let (out, log_sums) = (Output::new(out), Output::new(log_sums));
        let (n_rep, group) = (shape.n_rep(), shape.n_rep() * shape.head_dim);
        self.team.together(|| {
            self.team.run(blocks.len(), |task, worker| {
                // The last queries see most keys: they go first, so that none of them is left for the end.
                let block = &blocks[blocks.len() - 1 - task];
                let (row, n) = (block.first + block.rows.start, block.rows.len());
                let at = row * shape.q_width() + block.kv_head * group;
                // SAFETY: blocks are disjoint in their rows or their heads, and `out` has `m` rows.
                let out = unsafe { OutStrip::new(out.at(at), shape.q_width(), group, n) };
                let at = row * shape.n_heads + block.kv_head * n_rep;
                // SAFETY: as above.
                let log_sums = unsafe { OutStrip::new(log_sums.at(at), shape.n_heads, n_rep, n) };
                attend(
                    self.kernels,
                    shape,
                    block,
                    [q, k, v],
                    &mut lock(&self.workers[worker]),
                    out,
                    log_sums,
                );
            });
        });
    }
}

/// The queries of a block.
fn attend(
    table: &KernelTable,
    shape: &AttentionShape<'_>,
    block: &Block,
    [q, k, v]: [&[f32]; 3],
    buffers: &mut Buffers,
    mut out: OutStrip<'_>,
    mut log_sums: OutStrip<'_>,
) {
    let kernels: &BackwardKernels = &table.floats.backward;
    let (n_rep, head_dim, positions) = (shape.n_rep(), shape.head_dim, block.rows.clone());
    let rows = positions.len() * n_rep;
    let queries = room(&mut buffers.queries, rows * head_dim);
    block.gather(shape, q, positions.clone(), true, queries);
    let queries = Left::ByRow { data: queries, stride: head_dim };
    let queries = pack_left(kernels, queries, rows, head_dim, &mut buffers.packed_queries);
    let sums = room(&mut buffers.sums[0], rows * head_dim);
    sums.fill(0.0);
    buffers.running.clear();
    buffers.running.resize(rows, (f32::NEG_INFINITY, 0.0));
    let first = shape.seen(positions.start).start / KEYS * KEYS;
    for start in (first..positions.end).step_by(KEYS) {
        let keys = start..block.n.min(start + KEYS);
        let n = keys.len();
        let right = block.pack_keys(kernels, shape, k, &keys, true, &mut buffers.right);
        let scores = room(&mut buffers.scores, rows * n);
        multiply(kernels, queries, right, (rows, n, head_dim), scores, false);
        for (r, scores) in scores.chunks_exact_mut(n).enumerate() {
            let running = &mut buffers.running[r];
            if hide(shape, positions.start + r / n_rep, start, scores) {
                let sums = &mut sums[r * head_dim..][..head_dim];
                // SAFETY: a table is handed out for an available ISA only.
                *running = unsafe { (kernels.softmax_step)(scores, *running, sums) };
            } else {
                scores.fill(0.0);
            }
        }
        let scores =
            pack_left(kernels, Left::ByRow { data: scores, stride: n }, rows, n, &mut buffers.packed_scores);
        let values = block.pack_keys(kernels, shape, v, &keys, false, &mut buffers.values);
        multiply(kernels, scores, values, (rows, head_dim, n), sums, true);
    }
    for (r, (sums, (largest, sum))) in sums.chunks_exact(head_dim).zip(&buffers.running).enumerate() {
        let (t, h) = (r / n_rep, r % n_rep);
        let out = &mut out.row(t)[h * head_dim..][..head_dim];
        out.copy_from_slice(sums);
        table.scale(out, 1.0 / sum);
        log_sums.row(t)[h] = (f64::from(*largest) + libm::log(f64::from(*sum))) as f32;
    }
}

/// Sets the scores of keys from `start` on that the query at position `i` does not see to −∞; false where it sees none.
pub(super) fn hide(shape: &AttentionShape<'_>, i: usize, start: usize, scores: &mut [f32]) -> bool {
    let (seen, end) = (shape.seen(i), start + scores.len());
    let (from, to) = (seen.start.clamp(start, end) - start, seen.end.clamp(start, end) - start);
    scores[..from].fill(f32::NEG_INFINITY);
    scores[to.max(from)..].fill(f32::NEG_INFINITY);
    from < to
}
