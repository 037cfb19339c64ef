//! Checkpoints whose weights are quantized already: AWQ, GPTQ and compressed-tensors.
//!
//! All three store integers of 4 or 8 bits, a scale and a zero point for a group of weights of one row: `w = (q − z) · s`. Groups are multiples of
//! 32 weights, so GGUF's blocks of 32 hold the same integers with the same scale:
//!
//! | type | holds | when |
//! |---|---|---|
//! | Q4_0 | `q − z` and `s`, exactly | 4 bits, every `z` is 8 |
//! | Q5_0 | `q − z` and `s`, exactly | 4 bits |
//! | Q8_0 | `q − z` and `s`, exactly | 4 bits, or 8 bits and every `z` is 128 |
//! | Q4_1 | `q` and `s` exactly, `−z · s` rounded to a half | 4 bits |
//!
//! [`Scheme::find`] reads how a checkpoint is quantized, [`Scheme::open`] opens one layer of it, and [`PackedLinear`] gives rows of its weights as
//! blocks or as f32. Integers and scales stay in the mapped file until their rows are asked for.

mod awq;
mod blocks;
mod compressed_tensors;
mod gptq;
mod groups;
mod linear;
mod order;
mod parts;
mod refused;
mod scheme;
mod settings;
mod words;

pub use linear::{NotHeld, PackedLinear};
pub use parts::{StoredTensor, Tensors};
pub use scheme::{Scheme, stated};
