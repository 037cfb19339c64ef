//! The working memory of a forward pass, allocated for the longest pass so far and reused by later ones.

use std::sync::Mutex;

use bise_kernels::attention::AttentionScratch;
use bise_kernels::kv_page::{CacheType, PageLayout};
use bise_kernels::{ActivationBuffer, StripScratch, Team, matmul};

use crate::adapter::applied::AppliedAdapters;
use crate::budget::{MemoryBudget, Reservation};
use crate::config::MistralConfig;
use crate::error::{ForwardError, OutOfMemory, SpanError};
use crate::span::{Output, Span};

/// The most rows in a feed-forward at a time. It is several times wider than everything else, and so would its buffers be.
pub(crate) const FFN_ROWS: usize = 256;

/// The most bytes of logits computed at a time (but always at least one row).
const LOGITS_BYTES: usize = 8 << 20;

/// The working memory of passes over up to `n_rows` tokens.
pub(crate) struct Scratch {
    pub n_rows: usize,
    pub buffers: Buffers,
    pub quantized: ActivationBuffer,
    pub strips: Vec<Mutex<StripScratch>>,
    pub attention: AttentionScratch,
    pub adapters: AppliedAdapters,
    /// The first error of each span of the batch.
    pub errors: Vec<Option<SpanError>>,
    budget: MemoryBudget,
    _reservation: Reservation,
    logits_reservation: Option<Reservation>,
}

const BUFFERS: &str = "the buffers of a pass (a smaller --ubatch-size takes less)";

/// The rows of a pass, one per token. Matrices are row-major.
pub(crate) struct Buffers {
    /// The residual stream, `[n_rows, n_embd]`.
    pub x: Vec<f32>,
    /// Input and output of attention and feed-forward, `[n_rows, max(n_embd, q_dim)]`.
    pub h: Vec<f32>,
    /// Queries, and later outputs, `[n_rows, max(n_embd, q_dim)]`.
    pub q: Vec<f32>,
    /// Keys of the pass, `[n_rows, kv_dim]`.
    pub k: Vec<f32>,
    /// Values of the pass, `[n_rows, kv_dim]`.
    pub v: Vec<f32>,
    /// `[FFN_ROWS, n_ff]`
    pub gate: Vec<f32>,
    /// `[FFN_ROWS, n_ff]`
    pub up: Vec<f32>,
    /// Cosines and sines of the rows' positions, `[n_rows, 2 · rope dims]`.
    pub rotations: Vec<f32>,
    /// Positions of the rows.
    pub positions: Vec<usize>,
    /// The scale of each row's queries.
    pub scales: Vec<f32>,
    /// The span of each row.
    pub spans: Vec<usize>,
    /// The experts' choice, `[n_rows, n_used]`, and buffers for the rows that chose one.
    pub experts: ExpertsScratch,
    /// The rows whose outputs are wanted.
    pub wanted: Vec<WantedRow>,
    /// Logits of some of them, `[.., n_vocab]`.
    pub logits: Vec<f32>,
}

/// A row whose output is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WantedRow {
    /// Its place in the batch.
    pub row: usize,
    /// Its span.
    pub span: usize,
    /// Its place in the span.
    pub index: usize,
    /// Whether the hidden state is wanted rather than logits.
    pub is_hidden: bool,
}

/// Buffers of a sparse feed-forward; empty for dense models.
#[derive(Default)]
pub(crate) struct ExpertsScratch {
    /// `[n_rows, n_experts]`
    pub probabilities: Vec<f32>,
    /// (expert, weight), `[n_rows, n_used]`.
    pub chosen: Vec<(usize, f32)>,
    /// The rows that chose the current expert, and its weight for each.
    pub rows: Vec<(usize, f32)>,
    /// Spans of the rows in `input`.
    pub spans: Vec<usize>,
    /// `[FFN_ROWS, n_embd]`
    pub input: Vec<f32>,
    /// `[FFN_ROWS, n_embd]`
    pub output: Vec<f32>,
}

impl Scratch {
    /// Buffers for passes of up to `n_rows` tokens. The memory is allocated here and touched when first used.
    ///
    /// # Errors
    /// If `budget` or the system has no more memory.
    pub fn new(
        config: &MistralConfig,
        team: &Team,
        n_rows: usize,
        budget: &MemoryBudget,
    ) -> Result<Scratch, ForwardError> {
        let (d, q_dim, kv_dim, ff) = (config.n_embd, config.q_dim(), config.kv_dim(), config.n_ff);
        let bytes = Scratch::bytes(config, team.n_threads(), n_rows);
        let reservation =
            budget.reserve(bytes).map_err(|error| ForwardError::OverCeiling { what: BUFFERS, error })?;
        let out_of_memory = OutOfMemory { bytes, what: BUFFERS };
        if bytes > isize::MAX as usize {
            return Err(out_of_memory.into());
        }
        let zeroed = |n: usize| bytemuck::allocation::try_zeroed_vec::<f32>(n).map_err(|()| out_of_memory);
        let ffn_rows = n_rows.min(FFN_ROWS);
        let widest = d.max(q_dim).max(ff);
        let experts = match config.experts {
            None => ExpertsScratch::default(),
            Some(e) => ExpertsScratch {
                probabilities: zeroed(n_rows * e.n_experts)?,
                chosen: with_capacity(n_rows * e.n_used).ok_or(out_of_memory)?,
                rows: with_capacity(n_rows).ok_or(out_of_memory)?,
                spans: with_capacity(ffn_rows).ok_or(out_of_memory)?,
                input: zeroed(ffn_rows * d)?,
                output: zeroed(ffn_rows * d)?,
            },
        };
        let buffers = Buffers {
            x: zeroed(n_rows * d)?,
            h: zeroed(n_rows * d.max(q_dim))?,
            q: zeroed(n_rows * d.max(q_dim))?,
            k: zeroed(n_rows * kv_dim)?,
            v: zeroed(n_rows * kv_dim)?,
            gate: zeroed(ffn_rows * ff)?,
            up: zeroed(ffn_rows * ff)?,
            rotations: zeroed(n_rows * 2 * config.rope.n_dims)?,
            positions: with_capacity(n_rows).ok_or(out_of_memory)?,
            scales: with_capacity(n_rows).ok_or(out_of_memory)?,
            spans: with_capacity(n_rows).ok_or(out_of_memory)?,
            experts,
            wanted: with_capacity(n_rows).ok_or(out_of_memory)?,
            logits: Vec::new(),
        };
        Ok(Scratch {
            n_rows,
            buffers,
            quantized: ActivationBuffer::try_new(&[(n_rows, d.max(q_dim)), (ffn_rows, ff)])
                .map_err(|_| out_of_memory)?,
            strips: (0..team.n_threads())
                .map(|_| StripScratch::try_new(matmul::scratch_bytes(widest)).map(Mutex::new))
                .collect::<Result<_, _>>()
                .map_err(|_| out_of_memory)?,
            attention: AttentionScratch::try_new(&layout(config), config.n_heads, team.n_threads())
                .map_err(|_| out_of_memory)?,
            adapters: AppliedAdapters::default(),
            errors: Vec::new(),
            budget: budget.clone(),
            _reservation: reservation,
            logits_reservation: None,
        })
    }

    /// Prepares for a pass over `batch`.
    ///
    /// # Errors
    /// If there is no memory for its adapters or the logits it asks for.
    pub fn begin(&mut self, batch: &[Span<'_>], n_vocab: usize) -> Result<(), ForwardError> {
        self.errors.clear();
        self.errors.resize(batch.len(), None);
        let s = &mut self.buffers;
        s.spans.clear();
        s.wanted.clear();
        for (i, span) in batch.iter().enumerate() {
            let first = s.spans.len();
            let is_hidden = span.output == Output::Hidden;
            let wanted = |index| WantedRow { row: first + index, span: i, index, is_hidden };
            s.wanted.extend(span.wanted().map(wanted));
            s.spans.extend(std::iter::repeat_n(i, span.tokens.len()));
        }
        self.adapters.begin(batch, &self.budget)?;
        let n_wanted = s.wanted.iter().filter(|wanted| !wanted.is_hidden).count();
        self.reserve_logits(n_wanted, n_vocab)
    }

    /// Makes room for the logits of `n` rows, or of as many as are computed at a time: fewer where the budget is short.
    fn reserve_logits(&mut self, n: usize, n_vocab: usize) -> Result<(), ForwardError> {
        let (mut n_rows, what) = (n.min(logits_rows(n_vocab)), "logits");
        let logits = &mut self.buffers.logits;
        if logits.len() >= n_rows * n_vocab {
            return Ok(());
        }
        // The old ones first: both together may not fit.
        *logits = Vec::new();
        self.logits_reservation = None;
        let reservation = loop {
            match self.budget.reserve(4 * n_rows * n_vocab) {
                Ok(reservation) => break reservation,
                Err(_) if n_rows > 1 => n_rows /= 2,
                Err(error) => return Err(ForwardError::OverCeiling { what, error }),
            }
        };
        let n = n_rows * n_vocab;
        *logits = bytemuck::allocation::try_zeroed_vec(n).map_err(|()| OutOfMemory { bytes: 4 * n, what })?;
        self.logits_reservation = Some(reservation);
        Ok(())
    }

    /// Bytes of [`Scratch::new`]'s buffers.
    pub fn bytes(config: &MistralConfig, n_threads: usize, n_rows: usize) -> usize {
        /// Rows of a batch that takes no less for each of them than a larger one.
        const FEW: usize = 64;
        if n_rows > FEW {
            // Where addresses have 32 bits, some batches are too large to be counted.
            let most = Scratch::bytes(config, n_threads, FEW).saturating_mul(n_rows.div_ceil(FEW));
            if most > isize::MAX as usize {
                return most;
            }
        }
        let (d, q_dim, kv_dim, ff) = (config.n_embd, config.q_dim(), config.kv_dim(), config.n_ff);
        let ffn_rows = n_rows.min(FFN_ROWS);
        let row = d + 2 * d.max(q_dim) + 2 * kv_dim + 2 * config.rope.n_dims;
        let experts = config.experts.map_or(0, |e| n_rows * (e.n_experts + 6 * e.n_used) + 2 * ffn_rows * d);
        4 * (n_rows * row + 2 * ffn_rows * ff + experts)
            + n_rows * (2 * size_of::<usize>() + size_of::<f32>() + size_of::<WantedRow>())
            + ActivationBuffer::bytes(&[(n_rows, d.max(q_dim)), (ffn_rows, ff)])
            + n_threads * matmul::scratch_bytes(d.max(q_dim).max(ff))
            + AttentionScratch::bytes(&layout(config), config.n_heads, n_threads)
    }
}

/// The number of rows whose logits are computed at a time.
pub(crate) fn logits_rows(n_vocab: usize) -> usize {
    (LOGITS_BYTES / (4 * n_vocab.max(1))).max(1)
}

fn with_capacity<T>(n: usize) -> Option<Vec<T>> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(n).ok().map(|()| vec)
}

/// The layout of heads that sizes attention's scratch, which does not depend on how they are stored.
fn layout(config: &MistralConfig) -> PageLayout {
    PageLayout::new(config.n_kv_heads, config.head_dim, CacheType::F32, CacheType::F32)
}
