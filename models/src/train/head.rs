//! From the last hidden states to the loss, and back.

use crate::linear::Target;
use crate::site::{Projection, Site};
use crate::train::error::{Place, TrainError, Values};
use crate::train::example::Loss;
use crate::train::lora::Loras;
use crate::train::step::Step;
use crate::weights::Weights;

impl Step<'_> {
    /// `Σ −ln softmax(W·h)[label]`, where `h = rms_norm(x)`, over the rows that predict a label: only their logits are computed, some rows
    /// at a time. `dx` becomes its gradient, if that is wanted:
    ///
    /// ```text
    /// dlogits = softmax(logits) − onehot(label)
    /// dx = rms_norm'(x, dlogits·W)
    /// ```
    pub fn loss(
        &mut self,
        weights: &Weights,
        x: &[f32],
        mut dx: Option<&mut [f32]>,
    ) -> Result<Loss, TrainError> {
        let (d, n_vocab, eps) = (self.config.n_embd, self.config.n_vocab, self.config.rms_eps);
        let (layer, norm, w) = (weights.layers.len(), &weights.output_norm, &weights.output);
        if let Some(dx) = dx.as_deref_mut() {
            dx.fill(0.0);
        }
        let mut loss = Loss::default();
        for labels in self.batch.labels.chunks(self.s.losses.len()) {
            let n = labels.len();
            self.products.enter(Values::Activations, Place::Output)?;
            let label_x = &mut self.s.label_x[..n * d];
            for (to, label) in label_x.chunks_mut(d).zip(labels) {
                to.copy_from_slice(&x[label.row * d..][..d]);
            }
            let (h, logits) = (&mut self.s.h[..n * d], &mut self.s.logits[..n * n_vocab]);
            self.products.rms_norm(label_x, norm, eps, h)?;
            let site = Site { layer, projection: Projection::Output, expert: None };
            self.products.forward(0, h, [Target { site, w, y: &mut *logits }], &Loras::default())?;

            let (losses, tokens) = (&mut self.s.losses[..n], &mut self.s.label_tokens[..n]);
            tokens.iter_mut().zip(labels).for_each(|(token, label)| *token = label.token);
            let executor = &mut *self.products.executor;
            match dx {
                Some(_) => executor.cross_entropy(logits, tokens, losses),
                None => executor.log_losses(logits, tokens, losses),
            }
            for (value, label) in losses.iter().zip(labels) {
                if !value.is_finite() {
                    return Err(TrainError::LossNotFinite { position: self.batch.positions[label.row] + 1 });
                }
                loss.add(*value);
            }
            let Some(dx) = dx.as_deref_mut() else { continue };
            let (dh, label_dx) = (&mut self.s.dh[..n * d], &mut self.s.label_dx[..n * d]);
            executor.product_backward(w.view(), logits, dh, false);
            label_dx.fill(0.0);
            executor.rms_norm_backward(label_x, norm.view(), eps, dh, label_dx);
            for (from, label) in label_dx.chunks(d).zip(labels) {
                dx[label.row * d..][..d].copy_from_slice(from);
            }
        }
        Ok(loss)
    }
}
