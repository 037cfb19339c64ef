//! Quantized activations: how they are made, and how kernels read them.

pub(crate) mod buffer;
pub(crate) mod kind;
#[cfg(target_arch = "x86_64")]
pub(crate) mod pack;
pub mod packed;
pub mod quantize;
pub(crate) mod rows;
