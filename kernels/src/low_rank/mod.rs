//! Low-rank addends of products: `y += scale · (x·Aᵀ)·Bᵀ` with `A [rank, k]` and `B [n_rows, rank]`, as LoRA has them beside a weight matrix.
//!
//! [`matmul_with`](crate::matmul_with) adds them in the same parallel step as it computes the products with the weights: a step of their own
//! costs more than the arithmetic where there is one row. The first product is that of [`matmul`](crate::matmul()) with a matrix of
//! floats. The second has its lanes across the rows of B: an output is a chain of fused multiply-adds over the rank in rising order, then one
//! more that scales it and adds it to `y`. So a row's bits depend on nothing but the row.

pub(crate) mod addend;
pub(crate) mod expand;
pub(crate) mod pair;
pub(crate) mod shrink;

pub use addend::{Addend, Addends};
pub use pair::LowRankPair;
