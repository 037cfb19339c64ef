//! Products of activations with the model's matrices, and the feed-forwards made of them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bise_kernels::low_rank::Addends;
use bise_kernels::{ActivationBuffer, CancelFlags, KernelTable, Product, StripScratch, Team, matmul_with};

use crate::adapter::applied::AppliedAdapters;
use crate::error::{ForwardError, SpanError};
use crate::rows::RowsMut;
use crate::scratch::{ExpertsScratch, FFN_ROWS};
use crate::site::{Hook, Projection, Site};
use crate::stream::WeightStream;
use crate::weights::{FeedForward, Matrix, Norm};

/// The number of elements in a task of an elementwise step.
pub(crate) const ELEMENTS_A_TASK: usize = 4096;

/// A weight matrix, its place in the model, and the output of its product.
pub(crate) struct Target<'a> {
    pub site: Site,
    pub w: &'a Matrix,
    /// `[m, rows of w]`
    pub y: &'a mut [f32],
}

/// What every product of a pass needs besides its operands, and the errors of the pass's spans.
pub(crate) struct Linear<'a> {
    pub team: &'a Team,
    pub kernels: &'a KernelTable,
    pub hook: Option<&'a dyn Hook>,
    pub cancel: CancelFlags<'a>,
    /// What has weights read ahead, where they are streamed.
    pub stream: Option<&'a WeightStream>,
    pub quantized: &'a mut ActivationBuffer,
    pub strips: &'a [Mutex<StripScratch>],
    pub adapters: &'a mut AppliedAdapters,
    /// The first error of each span.
    pub errors: &'a mut [Option<SpanError>],
    /// The error of spans whose activations are not finite at this point of the pass.
    pub not_finite: SpanError,
}

impl Linear<'_> {
    /// Returns an error if the pass was cancelled.
    pub fn check_cancel(&self) -> Result<(), ForwardError> {
        if self.cancel.is_set() { Err(ForwardError::Cancelled) } else { Ok(()) }
    }

    /// The weights of layer `i` are needed now; those of the output come after the last layer's.
    pub fn stream_to(&self, i: usize) {
        if let Some(stream) = self.stream {
            stream.enter(i);
        }
    }

    /// Records that activations of a span are not finite.
    pub fn fail(&mut self, span: usize) {
        let adapters = &*self.adapters;
        self.errors[span].get_or_insert_with(|| self.not_finite.clone().beside(|| adapters.names(span)));
    }

    /// Fails the spans of rows that are not finite, and sets all rows of failed spans to zero, so that they can be carried along without
    /// affecting the spans that share a product with them. `spans` is the span of each row.
    pub fn clear_not_finite(&mut self, mut rows: RowsMut<'_>, spans: &[usize]) {
        for (i, span) in spans.iter().enumerate() {
            if !rows.row(i).iter().all(|value| value.is_finite()) {
                self.fail(*span);
            }
        }
        for (i, span) in spans.iter().enumerate() {
            if self.errors[*span].is_some() {
                rows.row(i).fill(0.0);
            }
        }
    }

    /// `out = rms_norm(x)`; rows whose mean square is not finite are cleared, in `x` too.
    pub fn rms_norm(&mut self, mut x: RowsMut<'_>, spans: &[usize], norm: &Norm, eps: f32, out: &mut [f32]) {
        let (team, kernels, d) = (self.team, self.kernels, x.width());
        let is_finite = AtomicBool::new(true);
        let rows = x.view();
        team.for_each_chunk(out, d, |t, out| {
            if !kernels.rms_norm(rows.row(t), norm.view(), eps, out) {
                is_finite.store(false, Relaxed);
            }
        });
        if is_finite.into_inner() {
            return;
        }
        for (t, span) in spans.iter().enumerate() {
            if !kernels.rms_norm(x.row(t), norm.view(), eps, &mut out[t * d..][..d]) {
                self.fail(*span);
            }
        }
        for (t, span) in spans.iter().enumerate() {
            if self.errors[*span].is_some() {
                x.row(t).fill(0.0);
                out[t * d..][..d].fill(0.0);
            }
        }
    }

    /// `x += y`
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        self.team.for_each_chunk(x, ELEMENTS_A_TASK, |i, x| {
            self.kernels.add_assign(x, &y[i * ELEMENTS_A_TASK..][..x.len()]);
        });
    }

    /// `y = x·Wᵀ` for each target, and what the adapters of the rows add to it. Neighbours that take activations in the same form share one parallel step. `spans` tells the span of
    /// each row; rows that are not finite are cleared with all others of their span.
    pub fn project<const N: usize>(
        &mut self,
        mut x: RowsMut<'_>,
        spans: &[usize],
        targets: [Target<'_>; N],
    ) -> Result<(), ForwardError> {
        let (m, k) = (x.n(), x.width());
        let sites = targets.each_ref().map(|target| target.site);
        self.adapters.find(&sites, spans);
        let mut products = targets.map(|target| Product { w: target.w.view(), y: target.y });
        let mut first = 0;
        while first < N {
            self.check_cancel()?;
            let kind = products[first].w.format().activation_kind();
            let same =
                products[first..].iter().take_while(|p| p.w.format().activation_kind() == kind).count();
            let activations =
                match self.quantized.prepare(self.team, self.kernels, kind, x.view().data(), m, k) {
                    Ok(activations) => activations,
                    Err(_) => {
                        self.clear_not_finite(x.reborrow(), spans);
                        let cleared = x.view().data();
                        self.quantized
                            .prepare(self.team, self.kernels, kind, cleared, m, k)
                            .expect("finite rows")
                    }
                };
            let (kernels, cancel) = (self.kernels, self.cancel);
            let targets = first..first + same;
            let (n, addend, u) = self.adapters.beside(targets.clone(), x.view());
            let products = &mut products[targets];
            // SAFETY: `addend` looks up what was found before, which does not change while it is borrowed.
            let addends = unsafe { Addends::new(n, &addend, u) };
            matmul_with(self.team, kernels, products, activations, self.strips, cancel, Some(addends));
            first += same;
        }
        self.check_cancel()?;
        if let Some(hook) = self.hook {
            for (site, product) in sites.into_iter().zip(&mut products) {
                hook.product(site, x.view(), RowsMut::new(product.y, product.w.n_rows()));
            }
        }
        Ok(())
    }

    /// `out = W2 · (silu(W1·x) ⊙ W3·x)` for at most [`FFN_ROWS`] rows; `site` gives layer and expert.
    pub fn swiglu(
        &mut self,
        site: Site,
        ffn: &FeedForward,
        x: RowsMut<'_>,
        spans: &[usize],
        out: &mut [f32],
        [gate, up]: [&mut [f32]; 2],
    ) -> Result<(), ForwardError> {
        let n_ff = ffn.gate.view().n_rows();
        let (gate, up) = (&mut gate[..x.n() * n_ff], &mut up[..x.n() * n_ff]);
        let at = |projection| Site { projection, ..site };
        let targets = [
            Target { site: at(Projection::FfnGate), w: &ffn.gate, y: &mut *gate },
            Target { site: at(Projection::FfnUp), w: &ffn.up, y: &mut *up },
        ];
        self.project(x, spans, targets)?;
        let kernels = self.kernels;
        self.team.for_each_chunk(gate, ELEMENTS_A_TASK, |i, gate| {
            kernels.swiglu(gate, &up[i * ELEMENTS_A_TASK..][..gate.len()]);
        });
        let down = Target { site: at(Projection::FfnDown), w: &ffn.down, y: out };
        self.project(RowsMut::new(gate, n_ff), spans, [down])
    }

    /// Mixtral's feed-forward: each token visits the `n_used` experts that its router rates highest, and their outputs are summed with
    /// the softmax of their ratings, renormalised. Experts are visited in order, so a token's sum does not depend on its neighbours.
    #[allow(clippy::too_many_arguments)]
    pub fn experts(
        &mut self,
        layer: usize,
        router: &Matrix,
        experts: &[FeedForward],
        n_used: usize,
        mut x: RowsMut<'_>,
        spans: &[usize],
        mut out: RowsMut<'_>,
        [gate, up]: [&mut [f32]; 2],
        s: &mut ExpertsScratch,
    ) -> Result<(), ForwardError> {
        let (m, d) = (x.n(), x.width());
        let site = Site { layer, projection: Projection::FfnGateInp, expert: None };
        let probabilities = &mut s.probabilities[..m * experts.len()];
        self.project(x.reborrow(), spans, [Target { site, w: router, y: &mut *probabilities }])?;
        if !probabilities.iter().all(|p| p.is_finite()) {
            self.clear_not_finite(RowsMut::new(&mut *probabilities, experts.len()), spans);
        }
        s.chosen.clear();
        for row in probabilities.chunks_mut(experts.len()) {
            self.kernels.softmax(row);
            choose(row, n_used, &mut s.chosen);
        }
        if let Some(stream) = self.stream {
            stream.choose(layer, |e| s.chosen.iter().any(|chosen| chosen.0 == e));
        }
        out.data().fill(0.0);
        for (e, ffn) in experts.iter().enumerate() {
            let visits = s.chosen.iter().enumerate().filter(|(_, chosen)| chosen.0 == e);
            s.rows.clear();
            s.rows.extend(visits.map(|(i, chosen)| (i / n_used, chosen.1)));
            for rows in s.rows.chunks(FFN_ROWS) {
                let input = &mut s.input[..rows.len() * d];
                s.spans.clear();
                for (input, (t, _)) in input.chunks_mut(d).zip(rows) {
                    input.copy_from_slice(x.view().row(*t));
                    s.spans.push(spans[*t]);
                }
                let output = &mut s.output[..rows.len() * d];
                let site = Site { expert: Some(e), ..site };
                let (gate, up) = (&mut gate[..], &mut up[..]);
                self.swiglu(site, ffn, RowsMut::new(input, d), &s.spans, output, [gate, up])?;
                for (output, (t, weight)) in output.chunks(d).zip(rows) {
                    self.kernels.add_scaled(out.row(*t), output, *weight);
                }
            }
        }
        Ok(())
    }
}

/// Appends the `n_used` most likely experts with their weights, which sum to 1. Of equals, the first is taken.
pub(crate) fn choose(probabilities: &mut [f32], n_used: usize, chosen: &mut Vec<(usize, f32)>) {
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
