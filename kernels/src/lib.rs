//! Numbers in, numbers out: the arithmetic of a quantized Mistral on a CPU.
//!
//! No files, no models, and no allocation once a forward pass has begun.
//!
//! # Shapes
//!
//! A weight matrix `W` is `[n_rows, k]`, rows stored one after the other as blocks of a [`Format`].
//! Activations `x` are `[m, k]`, one row a token; a product is `y = x·Wᵀ`, `[m, n_rows]`, row-major.
//!
//! # One answer
//!
//! Every [`Isa`] gives the same bits as [`Isa::Scalar`]. Integer products are exact; floats are combined in an order that is a
//! property of the data, never of the number of lanes, rows, columns or threads a kernel happens to take at a time.

pub mod activation_tile;
pub mod activations;
pub mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod block;
pub mod dequantize;
mod dispatch;
mod float_dot;
mod format;
mod isa;
pub mod kv_page;
mod lanes;
pub mod matmul;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod ops;
mod quant_matrix;
pub mod quantize;
pub mod rope;
mod scalar;
mod team;
pub mod unpack;

pub use activations::{ActivationBuffer, ActivationKind, Activations, NotFinite, QuantizedRows};
pub use attention::{Attention, AttentionScratch, PageHead, Partials, attention};
pub use dequantize::dequantize_row;
pub use dispatch::{CacheLine, KernelTable, OutStrip, StripScratch};
pub use format::Format;
pub use isa::Isa;
pub use kv_page::{CacheType, PAGE_LEN, PageLayout};
pub use matmul::{Product, matmul};
pub use ops::LeF32;
pub use quant_matrix::{QuantMatrix, ShapeError};
pub use rope::fill_rope;
pub use team::Team;
