//! Low-rank addends of products: `y += scale · (x·Aᵀ)·Bᵀ` with `A [rank, k]` and `B [n_rows, rank]`, as LoRA has them beside a weight matrix.
//!
//! The first product ([`shrink`]) is that of [`matmul`](crate::matmul()) with a matrix of floats. The second
//! ([`KernelTable::expand`](crate::KernelTable::expand)) has its lanes across the rows of B: an output is a chain of fused multiply-adds over
//! the rank in rising order, then one more that scales it and adds it to `y`. So a row's bits depend on nothing but the row.

pub(crate) mod expand;
pub(crate) mod pair;
mod shrink;

pub use pair::LowRankPair;
pub use shrink::{ShrinkJob, shrink};
