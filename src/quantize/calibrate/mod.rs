//! Calibration: quantizing so that the outputs of each layer, over a text, stay near to what they were.
//!
//! The original model reads the text one layer at a time. For each matrix of the layer, the products of its inputs with each other are summed
//! (`XᵀX`), and its rows are quantized with error feedback ([`bise_kernels::quantize`]). Finished tensors and the hidden states behind a
//! finished layer go to a folder, so that a run that was interrupted goes on with the next layer.

mod collector;
mod folder;
mod prediction;
mod progress;
mod run;
mod source;
mod steps;
mod work;

pub use prediction::Prediction;
pub use progress::CalibrateProgress;
pub use run::{CalibrateOptions, Calibration};
pub use source::Calibrated;
