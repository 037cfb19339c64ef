//! The forward pass of Mistral (<https://arxiv.org/abs/2310.06825>): top to bottom like the paper.

use bise_kernels::{KernelTable, NotFinite, Team};

use crate::attend::{Projected, attend};
use crate::config::MistralConfig;
use crate::error::{ForwardError, Stage};
use crate::gguf::{GgufError, GgufFile};
use crate::kv_cache::KvCache;
use crate::linear::Linear;
use crate::scratch::{FFN_ROWS, Scratch};
use crate::weights::{FeedForwards, Layer, Norm, Weights};

/// Elements of an elementwise step that make a task.
pub(crate) const ELEMENTS_A_TASK: usize = 4096;

/// Which logits a span asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// None: the tokens are read for those that follow.
    Nothing,
    /// Those after the last token.
    Last,
    /// Those after each token.
    All,
}

/// Tokens that continue one sequence; a batch is several of them.
pub struct Span<'a> {
    /// The sequence.
    pub cache: &'a mut KvCache,
    /// Its next tokens.
    pub tokens: &'a [u32],
    /// Logits to be left in the scratch.
    pub wanted: Wanted,
}

impl Span<'_> {
    /// The span's own rows whose logits are wanted.
    fn wanted_rows(&self) -> std::ops::Range<usize> {
        let n = self.tokens.len();
        match self.wanted {
            Wanted::Nothing => n..n,
            Wanted::Last => n.saturating_sub(1)..n,
            Wanted::All => 0..n,
        }
    }
}

/// A model: its weights and what follows from its configuration.
pub struct Mistral {
    config: MistralConfig,
    weights: Weights,
    kernels: &'static KernelTable,
    /// Radians a position, one for each pair of rotating dimensions.
    inv_freqs: Vec<f32>,
}

impl Mistral {
    /// The model in `file`, run by `kernels`.
    ///
    /// # Errors
    /// For tensors that are missing, do not fit `config`, or are not supported.
    pub fn load(
        file: &GgufFile,
        config: MistralConfig,
        kernels: &'static KernelTable,
    ) -> Result<Mistral, GgufError> {
        let weights = Weights::load(file, &config)?;
        let inv_freqs = config.rope.inv_freqs(weights.rope_freqs.as_deref());
        Ok(Mistral { config, weights, kernels, inv_freqs })
    }

    /// The hyper-parameters.
    pub fn config(&self) -> &MistralConfig {
        &self.config
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The kernels it runs on.
    pub fn kernels(&self) -> &'static KernelTable {
        self.kernels
    }

    /// Reads the spans' tokens, all in one pass, and returns the logits that were asked for, `[n_wanted, n_vocab]`, in the spans'
    /// order.
    ///
    /// # Errors
    /// For a token outside the vocabulary or a sequence without room, before anything is changed; and where activations are no longer
    /// finite: then nothing is read, but where the tokens go past [`KvCache::writable_until`] their start, rows that a sequence with
    /// a window still needs may be overwritten, and it must be read again from its beginning.
    ///
    /// # Panics
    /// Where the batch has more rows than the scratch was made for.
    pub fn forward<'s>(
        &self,
        team: &Team,
        batch: &mut [Span<'_>],
        scratch: &'s mut Scratch,
    ) -> Result<&'s [f32], ForwardError> {
        let n_rows: usize = batch.iter().map(|span| span.tokens.len()).sum();
        assert!(n_rows <= scratch.n_rows, "{n_rows} rows in a scratch for {}", scratch.n_rows);
        self.check(batch)?;
        for span in batch.iter_mut() {
            span.cache.reserve(span.tokens.len());
        }
        let n_wanted: usize = batch.iter().map(|span| span.wanted_rows().len()).sum();
        let n_logits = n_wanted * self.config.n_vocab;
        if scratch.logits.len() < n_logits {
            scratch.logits.resize(n_logits, 0.0);
        }
        let passed = team.together(|| self.pass(team, n_rows, batch, scratch));
        for span in batch.iter_mut() {
            match passed {
                Ok(()) => span.cache.advance(span.tokens.len()),
                Err(_) => span.cache.count_written(span.tokens.len()),
            }
        }
        passed.map(|()| &scratch.logits[..n_logits])
    }

    fn check(&self, batch: &[Span<'_>]) -> Result<(), ForwardError> {
        for span in batch {
            if let Some(&token) = span.tokens.iter().find(|t| **t as usize >= self.config.n_vocab) {
                return Err(ForwardError::UnknownToken { token, n_vocab: self.config.n_vocab });
            }
            let (n_tokens, position, room) = (span.tokens.len(), span.cache.len(), span.cache.room());
            if n_tokens > room {
                return Err(ForwardError::ContextFull { n_tokens, position, room });
            }
        }
        Ok(())
    }

    /// The paper.
    fn pass(
        &self,
        team: &Team,
        m: usize,
        batch: &mut [Span<'_>],
        s: &mut Scratch,
    ) -> Result<(), ForwardError> {
        self.embed(team, batch, s);
        self.positions(team, m, batch, s);
        for (i, layer) in self.weights.layers.iter().enumerate() {
            let not_finite = |stage| move |_: NotFinite| ForwardError::NotFinite { layer: i, stage };
            self.attention(team, m, i, layer, batch, s).map_err(not_finite(Stage::Attention))?;
            self.feed_forward(team, m, layer, s).map_err(not_finite(Stage::FeedForward))?;
        }
        self.logits(team, batch, s).map_err(|_| ForwardError::LogitsNotFinite)
    }

    /// x = E[token]
    fn embed(&self, team: &Team, batch: &[Span<'_>], s: &mut Scratch) {
        let embeddings = self.weights.token_embd.view();
        let d = self.config.n_embd;
        let mut first = 0;
        for span in batch {
            let x = &mut s.x[first * d..][..span.tokens.len() * d];
            team.for_each_chunk(x, d, |t, x| {
                let token = span.tokens[t] as usize;
                bise_kernels::dequantize_row(embeddings.format(), embeddings.row(token), x);
            });
            first += span.tokens.len();
        }
    }

    /// What depends on the rows' positions alone, and serves all layers: cosines and sines, and what queries are multiplied by.
    fn positions(&self, team: &Team, m: usize, batch: &[Span<'_>], s: &mut Scratch) {
        s.positions.clear();
        s.positions
            .extend(batch.iter().flat_map(|span| span.cache.len()..span.cache.len() + span.tokens.len()));
        let scale = 1.0 / (self.config.head_dim as f32).sqrt();
        let temperature =
            |pos: &usize| self.config.temperature.map_or(1.0, |temperature| temperature.at(*pos));
        s.scales.clear();
        s.scales.extend(s.positions.iter().map(|pos| scale * temperature(pos)));
        let (n_dims, mscale) = (self.config.rope.n_dims, self.config.rope.mscale());
        let positions = &s.positions;
        team.for_each_chunk(&mut s.rotations[..m * 2 * n_dims], 2 * n_dims, |t, rotation| {
            bise_kernels::rope::fill_rope(positions[t], &self.inv_freqs, mscale, rotation);
        });
    }

    /// x += Wo · attention(rope(Wq·h), rope(Wk·h), Wv·h), where h = rms_norm(x)
    fn attention(
        &self,
        team: &Team,
        m: usize,
        layer_index: usize,
        layer: &Layer,
        batch: &mut [Span<'_>],
        s: &mut Scratch,
    ) -> Result<(), NotFinite> {
        let c = &self.config;
        let (d, q_dim, kv_dim, n_rot) = (c.n_embd, c.q_dim(), c.kv_dim(), c.rope.n_dims);
        let mut linear = Linear::new(team, self.kernels, &mut s.quantized, &s.strips);
        let x = &mut s.x[..m * d];
        let (k, v) = (&mut s.k[..m * kv_dim], &mut s.v[..m * kv_dim]);

        let h = &mut s.h[..m * d];
        self.rms_norm(team, x, &layer.attn_norm, h)?;
        let q = &mut s.q[..m * q_dim];
        linear.project(
            h,
            m,
            [(&layer.attn_q, &mut *q), (&layer.attn_k, &mut *k), (&layer.attn_v, &mut *v)],
        )?;

        let rotations = &s.rotations;
        let rotation = |t: usize| &rotations[t * 2 * n_rot..][..2 * n_rot];
        team.for_each_chunk(q, q_dim, |t, q| self.kernels.apply_rope(q, c.head_dim, n_rot, rotation(t)));
        team.for_each_chunk(k, kv_dim, |t, k| self.kernels.apply_rope(k, c.head_dim, n_rot, rotation(t)));

        let attended = &mut s.h[..m * q_dim];
        let mut first = 0;
        for span in batch.iter_mut() {
            let n = span.tokens.len();
            let qkv = Projected {
                q: &q[first * q_dim..][..n * q_dim],
                scales: &s.scales[first..][..n],
                k: &k[first * kv_dim..][..n * kv_dim],
                v: &v[first * kv_dim..][..n * kv_dim],
            };
            let out = &mut attended[first * q_dim..][..n * q_dim];
            attend(team, self.kernels, layer_index, span.cache, qkv, out, &s.attention)?;
            first += n;
        }

        // The queries have been answered: the output takes their place.
        let out = &mut s.q[..m * d];
        linear.project(attended, m, [(&layer.attn_output, &mut *out)])?;
        self.add(team, x, out);
        Ok(())
    }

    /// x += W2 · (silu(W1·h) ⊙ W3·h), where h = rms_norm(x)
    fn feed_forward(&self, team: &Team, m: usize, layer: &Layer, s: &mut Scratch) -> Result<(), NotFinite> {
        let d = self.config.n_embd;
        let mut linear = Linear::new(team, self.kernels, &mut s.quantized, &s.strips);
        let (x, h, out) = (&mut s.x[..m * d], &mut s.h[..m * d], &mut s.q[..m * d]);
        self.rms_norm(team, x, &layer.ffn_norm, h)?;
        match &layer.ffn {
            FeedForwards::Dense(ffn) => {
                for (h, out) in h.chunks(FFN_ROWS * d).zip(out.chunks_mut(FFN_ROWS * d)) {
                    linear.swiglu(ffn, h, out, &mut s.gate, &mut s.up)?;
                }
            }
            FeedForwards::Experts { router, experts } => {
                let n_used = self.config.experts.map_or(0, |e| e.n_used);
                linear.experts(router, experts, n_used, h, out, m, &mut s.gate, &mut s.up, &mut s.experts)?;
            }
        }
        self.add(team, x, out);
        Ok(())
    }

    /// logits = W · rms_norm(x), for the rows that are wanted
    fn logits(&self, team: &Team, batch: &[Span<'_>], s: &mut Scratch) -> Result<(), NotFinite> {
        let d = self.config.n_embd;
        let (mut first, mut n_wanted) = (0, 0);
        for span in batch {
            let wanted = span.wanted_rows();
            let rows = (first + wanted.start) * d..(first + wanted.end) * d;
            s.h[n_wanted * d..][..rows.len()].copy_from_slice(&s.x[rows]);
            n_wanted += wanted.len();
            first += span.tokens.len();
        }
        if n_wanted == 0 {
            return Ok(());
        }
        let (x, h) = (&s.h[..n_wanted * d], &mut s.x[..n_wanted * d]);
        self.rms_norm(team, x, &self.weights.output_norm, h)?;
        let logits = &mut s.logits[..n_wanted * self.config.n_vocab];
        let mut linear = Linear::new(team, self.kernels, &mut s.quantized, &s.strips);
        linear.project(h, n_wanted, [(&self.weights.output, &mut *logits)])?;
        match logits.iter().all(|l| l.is_finite()) {
            true => Ok(()),
            false => Err(NotFinite),
        }
    }

    fn rms_norm(&self, team: &Team, x: &[f32], norm: &Norm, out: &mut [f32]) -> Result<(), NotFinite> {
        let d = self.config.n_embd;
        let finite = std::sync::atomic::AtomicBool::new(true);
        team.for_each_chunk(out, d, |t, out| {
            if !self.kernels.rms_norm(&x[t * d..][..d], norm.view(), self.config.rms_eps, out) {
                finite.store(false, std::sync::atomic::Ordering::Relaxed);
            }
        });
        if finite.into_inner() { Ok(()) } else { Err(NotFinite) }
    }

    fn add(&self, team: &Team, x: &mut [f32], y: &[f32]) {
        team.for_each_chunk(x, ELEMENTS_A_TASK, |i, x| {
            self.kernels.add_assign(x, &y[i * ELEMENTS_A_TASK..][..x.len()]);
        });
    }
}
