//! Weights as files hold them: formats, blocks, matrices, and the way to their values.

pub mod block;
pub mod dequantize;
pub mod format;
pub mod matrix;
pub mod unpack;
