//! Keys and values, in pages of [`PAGE_LEN`](bise_kernels::kv_page::PAGE_LEN) positions.
//!
//! A page holds the keys and values of 64 consecutive positions, aligned to absolute position, for every layer. Pages come from a
//! [`PagePool`] and go back to it; a [`KvCache`] is the list of pages that one sequence still sees. Sequences with a common beginning
//! share pages until one of them writes.

mod cache;
#[cfg(all(test, loom))]
mod loom_tests;
mod pool;

pub use cache::KvCache;
pub use pool::{PagePool, PageRef, PoolError};
