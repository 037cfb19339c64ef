//! Dense linear algebra in f32 for calibration: products by blocks, sums of `XᵀX`, Cholesky factors.
//!
//! An element of a product is a sum of fused multiply-adds in rising order of depth, 256 at a time, whatever the tile of registers it is
//! computed in: every [`Isa`](crate::Isa) and every number of threads finds the same bits.

mod cholesky;
pub(crate) mod factor;
mod gram;
pub(crate) mod product;
mod rank_update;
mod shared;
mod workspace;

pub use cholesky::FactorizeError;
pub use factor::Factor;
pub use gram::Gram;
pub use workspace::Workspace;
