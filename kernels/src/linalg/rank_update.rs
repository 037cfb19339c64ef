//! Products of a matrix with itself, added to another.

use super::product::BlockJob;
use super::shared::Shared;
use super::workspace::Workspace;
use crate::table::KernelTable;
use crate::team::Team;
use crate::tile::Left;

/// Columns of a block that one thread computes.
const BLOCK: usize = 192;

/// `c[i][j] += sign · Σ x[t][i] · x[t][j]` for `from ≤ i ≤ j < k`, with `x [n, k]`; `c [k − from, k]` begins with row `from`.
#[allow(clippy::too_many_arguments)]
pub(super) fn add_products(
    team: &Team,
    kernels: &KernelTable,
    workspace: &Workspace,
    x: &[f32],
    c: &mut [f32],
    k: usize,
    from: usize,
    sign: f32,
) {
    let n_blocks = (k - from).div_ceil(BLOCK);
    let blocks: Vec<(usize, usize)> =
        (0..n_blocks).flat_map(|i| (i..n_blocks).map(move |j| (i, j))).collect();
    let c = Shared::new(c);
    team.together(|| {
        team.run(blocks.len(), |task, worker| {
            let (i, j) = blocks[task];
            let columns = |block: usize| from + block * BLOCK..k.min(from + (block + 1) * BLOCK);
            let (left, right) = (columns(i), columns(j));
            let mut buffers = workspace.of(worker);
            let buffers = &mut *buffers;
            buffers.block.resize(left.len() * right.len(), 0.0);
            kernels.product_block(BlockJob {
                left: Left::ByDepth { data: &x[left.start..], stride: k },
                right: &x[right.start..],
                right_stride: k,
                m: left.len(),
                n: right.len(),
                depth: x.len() / k,
                packed: &mut buffers.packed,
                out: &mut buffers.block,
            });
            for (row, sums) in left.clone().zip(buffers.block.chunks(right.len())) {
                let first = row.max(right.start);
                // SAFETY: a block belongs to one task, and a row's part of it is within that.
                let part = unsafe { c.part((row - from) * k + first, right.end - first) };
                for (c, sum) in part.iter_mut().zip(&sums[first - right.start..]) {
                    *c += sign * sum;
                }
            }
        });
    });
}
