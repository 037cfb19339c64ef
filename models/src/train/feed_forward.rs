//! A layer's feed-forward, forward and backward.

use std::ops::Range;

use crate::linear::Target;
use crate::site::{Projection, Site};
use crate::train::buffers::{Activations, FFN_ROWS};
use crate::train::error::{Place, TrainError, Values};
use crate::train::lora::Loras;
use crate::train::products::InputGradient;
use crate::train::step::Step;
use crate::weights::{FeedForward, Layer};

impl Step<'_> {
    /// `x += W2 · (silu(W1·h) ⊙ W3·h)`, where `h = rms_norm(x)`
    pub fn feed_forward(
        &mut self,
        i: usize,
        layer: &Layer,
        ffn: &FeedForward,
        loras: &Loras,
        x: &mut [f32],
        kept: &mut Activations,
    ) -> Result<(), TrainError> {
        self.products.enter(Values::Activations, Place::FeedForward(i))?;
        for rows in self.ffn_chunks() {
            let (first, n, d) = (rows.start, rows.len(), self.config.n_embd);
            let x = &mut x[first * d..][..n * d];
            self.gate_and_up(i, layer, ffn, loras, x, first, kept, false)?;
            let site = Site { layer: i, projection: Projection::FfnDown, expert: None };
            let (act, out) = (&mut self.s.act[..n * self.config.n_ff], &mut self.s.dh[..n * d]);
            self.products.forward(first, act, [Target { site, w: &ffn.down, y: &mut *out }], loras)?;
            self.products.add(x, out);
        }
        self.products.check(x)
    }

    /// From `dx`, the gradient behind [`Step::feed_forward`], to the gradient before it, if that is wanted. `x` is its input.
    ///
    /// ```text
    /// d(silu(gate) ⊙ up) = dx·W2
    /// dgate, dup = swiglu'(gate, up, …)
    /// dh = dgate·W1 + dup·W3
    /// dx += rms_norm'(x, dh)
    /// ```
    #[allow(clippy::too_many_arguments)]
    pub fn feed_forward_backward(
        &mut self,
        i: usize,
        layer: &Layer,
        ffn: &FeedForward,
        loras: &mut Loras,
        x: &[f32],
        kept: &mut Activations,
        dx: &mut [f32],
        is_wanted: bool,
    ) -> Result<(), TrainError> {
        let (d, ff) = (self.config.n_embd, self.config.n_ff);
        let goes_on = is_wanted || loras.has_any(&[Projection::FfnGate, Projection::FfnUp]);
        for rows in self.ffn_chunks() {
            let (first, n) = (rows.start, rows.len());
            let (x, dx) = (&x[first * d..][..n * d], &mut dx[first * d..][..n * d]);
            self.products.enter(Values::Activations, Place::FeedForward(i))?;
            self.gate_and_up(i, layer, ffn, loras, x, first, kept, kept.is_whole)?;
            self.products.enter(Values::Gradients, Place::FeedForward(i))?;
            let (gate, up) = kept.gate_and_up(first, n, ff);
            let (h, dh) = (&self.s.h[..n * d], &mut self.s.dh[..n * d]);
            let (act, dact) = (&self.s.act[..n * ff], &mut self.s.dact[..n * ff]);
            let products = &mut self.products;
            let lora = loras.get_mut(Projection::FfnDown);
            products.backward(first, &ffn.down, lora, act, dx, InputGradient::set_if(goes_on, dact));
            if !goes_on {
                continue;
            }
            products.executor.swiglu_backward(gate, up, dact);
            let (lora, to) = (loras.get_mut(Projection::FfnGate), InputGradient::set_if(is_wanted, dh));
            products.backward(first, &ffn.gate, lora, h, gate, to);
            let (lora, to) = (loras.get_mut(Projection::FfnUp), InputGradient::add_if(is_wanted, dh));
            products.backward(first, &ffn.up, lora, h, up, to);
            if is_wanted {
                products.executor.rms_norm_backward(x, layer.ffn_norm.view(), self.config.rms_eps, dh, dx);
                products.check(dx)?;
            }
        }
        Ok(())
    }

    /// `h = rms_norm(x)`, `gate = W1·h`, `up = W3·h` and `act = silu(gate) ⊙ up` of the rows from `first` on, which `x` holds.
    /// Where `is_known`, the products are there already.
    #[allow(clippy::too_many_arguments)]
    fn gate_and_up(
        &mut self,
        i: usize,
        layer: &Layer,
        ffn: &FeedForward,
        loras: &Loras,
        x: &[f32],
        first: usize,
        kept: &mut Activations,
        is_known: bool,
    ) -> Result<(), TrainError> {
        let (d, ff) = (self.config.n_embd, self.config.n_ff);
        let n = x.len() / d;
        let h = &mut self.s.h[..n * d];
        self.products.rms_norm(x, &layer.ffn_norm, self.config.rms_eps, h)?;
        let (gate, up) = kept.gate_and_up(first, n, ff);
        if !is_known {
            let site = |projection| Site { layer: i, projection, expert: None };
            let targets = [
                Target { site: site(Projection::FfnGate), w: &ffn.gate, y: &mut *gate },
                Target { site: site(Projection::FfnUp), w: &ffn.up, y: &mut *up },
            ];
            self.products.forward(first, h, targets, loras)?;
        }
        let act = &mut self.s.act[..n * ff];
        self.products.executor.swiglu(gate, up, act);
        Ok(())
    }

    /// The rows of the batch, as many as a feed-forward takes at a time.
    fn ffn_chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let m = self.batch.n();
        (0..m).step_by(FFN_ROWS).map(move |first| first..m.min(first + FFN_ROWS))
    }
}
