//! What a model will take of memory, foretold from its shape.

use bise_kernels::kv_page::PageLayout;
use bise_models::{KvCache, MistralConfig, PassContext};

/// Bytes of a mapped file that the system brings in around the one that is read, as a rule: Linux maps 64 KB, and since 6.18 the whole of a
/// folio that reaches beyond them.
const FAULT_BYTES: usize = 80 << 10;
/// The most of them: a folio has up to 2 MB, depending on how the file came into the page cache.
const MOST_FAULT_BYTES: usize = 2 << 20;

/// Parts of the program that are read only when a model runs, at most. Without optimizations the program is several times as large.
pub(crate) const PROGRAM_GROWTH_BYTES: usize = if cfg!(debug_assertions) { 15 << 18 } else { 3 << 19 };

/// What the allocator takes of the system by and by for what is not counted: texts, samplers, the threads' stacks.
pub(crate) const HEAP_GROWTH_BYTES: usize = 1 << 20;

/// What a model will take of memory, in bytes, as a function of the tokens that each sequence has read.
///
/// Two kinds are told apart. *Anonymous* memory is the process's own: keys and values, buffers, the tokenizer, the program's heap, and
/// weights that were copied rather than mapped. The system cannot take it back without swapping. *Mapped* memory holds parts of files,
/// weights most of all, which the system may drop when it is short, and read again.
#[derive(Clone, Debug)]
pub struct MemoryPlan {
    pub(crate) config: MistralConfig,
    pub(crate) layout: PageLayout,
    pub(crate) n_ctx: usize,
    pub(crate) n_ubatch: usize,
    pub(crate) n_threads: usize,
    /// Sequences at a time.
    pub(crate) n_sequences: usize,
    /// Logits that are kept for drafts, beside those of the last token.
    pub(crate) n_drafts: usize,
    pub(crate) program: Program,
    pub(crate) weights: WeightsPlan,
    /// Adapters that are loaded or to be loaded, with their buffers.
    pub(crate) adapters: usize,
}

/// The process without the model.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Program {
    /// Anonymous memory, the tokenizer included.
    pub anonymous: usize,
    /// The part of it that the tokenizer has.
    pub tokenizer: usize,
    /// The program and its libraries, as far as they are read.
    pub mapped: usize,
}

/// Where the weights are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WeightsPlan {
    /// The tensors that the model uses.
    pub bytes: usize,
    /// The part of them that is looked up token by token; none where the embedding is the output too.
    pub embeddings: usize,
    /// The rest of the file that is read when it is opened.
    pub header: usize,
    /// The whole file, where it is in anonymous memory.
    pub copied: usize,
    /// The whole file, where it is mapped and locked.
    pub locked: usize,
    /// Where they are read again for every pass.
    pub streamed: Option<Streamed>,
}

/// Weights that are streamed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streamed {
    /// The least that are in memory at a time.
    pub least: usize,
    /// Room for them and for anonymous memory together.
    pub total: usize,
}

impl MemoryPlan {
    /// The plan for `n` sequences that are decoded together, each with pages of its own. Several are decoded without drafts.
    #[must_use]
    pub fn for_sequences(mut self, n: usize) -> MemoryPlan {
        self.n_sequences = n.max(1);
        if n > 1 {
            self.n_drafts = 0;
        }
        self
    }

    /// The plan without drafts (see [`speculation`](crate::speculation)).
    #[must_use]
    pub fn without_drafts(mut self) -> MemoryPlan {
        self.n_drafts = 0;
        self
    }

    /// The process without model and session: its anonymous memory (the tokenizer included) and what is mapped of the program. 0 where the
    /// system does not tell.
    pub fn program_bytes(&self) -> usize {
        self.program.anonymous + self.program.mapped
    }

    /// The part of [`MemoryPlan::program_bytes`] that the tokenizer's heap has.
    pub fn tokenizer_bytes(&self) -> usize {
        self.program.tokenizer
    }

    /// The tensors that the model uses.
    pub fn weights_bytes(&self) -> usize {
        self.weights.bytes
    }

    /// Whether the weights are in anonymous memory rather than mapped.
    pub fn weights_are_copied(&self) -> bool {
        self.weights.copied > 0
    }

    /// Adapters (LoRA), with their buffers.
    pub fn adapters_bytes(&self) -> usize {
        self.adapters
    }

    /// The sliding window, if there is one.
    pub fn sliding_window(&self) -> Option<usize> {
        self.config.sliding_window
    }

    /// Tokens that each sequence may hold.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// Sequences at a time.
    pub fn n_sequences(&self) -> usize {
        self.n_sequences
    }

    /// Pages that all sequences together hold at most until each has read `n_tokens`: what [`PagePool::prepare`](crate::PagePool::prepare)
    /// may be told to make.
    pub fn n_pages(&self, n_tokens: usize) -> usize {
        let (window, n) = (self.config.sliding_window, self.n_kept(n_tokens));
        KvCache::most_pages(n, window, self.n_rows(n_tokens)).saturating_mul(self.n_sequences)
    }

    /// Without a window, no more than the context.
    fn n_kept(&self, n_tokens: usize) -> usize {
        if self.config.sliding_window.is_some() { n_tokens } else { n_tokens.min(self.n_ctx) }
    }

    /// Keys and values of all sequences, each with `n_tokens`, in whole pages; no more than the context or the window takes.
    pub fn cache_bytes(&self, n_tokens: usize) -> usize {
        let c = &self.config;
        let n = self.n_kept(n_tokens);
        let each = KvCache::bytes(&self.layout, c.n_layers, n, c.sliding_window, self.n_rows(n_tokens));
        each.saturating_mul(self.n_sequences)
    }

    /// Buffers of the passes that `n_tokens` are read in, and logits.
    pub fn buffers_bytes(&self, n_tokens: usize) -> usize {
        let rows = self.n_rows(n_tokens).max(self.n_sequences);
        let wanted = (1 + self.n_drafts).max(self.n_sequences);
        // Each sequence's last logits and its drafts', and the candidates that one of them is chosen from.
        let logits = self.config.n_vocab * (4 * (1 + self.n_drafts) + 12);
        PassContext::bytes(&self.config, self.n_threads, rows, wanted)
            .saturating_add(self.n_sequences.saturating_mul(logits))
    }

    fn n_rows(&self, n_tokens: usize) -> usize {
        n_tokens.clamp(1, self.n_ubatch.max(1))
    }

    /// The most anonymous memory until each sequence has read `n_tokens`.
    pub fn anonymous_at(&self, n_tokens: usize) -> usize {
        let program = (self.program.anonymous + HEAP_GROWTH_BYTES).saturating_add(self.weights.copied);
        [program, self.adapters, self.buffers_bytes(n_tokens)]
            .into_iter()
            .fold(self.cache_bytes(n_tokens), usize::saturating_add)
    }

    /// The most mapped memory until each sequence has read `n_tokens`.
    pub fn mapped_at(&self, n_tokens: usize) -> usize {
        self.mapped_by(n_tokens, MOST_FAULT_BYTES)
    }

    /// Mapped memory where each row of the embedding that is looked up brings in `fault_bytes`.
    fn mapped_by(&self, n_tokens: usize, fault_bytes: usize) -> usize {
        let w = &self.weights;
        let weights = if w.copied > 0 {
            0
        } else if w.locked > 0 {
            w.locked
        } else {
            let n_read = n_tokens.saturating_mul(self.n_sequences);
            let looked_up = n_read.saturating_mul(fault_bytes).min(w.embeddings);
            let read = w.bytes - w.embeddings + looked_up;
            let anonymous = || self.anonymous_at(n_tokens);
            let most = |s: Streamed| s.total.saturating_sub(anonymous()).max(s.least).min(read);
            w.streamed.map_or(read, most).saturating_add(w.header)
        };
        weights.saturating_add(self.program.mapped)
    }

    /// The most that is resident until each sequence has read `n_tokens`.
    pub fn at(&self, n_tokens: usize) -> usize {
        self.anonymous_at(n_tokens).saturating_add(self.mapped_at(n_tokens))
    }

    /// With a line of text, some sixteen tokens: what is to be expected, rather than the most.
    pub fn now(&self) -> usize {
        let mapped = self.mapped_by(16, FAULT_BYTES).saturating_sub(PROGRAM_GROWTH_BYTES / 2);
        self.anonymous_at(16).saturating_add(mapped)
    }

    /// When the context is full. With a window, the text may then go on without taking more.
    pub fn full(&self) -> usize {
        self.at(self.n_ctx)
    }
}
