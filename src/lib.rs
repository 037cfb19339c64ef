//! Quantized Mistral models on a CPU.

pub mod sampling;
