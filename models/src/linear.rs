//! Products of activations with the model's matrices, and the feed-forwards made of them.

use std::sync::Mutex;

use bise_kernels::{ActivationBuffer, KernelTable, NotFinite, Product, StripScratch, Team, matmul};

use crate::mistral::ELEMENTS_A_TASK;
use crate::scratch::{ExpertsScratch, FFN_ROWS};
use crate::weights::{FeedForward, Matrix};

/// What every product needs besides its operands.
pub(crate) struct Linear<'a> {
    team: &'a Team,
    kernels: &'a KernelTable,
    quantized: &'a mut ActivationBuffer,
    strips: &'a [Mutex<StripScratch>],
}

impl<'a> Linear<'a> {
    pub fn new(
        team: &'a Team,
        kernels: &'a KernelTable,
        quantized: &'a mut ActivationBuffer,
        strips: &'a [Mutex<StripScratch>],
    ) -> Self {
        Linear { team, kernels, quantized, strips }
    }

    /// `y = x·Wᵀ` for each `(W, y)`: `x` is `[m, k]`. Neighbours that take activations in the same form share one parallel step.
    pub fn project<const N: usize>(
        &mut self,
        x: &[f32],
        m: usize,
        products: [(&Matrix, &mut [f32]); N],
    ) -> Result<(), NotFinite> {
        let mut products = products.map(|(w, y)| Product { w: w.view(), y });
        let mut rest = &mut products[..];
        while let Some(first) = rest.first() {
            let (kind, k) = (first.w.format().activation_kind(), first.w.k());
            let same = rest.iter().take_while(|p| p.w.format().activation_kind() == kind).count();
            let x = self.quantized.prepare(self.team, self.kernels, kind, x, m, k)?;
            let (now, later) = rest.split_at_mut(same);
            matmul(self.team, self.kernels, now, x, self.strips);
            rest = later;
        }
        Ok(())
    }

    /// `out = W2 · (silu(W1·x) ⊙ W3·x)` for at most [`FFN_ROWS`] rows.
    pub fn swiglu(
        &mut self,
        ffn: &FeedForward,
        x: &[f32],
        out: &mut [f32],
        gate: &mut [f32],
        up: &mut [f32],
    ) -> Result<(), NotFinite> {
        let (w1, w3) = (ffn.gate.view(), ffn.up.view());
        let m = x.len() / w1.k();
        let (gate, up) = (&mut gate[..m * w1.n_rows()], &mut up[..m * w3.n_rows()]);
        self.project(x, m, [(&ffn.gate, &mut *gate), (&ffn.up, &mut *up)])?;
        let kernels = self.kernels;
        self.team.for_each_chunk(gate, ELEMENTS_A_TASK, |i, gate| {
            kernels.swiglu(gate, &up[i * ELEMENTS_A_TASK..][..gate.len()]);
        });
        self.project(gate, m, [(&ffn.down, out)])
    }

    /// Mixtral's feed-forward: each token visits the `n_used` experts that its router rates highest, and their outputs are summed with
    /// the softmax of their ratings, renormalised. Experts are visited in order, so a token's sum does not depend on its neighbours.
    #[allow(clippy::too_many_arguments)]
    pub fn experts(
        &mut self,
        router: &Matrix,
        experts: &[FeedForward],
        n_used: usize,
        x: &[f32],
        out: &mut [f32],
        m: usize,
        gate: &mut [f32],
        up: &mut [f32],
        s: &mut ExpertsScratch,
    ) -> Result<(), NotFinite> {
        let d = x.len() / m;
        let probabilities = &mut s.probabilities[..m * experts.len()];
        self.project(x, m, [(router, &mut *probabilities)])?;
        s.chosen.clear();
        for row in probabilities.chunks_mut(experts.len()) {
            if !row.iter().all(|p| p.is_finite()) {
                return Err(NotFinite);
            }
            self.kernels.softmax(row);
            choose(row, n_used, &mut s.chosen);
        }
        out.fill(0.0);
        for (e, ffn) in experts.iter().enumerate() {
            let visits = s.chosen.iter().enumerate().filter(|(_, chosen)| chosen.0 == e);
            s.rows.clear();
            s.rows.extend(visits.map(|(i, chosen)| (i / n_used, chosen.1)));
            for rows in s.rows.chunks(FFN_ROWS) {
                let input = &mut s.input[..rows.len() * d];
                for (input, (t, _)) in input.chunks_mut(d).zip(rows) {
                    input.copy_from_slice(&x[t * d..][..d]);
                }
                let output = &mut s.output[..rows.len() * d];
                self.swiglu(ffn, input, output, gate, up)?;
                for (output, (t, weight)) in output.chunks(d).zip(rows) {
                    self.kernels.add_scaled(&mut out[t * d..][..d], output, *weight);
                }
            }
        }
        Ok(())
    }
}

/// Adds the `n_used` likeliest experts and their weights, which sum to 1; the first of equals is taken.
fn choose(probabilities: &mut [f32], n_used: usize, chosen: &mut Vec<(usize, f32)>) {
    let first = chosen.len();
    for _ in 0..n_used {
        let mut best = 0;
        for (e, p) in probabilities.iter().enumerate() {
            if *p > probabilities[best] {
                best = e;
            }
        }
        chosen.push((best, probabilities[best]));
        probabilities[best] = f32::NEG_INFINITY;
    }
    let sum: f32 = chosen[first..].iter().map(|(_, p)| p).sum();
    chosen[first..].iter_mut().for_each(|(_, p)| *p /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_experts_are_chosen_and_their_weights_sum_to_one() {
        let mut chosen = vec![(9, 9.0)];
        choose(&mut [0.1, 0.4, 0.4, 0.1], 2, &mut chosen);
        assert_eq!(chosen, [(9, 9.0), (1, 0.5), (2, 0.5)]);
        chosen.clear();
        choose(&mut [0.125, 0.25, 0.5, 0.125], 3, &mut chosen);
        assert_eq!(chosen.iter().map(|c| c.0).collect::<Vec<_>>(), [2, 1, 0]);
        assert!((chosen.iter().map(|c| c.1).sum::<f32>() - 1.0).abs() < 1e-6, "{chosen:?}");
    }
}
