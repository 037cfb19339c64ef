//! The memory of training, allocated once.

use std::sync::Mutex;

use bise_kernels::{ActivationBuffer, StripScratch, matmul};

use crate::adapter::applied::AppliedAdapters;
use crate::config::MistralConfig;
use crate::error::{OutOfMemory, SpanError};
use crate::train::products::LoraBuffers;

/// The most rows in a feed-forward at a time. It is several times wider than everything else; more rows share each dequantized weight.
pub(crate) const FFN_ROWS: usize = 512;

/// The most bytes of logits at a time (but always at least one row).
const LOGITS_BYTES: usize = 32 << 20;

/// What the sizes of all buffers follow from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Rows of a pass.
    pub rows: usize,
    /// Layers that the backward pass visits: the last ones.
    pub n_visited: usize,
    /// The largest rank.
    pub rank: usize,
    /// Numbers in the largest input of a matrix with LoRA.
    pub widest_input: usize,
    /// The most rows of a matrix with LoRA.
    pub most_outputs: usize,
    pub n_threads: usize,
    pub has_dropout: bool,
    pub checkpointing: bool,
    pub exact: bool,
}

/// What the backward pass of a layer reads of its forward pass.
#[derive(Default)]
pub(crate) struct Activations {
    /// Queries after rotation, `[rows, q_dim]`.
    pub q: Vec<f32>,
    /// Keys after rotation, `[rows, kv_dim]`.
    pub k: Vec<f32>,
    /// `[rows, kv_dim]`
    pub v: Vec<f32>,
    /// What attention gives, `[rows, q_dim]`.
    pub a: Vec<f32>,
    /// The logarithms of the softmax's sums, `[rows, n_heads]`.
    pub log_sums: Vec<f32>,
    /// `[rows, n_ff]` where they are whole, `[ffn_rows, n_ff]` where they are computed again.
    pub gate: Vec<f32>,
    pub up: Vec<f32>,
    /// Whether everything is kept until the backward pass.
    pub is_whole: bool,
}

impl Activations {
    /// `gate` and `up` of `n` rows from `first` on.
    pub fn gate_and_up(&mut self, first: usize, n: usize, ff: usize) -> (&mut [f32], &mut [f32]) {
        let first = if self.is_whole { first * ff } else { 0 };
        (&mut self.gate[first..][..n * ff], &mut self.up[first..][..n * ff])
    }
}

/// Room for the steps of a layer.
#[derive(Default)]
pub(crate) struct StepBuffers {
    /// The input of a layer's matrices, and its gradient or their output, `[rows, n_embd]`.
    pub h: Vec<f32>,
    pub dh: Vec<f32>,
    /// Gradients of attention's output and inputs, as wide as these.
    pub da: Vec<f32>,
    pub dq: Vec<f32>,
    pub dk: Vec<f32>,
    pub dv: Vec<f32>,
    /// `silu(gate) ⊙ up` and its gradient, `[ffn_rows, n_ff]`.
    pub act: Vec<f32>,
    pub dact: Vec<f32>,
    /// Hidden states of labels, and their gradients, `[logits_rows, n_embd]`.
    pub label_x: Vec<f32>,
    pub label_dx: Vec<f32>,
    /// `[logits_rows, n_vocab]`
    pub logits: Vec<f32>,
    /// `[logits_rows]`
    pub losses: Vec<f64>,
    pub label_tokens: Vec<u32>,
    pub experts: ExpertsBuffers,
}

/// Room for the rows that visit an expert. Empty where the feed-forward is dense.
#[derive(Default)]
pub(crate) struct ExpertsBuffers {
    /// What the router gives, and its gradient, `[rows, n_experts]`.
    pub ratings: Vec<f32>,
    /// (expert, weight), `[rows, n_used]`, and the gradients of the weights.
    pub chosen: Vec<(usize, f32)>,
    pub weight_gradients: Vec<f32>,
    /// The places in `chosen` of the rows that visit the current expert.
    pub visits: Vec<usize>,
    /// Its inputs and their gradients, its outputs and theirs, `[ffn_rows, n_embd]`.
    pub x: Vec<f32>,
    pub dx: Vec<f32>,
    pub y: Vec<f32>,
    pub dy: Vec<f32>,
}

/// What the products of the served model work with.
pub(crate) struct Served {
    pub quantized: ActivationBuffer,
    pub strips: Vec<Mutex<StripScratch>>,
    /// None: training has products of its own for what it trains.
    pub adapters: AppliedAdapters,
    /// That of the only span.
    pub errors: [Option<SpanError>; 1],
}

/// All buffers of a pass.
pub(crate) struct Buffers {
    /// The residual stream and its gradient, `[rows, n_embd]`.
    pub x: Vec<f32>,
    pub dx: Vec<f32>,
    /// The inputs of the visited layers, `[rows, n_embd]` each.
    pub checkpoints: Vec<Vec<f32>>,
    /// One for each visited layer where they are kept, or one for all.
    pub kept: Vec<Activations>,
    /// As many: the residual stream between attention and feed-forward, `[rows, n_embd]`.
    pub between: Vec<Vec<f32>>,
    pub steps: StepBuffers,
    pub lora: LoraBuffers,
    pub served: Option<Served>,
    pub rotations: Vec<f32>,
    pub scales: Vec<f32>,
    /// Zeros, one for each row.
    pub spans: Vec<usize>,
}

impl Sizes {
    /// Rows of a feed-forward at a time.
    pub fn ffn_rows(&self) -> usize {
        self.rows.min(FFN_ROWS)
    }

    /// Rows of logits at a time.
    pub fn logits_rows(&self, config: &MistralConfig) -> usize {
        (LOGITS_BYTES / (4 * config.n_vocab.max(1))).clamp(1, self.rows.max(1))
    }
}

impl Buffers {
    /// Allocates them. The memory is touched when first used.
    pub fn new(config: &MistralConfig, sizes: &Sizes) -> Result<Buffers, OutOfMemory> {
        Buffers::in_room(config, sizes, &mut Room { bytes: 0, is_counted_only: false })
    }

    /// Bytes of [`Buffers::new`], and of those that the kernels allocate when first used.
    pub fn bytes(config: &MistralConfig, sizes: &Sizes) -> usize {
        let mut room = Room { bytes: 0, is_counted_only: true };
        Buffers::in_room(config, sizes, &mut room).map_or(usize::MAX, |_| room.bytes)
    }

    /// Bytes of what the [`Executor`](bise_kernels::backward::Executor) packs: the left factor of the largest product, up to 2048 deep, and
    /// for each thread a block of the right one and some of attention's.
    fn executor_bytes(config: &MistralConfig, sizes: &Sizes) -> usize {
        const LEFT_DEPTH: usize = 2048;
        const THREAD: usize = 2 << 20;
        let product = sizes.rows.saturating_mul(config.n_ff.max(config.n_embd).min(LEFT_DEPTH));
        let gradient = sizes.most_outputs.saturating_mul(sizes.rows.min(LEFT_DEPTH));
        let left = product.max(gradient).saturating_mul(size_of::<f32>());
        left.saturating_add(sizes.n_threads.saturating_mul(THREAD))
    }

    fn in_room(config: &MistralConfig, sizes: &Sizes, room: &mut Room) -> Result<Buffers, OutOfMemory> {
        room.count(Buffers::executor_bytes(config, sizes))?;
        let c = config;
        let (d, q_dim, kv_dim, ff) = (c.n_embd, c.q_dim(), c.kv_dim(), c.n_ff);
        let (rows, ffn_rows, logits_rows) = (sizes.rows, sizes.ffn_rows(), sizes.logits_rows(config));
        let n_kept = if sizes.checkpointing { 1 } else { sizes.n_visited };
        let kept_ffn_rows = if sizes.checkpointing { ffn_rows } else { rows };
        let kept = |room: &mut Room| {
            Ok::<_, OutOfMemory>(Activations {
                q: room.floats(rows, q_dim)?,
                k: room.floats(rows, kv_dim)?,
                v: room.floats(rows, kv_dim)?,
                a: room.floats(rows, q_dim)?,
                log_sums: room.floats(rows, c.n_heads)?,
                gate: room.floats(kept_ffn_rows, ff)?,
                up: room.floats(kept_ffn_rows, ff)?,
                is_whole: !sizes.checkpointing,
            })
        };
        let masked = if sizes.has_dropout { sizes.widest_input } else { 0 };
        let experts = match c.experts {
            None => ExpertsBuffers::default(),
            Some(e) => ExpertsBuffers {
                ratings: room.floats(rows, e.n_experts)?,
                chosen: room.list(rows, e.n_used)?,
                weight_gradients: room.floats(rows, e.n_used)?,
                visits: room.list(rows, 1)?,
                x: room.floats(ffn_rows, d)?,
                dx: room.floats(ffn_rows, d)?,
                y: room.floats(ffn_rows, d)?,
                dy: room.floats(ffn_rows, d)?,
            },
        };
        let steps = StepBuffers {
            h: room.floats(rows, d)?,
            dh: room.floats(rows, d)?,
            da: room.floats(rows, q_dim)?,
            dq: room.floats(rows, q_dim)?,
            dk: room.floats(rows, kv_dim)?,
            dv: room.floats(rows, kv_dim)?,
            act: room.floats(ffn_rows, ff)?,
            dact: room.floats(ffn_rows, ff)?,
            label_x: room.floats(logits_rows, d)?,
            label_dx: room.floats(logits_rows, d)?,
            logits: room.floats(logits_rows, c.n_vocab)?,
            losses: room.zeros(logits_rows, 1)?,
            label_tokens: room.zeros(logits_rows, 1)?,
            experts,
        };
        let lora = LoraBuffers {
            masked: room.floats(1, masked)?,
            masked_gradient: room.floats(1, masked)?,
            u: room.floats(rows, sizes.rank)?,
            du: room.floats(rows, sizes.rank)?,
            keys: Vec::new(),
        };
        let served = match sizes.exact {
            true => None,
            false => Some(Served::in_room(config, sizes, room)?),
        };
        Ok(Buffers {
            x: room.floats(rows, d)?,
            dx: room.floats(rows, d)?,
            checkpoints: (0..sizes.n_visited).map(|_| room.floats(rows, d)).collect::<Result<_, _>>()?,
            kept: (0..n_kept).map(|_| kept(room)).collect::<Result<_, _>>()?,
            between: (0..n_kept).map(|_| room.floats(rows, d)).collect::<Result<_, _>>()?,
            steps,
            lora,
            served,
            rotations: room.floats(rows, 2 * c.rope.n_dims)?,
            scales: room.floats(rows, 1)?,
            spans: room.zeros(rows, 1)?,
        })
    }
}

impl Served {
    fn in_room(c: &MistralConfig, sizes: &Sizes, room: &mut Room) -> Result<Served, OutOfMemory> {
        let (wide, ff) = (c.n_embd.max(c.q_dim()), c.n_ff);
        let shapes = [(sizes.rows, wide), (sizes.ffn_rows(), ff), (sizes.logits_rows(c), c.n_embd)];
        let strip_bytes = matmul::scratch_bytes(wide.max(ff));
        room.count(ActivationBuffer::bytes(&shapes))?;
        room.count(sizes.n_threads.saturating_mul(strip_bytes))?;
        let (shapes, n_strips) = match room.is_counted_only {
            true => (&[][..], 0),
            false => (&shapes[..], sizes.n_threads),
        };
        let strip = |_| StripScratch::try_new(strip_bytes).map(Mutex::new);
        Ok(Served {
            quantized: ActivationBuffer::try_new(shapes).map_err(|_| room.out_of_memory())?,
            strips: (0..n_strips).map(strip).collect::<Result<_, _>>().map_err(|_| room.out_of_memory())?,
            adapters: AppliedAdapters::default(),
            errors: [None],
        })
    }
}

/// What buffers are allocated from, or only counted.
struct Room {
    bytes: usize,
    is_counted_only: bool,
}

impl Room {
    /// `[rows, width]` zeros; none where they are counted only.
    fn floats(&mut self, rows: usize, width: usize) -> Result<Vec<f32>, OutOfMemory> {
        self.zeros(rows, width)
    }

    fn zeros<T: bytemuck::Zeroable>(&mut self, rows: usize, width: usize) -> Result<Vec<T>, OutOfMemory> {
        let n = rows.saturating_mul(width);
        self.count(n.saturating_mul(size_of::<T>()))?;
        if self.is_counted_only {
            return Ok(Vec::new());
        }
        bytemuck::allocation::try_zeroed_vec(n).map_err(|()| self.out_of_memory())
    }

    /// An empty list with room for `[rows, width]`.
    fn list<T>(&mut self, rows: usize, width: usize) -> Result<Vec<T>, OutOfMemory> {
        let n = rows.saturating_mul(width);
        self.count(n.saturating_mul(size_of::<T>()))?;
        let mut list = Vec::new();
        let room = if self.is_counted_only { 0 } else { n };
        list.try_reserve_exact(room).map_err(|_| self.out_of_memory())?;
        Ok(list)
    }

    fn count(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        self.bytes = self.bytes.saturating_add(bytes);
        // No system has more, and some ask for it by mistake.
        if self.bytes > isize::MAX as usize { Err(self.out_of_memory()) } else { Ok(()) }
    }

    fn out_of_memory(&self) -> OutOfMemory {
        OutOfMemory { bytes: self.bytes, what: "the buffers of training (fewer tokens a pass take less)" }
    }
}
