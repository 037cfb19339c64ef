//! How much memory a model will need, by the length of the context and the type of the cache.

use std::io::{self, Write};

use bise::{CacheType, MistralConfig, SessionOptions};
use bise_kernels::kv_page::PageLayout;
use bise_models::{KvCache, PassContext};
use serde_json::json;

use crate::cli::describe;

/// The types of the table, for keys and values alike.
const TYPES: [CacheType; 4] = [CacheType::F32, CacheType::F16, CacheType::Q8_0, CacheType::Q4_0];

/// Bytes of the cache for several lengths, beside what is always needed.
pub struct MemoryTable {
    weights: u64,
    scratch: u64,
    /// Each length with the bytes of the cache in each of [`TYPES`].
    rows: Vec<(usize, [u64; 4])>,
}

impl MemoryTable {
    /// Computes it for a model that uses `weights` bytes of tensors.
    pub fn of(config: &MistralConfig, weights: u64) -> Self {
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
        let n_ubatch = SessionOptions::default().n_ubatch;
        let scratch = PassContext::bytes(config, n_threads, n_ubatch, 16) as u64;
        let cache = |n_ctx: usize, kind: CacheType| {
            let layout = PageLayout::new(config.n_kv_heads, config.head_dim, kind, kind);
            KvCache::bytes(&layout, config.n_layers, n_ctx, config.sliding_window, n_ubatch) as u64
        };
        let mut lengths: Vec<usize> = [512, 2048, 4096, 8192, 32_768, 131_072]
            .into_iter()
            .filter(|&n| n < config.n_ctx_train)
            .collect();
        lengths.push(config.n_ctx_train);
        let rows = lengths.into_iter().map(|n| (n, TYPES.map(|kind| cache(n, kind)))).collect();
        Self { weights, scratch, rows }
    }

    /// Prints totals, one line a length.
    ///
    /// # Errors
    /// If nobody reads.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let (weights, scratch) = (describe::bytes(self.weights), describe::bytes(self.scratch));
        writeln!(out, "\nmemory: weights {weights} and buffers {scratch}, with a cache of type")?;
        write!(out, "{:>10}", "context")?;
        TYPES.iter().try_for_each(|kind| write!(out, " {:>10}", kind.to_string()))?;
        writeln!(out)?;
        for (n_ctx, caches) in &self.rows {
            write!(out, "{n_ctx:>10}")?;
            for cache in caches {
                write!(out, " {:>10}", describe::bytes(self.weights + self.scratch + cache))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// The table as JSON, in bytes.
    pub fn json(&self) -> serde_json::Value {
        let row = |(n_ctx, caches): &(usize, [u64; 4])| {
            let caches: serde_json::Map<_, _> =
                TYPES.iter().zip(caches).map(|(kind, bytes)| (kind.to_string(), json!(bytes))).collect();
            json!({ "n_ctx": n_ctx, "cache_bytes": caches })
        };
        let contexts: Vec<_> = self.rows.iter().map(row).collect();
        json!({ "weights_bytes": self.weights, "scratch_bytes": self.scratch, "contexts": contexts })
    }
}
