//! Weights as files store them: formats, blocks, matrices, unpacking and dequantizing.

pub mod block;
pub mod dequantize;
pub mod format;
pub mod matrix;
pub mod unpack;
