//! The working memory of a forward pass: sized once from the config and the longest chunk, then only reused.

use std::sync::Mutex;

use bise_kernels::attention::AttentionScratch;
use bise_kernels::kv_page::{CacheType, PageLayout};
use bise_kernels::{ActivationBuffer, StripScratch, Team, matmul};

use crate::config::MistralConfig;

/// Rows that pass through a feed-forward together: its width is several times that of anything else, and its buffers would be too.
pub(crate) const FFN_ROWS: usize = 256;

/// The buffers of a forward pass over up to `n_rows` tokens. All matrices are row-major, one row a token.
pub struct Scratch {
    pub(crate) n_rows: usize,
    /// The residual stream, `[n_rows, n_embd]`.
    pub(crate) x: Vec<f32>,
    /// Input and output of the blocks beside the stream, `[n_rows, max(n_embd, q_dim)]`.
    pub(crate) h: Vec<f32>,
    /// Queries, and later outputs, `[n_rows, max(n_embd, q_dim)]`.
    pub(crate) q: Vec<f32>,
    /// Keys of the chunk, `[n_rows, kv_dim]`.
    pub(crate) k: Vec<f32>,
    /// Values of the chunk, `[n_rows, kv_dim]`.
    pub(crate) v: Vec<f32>,
    /// `[FFN_ROWS, n_ff]`
    pub(crate) gate: Vec<f32>,
    /// `[FFN_ROWS, n_ff]`
    pub(crate) up: Vec<f32>,
    /// Cosines and sines of the chunk's positions, `[n_rows, 2 · rope dims]`.
    pub(crate) rotations: Vec<f32>,
    /// Positions of the rows.
    pub(crate) positions: Vec<usize>,
    /// What queries are multiplied by, one a row.
    pub(crate) scales: Vec<f32>,
    /// The experts' choice, `[n_rows, n_used]`, and buffers for the rows that chose one.
    pub(crate) experts: ExpertsScratch,
    /// Logits of the rows that were asked for, `[n_wanted, n_vocab]`.
    pub(crate) logits: Vec<f32>,
    pub(crate) quantized: ActivationBuffer,
    pub(crate) strips: Vec<Mutex<StripScratch>>,
    pub(crate) attention: AttentionScratch,
}

/// The sparse feed-forward's part; empty for dense models.
#[derive(Default)]
pub(crate) struct ExpertsScratch {
    /// `[n_rows, n_experts]`
    pub probabilities: Vec<f32>,
    /// (expert, weight), `[n_rows, n_used]`.
    pub chosen: Vec<(usize, f32)>,
    /// Rows that chose the expert at work, and its weight for each.
    pub rows: Vec<(usize, f32)>,
    /// `[FFN_ROWS, n_embd]`
    pub input: Vec<f32>,
    /// `[FFN_ROWS, n_embd]`
    pub output: Vec<f32>,
}

impl Scratch {
    /// Buffers for chunks of up to `n_rows` tokens.
    pub fn new(config: &MistralConfig, team: &Team, n_rows: usize) -> Scratch {
        let (d, q_dim, kv_dim, ff) = (config.n_embd, config.q_dim(), config.kv_dim(), config.n_ff);
        let ffn_rows = n_rows.min(FFN_ROWS);
        let widest = d.max(q_dim).max(ff);
        let experts = config.experts.map_or_else(ExpertsScratch::default, |e| ExpertsScratch {
            probabilities: vec![0.0; n_rows * e.n_experts],
            chosen: Vec::with_capacity(n_rows * e.n_used),
            rows: Vec::with_capacity(n_rows),
            input: vec![0.0; ffn_rows * d],
            output: vec![0.0; ffn_rows * d],
        });
        Scratch {
            n_rows,
            x: vec![0.0; n_rows * d],
            h: vec![0.0; n_rows * d.max(q_dim)],
            q: vec![0.0; n_rows * d.max(q_dim)],
            k: vec![0.0; n_rows * kv_dim],
            v: vec![0.0; n_rows * kv_dim],
            gate: vec![0.0; ffn_rows * ff],
            up: vec![0.0; ffn_rows * ff],
            rotations: vec![0.0; n_rows * 2 * config.rope.n_dims],
            positions: Vec::with_capacity(n_rows),
            scales: Vec::with_capacity(n_rows),
            experts,
            logits: Vec::new(),
            quantized: ActivationBuffer::new(&[(n_rows, d.max(q_dim)), (ffn_rows, ff)]),
            strips: (0..team.n_threads())
                .map(|_| Mutex::new(StripScratch::new(matmul::scratch_bytes(widest))))
                .collect(),
            attention: AttentionScratch::new(&layout(config), config.n_heads, team.n_threads()),
        }
    }

    /// Tokens a pass may have.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Bytes of [`Scratch::new`]'s buffers, logits of one row included.
    pub fn bytes(config: &MistralConfig, n_threads: usize, n_rows: usize) -> usize {
        let (d, q_dim, kv_dim, ff) = (config.n_embd, config.q_dim(), config.kv_dim(), config.n_ff);
        let ffn_rows = n_rows.min(FFN_ROWS);
        let row = d + 2 * d.max(q_dim) + 2 * kv_dim + 2 * config.rope.n_dims;
        let experts = config.experts.map_or(0, |e| n_rows * (e.n_experts + 6 * e.n_used) + 2 * ffn_rows * d);
        4 * (n_rows * row + 2 * ffn_rows * ff + experts + config.n_vocab)
            + ActivationBuffer::bytes(&[(n_rows, d.max(q_dim)), (ffn_rows, ff)])
            + n_threads * matmul::scratch_bytes(d.max(q_dim).max(ff))
            + AttentionScratch::bytes(&layout(config), config.n_heads, n_threads)
    }
}

/// Heads as attention sees them; its scratch does not depend on how they are stored.
fn layout(config: &MistralConfig) -> PageLayout {
    PageLayout::new(config.n_kv_heads, config.head_dim, CacheType::F32, CacheType::F32)
}
