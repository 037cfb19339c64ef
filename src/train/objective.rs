//! What a run trains, as the loop sees it.

use bise_models::train::{Example, Loss, TrainError};

/// Weights, their gradients, and a loss.
pub trait Objective {
    /// Adds the gradient of the loss of `examples`, summed over label tokens, to the gradients, and returns that loss.
    ///
    /// # Errors
    /// For examples that do not fit, and numbers that are not finite.
    fn backward(&mut self, examples: &[Example<'_>]) -> Result<Loss, TrainError>;

    /// The loss of `examples`, without dropout.
    ///
    /// # Errors
    /// As [`Objective::backward`].
    fn loss(&mut self, examples: &[Example<'_>]) -> Result<Loss, TrainError>;

    /// Calls `visit` with each matrix that is trained and its gradient, always in the same order.
    fn visit(&mut self, visit: &mut dyn FnMut(Weights<'_>));

    /// Sets the gradients to 0.
    fn clear_gradients(&mut self);
}

/// One matrix that is trained.
pub struct Weights<'a> {
    /// Its name, as in `blk.0.attn_q.lora_a`.
    pub name: String,
    /// Its values.
    pub values: &'a mut [f32],
    /// What the loss changes by when they do.
    pub gradient: &'a [f32],
}
