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

// What the kernels that are left out are made of.
#![cfg_attr(bise_isa = "avx2", allow(dead_code))]

pub mod activation;
mod aligned;
pub mod attention;
#[cfg(feature = "train")]
pub mod backward;
mod cancel;
mod float_dot;
#[cfg(feature = "quantize")]
pub mod linalg;
pub mod low_rank;
pub mod matmul;
pub mod ops;
#[cfg(feature = "quantize")]
pub mod quantize;
mod registry;
pub mod rope;
mod simd;
mod table;
mod team;
#[cfg(any(feature = "quantize", feature = "train"))]
mod tile;
pub mod weights;

pub use activation::buffer::{ActivationBuffer, NotFinite};
pub use activation::kind::ActivationKind;
pub use activation::rows::{Activations, QuantizedRows};
pub use aligned::CacheLine;
pub use attention::layout::{self as kv_page, CacheType, PAGE_LEN, PageLayout};
pub use attention::{Attention, AttentionScratch, PageHead, Partials, QuerySpan, attention};
pub use cancel::CancelFlags;
pub use low_rank::LowRankPair;
pub use matmul::strip::{OutStrip, StripScratch};
pub use matmul::{Product, matmul, matmul_with};
pub use ops::LeF32;
pub use rope::fill_rope;
pub use simd::isa::Isa;
pub use table::KernelTable;
pub use team::{Poll, Team, TeamError};
pub use weights::dequantize::{self, dequantize_row};
pub use weights::format::Format;
pub use weights::matrix::{QuantMatrix, ShapeError};
