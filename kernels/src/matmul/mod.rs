//! `y = x·Wᵀ` for quantized weights.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod dot;
pub(crate) mod driver;
#[cfg(target_arch = "x86_64")]
pub(crate) mod formats;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(target_arch = "x86_64")]
pub(crate) mod panel;
pub(crate) mod plan;
#[cfg(target_arch = "x86_64")]
pub(crate) mod rows;
pub(crate) mod scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) mod scales_32;
pub(crate) mod scratch;
pub(crate) mod shape;
pub(crate) mod strip;

pub use crate::activation::packed::PANEL_MIN_ROWS;
pub use driver::{Product, matmul, matmul_with};
pub use plan::{FEW_ROWS, STRIP_ROWS};
pub use scratch::scratch_bytes;
pub use shape::DotShape;
