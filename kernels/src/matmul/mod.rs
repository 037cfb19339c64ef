//! `y = x·Wᵀ` for quantized weights.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod driver;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod plan;
pub(crate) mod scalar;
pub(crate) mod scratch;
pub(crate) mod strip;

pub use crate::activation::panel::TILE_MIN_ROWS;
pub use driver::{Product, matmul};
pub use plan::{FEW_ROWS, TILE_STRIP_ROWS};
pub use scratch::scratch_bytes;
