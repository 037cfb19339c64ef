//! A layer: its feed-forward, dense or sparse, and its backward pass.

use crate::site::Projection;
use crate::train::buffers::Activations;
use crate::train::error::{Place, TrainError, Values};
use crate::train::lora::Loras;
use crate::train::step::Step;
use crate::weights::{FeedForwards, Layer};

impl Step<'_> {
    /// The feed-forward of a layer, dense or sparse.
    pub fn feed_forwards(
        &mut self,
        i: usize,
        layer: &Layer,
        loras: &Loras,
        x: &mut [f32],
        kept: &mut Activations,
    ) -> Result<(), TrainError> {
        match &layer.ffn {
            FeedForwards::Dense(ffn) => self.feed_forward(i, layer, ffn, loras, x, kept),
            FeedForwards::Experts { router, experts } => self.experts(i, layer, (router, experts), x, kept),
        }
    }

    /// From `dx`, the gradient behind layer `i`, to the gradient before it, where that is wanted. `x` is the layer's input,
    /// `between` what it is behind attention, and `kept` what attention computed.
    #[allow(clippy::too_many_arguments)]
    pub fn layer_backward(
        &mut self,
        i: usize,
        layer: &Layer,
        loras: &mut Loras,
        x: &[f32],
        between: &[f32],
        kept: &mut Activations,
        dx: &mut [f32],
        is_wanted: bool,
    ) -> Result<(), TrainError> {
        const ATTENTION: [Projection; 4] =
            [Projection::AttnQ, Projection::AttnK, Projection::AttnV, Projection::AttnOutput];
        let goes_on = is_wanted || loras.has_any(&ATTENTION);
        match &layer.ffn {
            FeedForwards::Dense(ffn) => {
                self.feed_forward_backward(i, layer, ffn, loras, between, kept, dx, goes_on)?
            }
            FeedForwards::Experts { router, experts } if goes_on => {
                self.experts_backward(i, layer, (router, experts), between, kept, dx)?
            }
            FeedForwards::Experts { .. } => {}
        }
        if goes_on {
            self.attention_backward(i, layer, loras, x, kept, dx, is_wanted)?;
        }
        self.products.enter(Values::Gradients, Place::Adapter(i))?;
        if loras.iter().all(|lora| lora.is_sound()) { Ok(()) } else { Err(self.products.not_finite()) }
    }
}
