//! A sparse feed-forward, forward and backward: each row visits some of many experts (<https://arxiv.org/abs/2401.04088>).
//!
//! Its matrices have no LoRA. The gradient passes through the chosen experts, and through the weights that the router gives them.

use crate::linear::{Target, choose};
use crate::site::{Projection, Site};
use crate::train::buffers::{Activations, FFN_ROWS};
use crate::train::error::{Place, TrainError, Values};
use crate::train::lora::Loras;
use crate::train::step::Step;
use crate::weights::{FeedForward, Layer, Matrix};

impl Step<'_> {
    /// `x += Σ weight[e] · W2[e]·(silu(W1[e]·h) ⊙ W3[e]·h)` over the experts that the router chooses for a row, where `h = rms_norm(x)`
    pub fn experts(
        &mut self,
        i: usize,
        layer: &Layer,
        (router, experts): (&Matrix, &[FeedForward]),
        x: &mut [f32],
        kept: &mut Activations,
    ) -> Result<(), TrainError> {
        self.products.enter(Values::Activations, Place::FeedForward(i))?;
        self.route(i, layer, router, x)?;
        let d = self.config.n_embd;
        self.s.dh[..x.len()].fill(0.0);
        for (e, ffn) in experts.iter().enumerate() {
            self.visit(e);
            let visits = std::mem::take(&mut self.s.experts.visits);
            for visits in visits.chunks(FFN_ROWS) {
                self.expert(i, ffn, visits, kept)?;
                let kernels = self.products.executor.kernels();
                for (y, visit) in self.s.experts.y.chunks(d).zip(visits) {
                    let row = self.row(*visit);
                    let weight = self.s.experts.chosen[*visit].1;
                    kernels.add_scaled(&mut self.s.dh[row * d..][..d], y, weight);
                }
            }
            self.s.experts.visits = visits;
        }
        self.products.add(x, &self.s.dh[..x.len()]);
        self.products.check(x)
    }

    /// From `dx`, the gradient behind [`Step::experts`], to the gradient before it. `x` is its input.
    ///
    /// ```text
    /// dweight[e] = dx · y[e], where y[e] is what expert e gives
    /// dh = Σ ffn'(h, weight[e]·dx) + drating·Wr, where drating[e] = weight[e]·(dweight[e] − Σ weight·dweight)
    /// dx += rms_norm'(x, dh)
    /// ```
    pub fn experts_backward(
        &mut self,
        i: usize,
        layer: &Layer,
        (router, experts): (&Matrix, &[FeedForward]),
        x: &[f32],
        kept: &mut Activations,
        dx: &mut [f32],
    ) -> Result<(), TrainError> {
        self.products.enter(Values::Activations, Place::FeedForward(i))?;
        self.route(i, layer, router, x)?;
        let (d, ff) = (self.config.n_embd, self.config.n_ff);
        self.s.dh[..x.len()].fill(0.0);
        for (e, ffn) in experts.iter().enumerate() {
            self.visit(e);
            let visits = std::mem::take(&mut self.s.experts.visits);
            for visits in visits.chunks(FFN_ROWS) {
                self.expert(i, ffn, visits, kept)?;
                let n = visits.len();
                for (at, visit) in visits.iter().enumerate() {
                    let g = &dx[self.row(*visit) * d..][..d];
                    let s = &mut self.s.experts;
                    let (y, weight) = (&s.y[at * d..][..d], s.chosen[*visit].1);
                    let product = g.iter().zip(y).map(|(g, y)| f64::from(*g) * f64::from(*y));
                    s.weight_gradients[*visit] = product.sum::<f64>() as f32;
                    s.dy[at * d..][..d].iter_mut().zip(g).for_each(|(dy, g)| *dy = weight * g);
                }
                let (gate, up) = kept.gate_and_up(0, n, ff);
                let (dy, dact) = (&self.s.experts.dy[..n * d], &mut self.s.dact[..n * ff]);
                let executor = &mut *self.products.executor;
                executor.product_backward(ffn.down.view(), dy, dact, false);
                executor.swiglu_backward(gate, up, dact);
                let dh = &mut self.s.experts.dx[..n * d];
                executor.product_backward(ffn.gate.view(), gate, dh, false);
                executor.product_backward(ffn.up.view(), up, dh, true);
                let kernels = executor.kernels();
                for (at, visit) in visits.iter().enumerate() {
                    let row = self.row(*visit);
                    kernels.add_assign(&mut self.s.dh[row * d..][..d], &self.s.experts.dx[at * d..][..d]);
                }
            }
            self.s.experts.visits = visits;
        }
        self.products.enter(Values::Gradients, Place::FeedForward(i))?;
        self.router_backward(router, experts.len());
        let dh = &self.s.dh[..x.len()];
        self.products.executor.rms_norm_backward(x, layer.ffn_norm.view(), self.config.rms_eps, dh, dx);
        self.products.check(dx)
    }

    /// `h = rms_norm(x)`, and the experts of each row with their weights: softmax over those that are chosen.
    fn route(&mut self, i: usize, layer: &Layer, router: &Matrix, x: &[f32]) -> Result<(), TrainError> {
        let n_experts = router.view().n_rows();
        let n = x.len() / self.config.n_embd;
        let (h, ratings) = (&mut self.s.h[..x.len()], &mut self.s.experts.ratings[..n * n_experts]);
        self.products.rms_norm(x, &layer.ffn_norm, self.config.rms_eps, h)?;
        let site = Site { layer: i, projection: Projection::FfnGateInp, expert: None };
        self.products.forward(0, h, [Target { site, w: router, y: &mut *ratings }], &Loras::default())?;
        self.products.check(ratings)?;
        let n_used = self.config.experts.map_or(1, |e| e.n_used);
        self.s.experts.chosen.clear();
        for ratings in ratings.chunks_mut(n_experts) {
            self.products.executor.kernels().softmax(ratings);
            choose(ratings, n_used, &mut self.s.experts.chosen);
        }
        Ok(())
    }

    /// `dh += drating·Wr`
    fn router_backward(&mut self, router: &Matrix, n_experts: usize) {
        let (m, d, n_used) = (self.batch.n(), self.config.n_embd, self.n_used());
        let s = &mut self.s.experts;
        let ratings = &mut s.ratings[..m * n_experts];
        ratings.fill(0.0);
        let choices = s.chosen.chunks(n_used).zip(s.weight_gradients.chunks(n_used));
        for (ratings, (chosen, gradients)) in ratings.chunks_mut(n_experts).zip(choices) {
            let mean: f32 = chosen.iter().zip(gradients).map(|((_, weight), g)| weight * g).sum();
            for ((e, weight), g) in chosen.iter().zip(gradients) {
                ratings[*e] = weight * (g - mean);
            }
        }
        self.products.executor.product_backward(router.view(), ratings, &mut self.s.dh[..m * d], true);
    }

    /// Lists the visits of expert `e`, in order of rows.
    fn visit(&mut self, e: usize) {
        let s = &mut self.s.experts;
        s.visits.clear();
        let visits = s.chosen.iter().enumerate().filter(|(_, chosen)| chosen.0 == e);
        s.visits.extend(visits.map(|(visit, _)| visit));
    }

    /// What an expert gives the rows that visit it, in `y`, and its activations on the way.
    fn expert(
        &mut self,
        i: usize,
        ffn: &FeedForward,
        visits: &[usize],
        kept: &mut Activations,
    ) -> Result<(), TrainError> {
        let (n, d, ff, n_used) = (visits.len(), self.config.n_embd, self.config.n_ff, self.n_used());
        let s = &mut *self.s;
        let (x, y) = (&mut s.experts.x[..n * d], &mut s.experts.y[..n * d]);
        for (x, visit) in x.chunks_mut(d).zip(visits) {
            x.copy_from_slice(&s.h[visit / n_used * d..][..d]);
        }
        let (gate, up) = kept.gate_and_up(0, n, ff);
        let (act, none) = (&mut s.act[..n * ff], Loras::default());
        let site = |projection| Site { layer: i, projection, expert: None };
        let targets = [
            Target { site: site(Projection::FfnGate), w: &ffn.gate, y: &mut *gate },
            Target { site: site(Projection::FfnUp), w: &ffn.up, y: &mut *up },
        ];
        self.products.forward(0, x, targets, &none)?;
        self.products.executor.swiglu(gate, up, act);
        let down = Target { site: site(Projection::FfnDown), w: &ffn.down, y };
        self.products.forward(0, act, [down], &none)
    }

    /// The row of a visit.
    fn row(&self, visit: usize) -> usize {
        visit / self.n_used()
    }

    fn n_used(&self) -> usize {
        self.config.experts.map_or(1, |e| e.n_used)
    }
}
