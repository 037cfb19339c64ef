//! Quantizing a model file: which tensor gets which type, and the file that comes of it.
//!
//! A [`FileType`] is a mix of tensor types, by llama.cpp's names and rules. [`Plan::new`] decides on every tensor of a [`Source`] and refuses
//! what cannot be done before anything is written; [`Plan::write`] writes the file, a few rows at a time. A [`Division`] puts the tensors of a
//! file into several, or those of several into one.

mod calibrate;
mod division;
pub(crate) mod error;
mod file_type;
mod gguf_source;
mod importance;
mod mix;
mod notes;
mod patterns;
mod plan;
mod prune;
mod slabs;
mod source;
mod write;

pub use calibrate::{CalibrateOptions, CalibrateProgress, Calibrated, Calibration, Prediction};
pub use division::{DividedPart, Division, SplitLimit};
pub use error::QuantizeError;
pub use file_type::FileType;
pub use importance::Importance;
pub use plan::{Plan, PlannedTensor, QuantizeOptions};
pub use source::{Source, SourceTensor};
