//! What training needs beside the forward kernels: products in f32 with weights of any [`Format`](crate::Format), the derivatives of every
//! step of a layer, and the loss.
//!
//! All matrices are row-major f32. [`Executor`] has a method for each step, and works on whole matrices with a team of threads.
//!
//! # One answer
//!
//! Every element of a product is one chain of fused multiply-adds in rising order of what is summed over: the columns `k` of a forward
//! product, the weight rows of its derivative, the rows `t` of the batch for the gradient of a parameter. A sum that is added to something
//! starts from it. So the bits do not depend on the team, on the instruction set or on tiles, and gradients not on how a batch is cut
//! into smaller ones.

mod attention;
mod block;
mod cross_entropy;
mod dropout;
mod executor;
pub(crate) mod kernels;
mod layer;
mod loss;
mod low_rank;
mod norm;
mod product;
mod swiglu;

pub use attention::{AttentionGradients, AttentionInputs, AttentionShape};
pub use dropout::{Dropout, dropout_key};
pub use executor::Executor;
