//! Activations: their form, their rows, and the layouts that the kernels read.

pub(crate) mod buffer;
pub(crate) mod kind;
pub(crate) mod pack;
pub mod panel;
pub mod quantize;
pub(crate) mod rows;

pub use pack::pack;
