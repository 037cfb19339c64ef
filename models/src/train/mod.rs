//! Training LoRA beside a model's weights, which stay as they are, quantized as they are: the forward pass of a packed batch of examples, the
//! loss, and the gradient of the loss by every A and B.
//!
//! A pass keeps the input of each layer only, and computes a layer's activations again when the gradient comes to it. Forward and backward
//! stand side by side: `attention`, `feed_forward`, `products` (a matrix with LoRA beside it), `head` (logits and loss).

mod attention;
mod buffers;
mod error;
mod example;
mod experts;
mod feed_forward;
mod flops;
mod head;
mod layer;
mod lora;
mod options;
mod products;
mod step;
mod trainer;

pub use error::{Place, TrainError, Values};
pub use example::{Example, Loss};
pub use flops::Flops;
pub use options::{Targets, TrainOptions};
pub use trainer::{Factor, Parameter, Times, Trainer};
