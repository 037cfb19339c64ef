//! The forward pass of Mistral (<https://arxiv.org/abs/2310.06825>): top to bottom like the paper.

use std::ops::Range;

use bise_kernels::{CancelFlags, KernelTable, Team};

use crate::attend::{self, Queries};
use crate::budget::MemoryBudget;
use crate::config::MistralConfig;
use crate::error::{ForwardError, SpanError, Stage};
use crate::gguf::{GgufError, GgufFile};
use crate::kv::KvCache;
use crate::linear::{Linear, Target};
use crate::lm_head::LmHead;
use crate::outputs::Outputs;
use crate::pass::{Pass, PassContext};
use crate::rows::{Rows, RowsMut};
use crate::scratch::FFN_ROWS;
use crate::site::{Projection, Site};
use crate::span::{Output, Span};
use crate::stream::WeightStream;
use crate::weights::{FeedForwards, Layer, Norm, Weights};

/// A model, ready to run: weights, configuration and kernels.
pub struct Mistral {
    config: MistralConfig,
    weights: Weights,
    kernels: &'static KernelTable,
    /// Radians per position, one for each pair of rotating dimensions.
    inv_freqs: Vec<f32>,
    stream: Option<WeightStream>,
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
        Ok(Mistral { config, weights, kernels, inv_freqs, stream: None })
    }

    /// Has passes read the weights from the file again and again, so that they and what `budget` counts stay below `total` bytes.
    /// `planned` bytes of these are left to the budget from the start.
    #[must_use]
    pub fn streamed(mut self, total: usize, planned: usize, budget: &MemoryBudget) -> Mistral {
        self.stream = Some(WeightStream::new(&self.weights, total, planned, budget));
        self
    }

    /// How the weights are streamed, where they are.
    pub fn stream(&self) -> Option<&WeightStream> {
        self.stream.as_ref()
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

    /// Reads the tokens of all spans in one pass.
    ///
    /// A span whose activations become infinite or NaN fails alone ([`Outputs::failure`]): its sequence stays as it was, and the other spans
    /// get the same results as without it. Setting `cancel`, or one of its flags, from another thread ends the pass within a
    /// layer.
    ///
    /// # Errors
    /// Before anything is computed: a token outside the vocabulary, a span without room in its context or with an adapter for another model, no
    /// memory for keys and values.
    /// Later: a cancelled pass, and one in which every span failed. All sequences stay as they were.
    pub fn forward<'s>(
        &'s self,
        cx: &'s mut PassContext,
        batch: &mut [Span<'_>],
        cancel: impl Into<CancelFlags<'s>>,
    ) -> Result<Outputs<'s>, ForwardError> {
        self.forward_until(cx, batch, cancel.into())
    }

    fn forward_until<'s>(
        &'s self,
        cx: &'s mut PassContext,
        batch: &mut [Span<'_>],
        cancel: CancelFlags<'s>,
    ) -> Result<Outputs<'s>, ForwardError> {
        self.check(batch)?;
        let m = batch.iter().map(|span| span.tokens.len()).sum();
        let (team, hook, s) = cx.split(&self.config, m)?;
        s.begin(batch, self.config.n_vocab)?;
        let linear = Linear {
            team,
            kernels: self.kernels,
            hook,
            cancel,
            stream: self.stream.as_ref(),
            quantized: &mut s.quantized,
            strips: &s.strips,
            adapters: &mut s.adapters,
            errors: &mut s.errors,
            not_finite: SpanError::LOGITS,
        };
        let mut pass = Pass { linear, s: &mut s.buffers, attention: &mut s.attention, batch, m };
        let reserved = pass.reserve();
        let passed = reserved.and_then(|()| team.together(|| self.pass(&mut pass)));
        let passed = passed.and_then(|computed| pass.check_any_is_sound().map(|()| computed));
        pass.finish(passed.is_ok());
        Ok(Outputs::new(self.lm_head(), pass.linear, pass.s, passed?))
    }

    /// Writes the embeddings of `tokens` to `x`, `[tokens, n_embd]`: the input of the first layer.
    ///
    /// # Panics
    /// Where `x` has another length, or a token is not in the vocabulary.
    pub fn embed_tokens(&self, tokens: &[u32], x: &mut [f32]) {
        let (embeddings, d) = (self.weights.token_embd.view(), self.config.n_embd);
        assert_eq!(x.len(), tokens.len() * d, "hidden states of {} tokens", tokens.len());
        for (x, token) in x.chunks_mut(d).zip(tokens) {
            bise_kernels::dequantize_row(embeddings.format(), embeddings.row(*token as usize), x);
        }
    }

    /// Runs layer `layer` alone: `x`, `[n, n_embd]`, holds the hidden states at the positions from 0 on before it, and then those behind it.
    /// Nothing stays in `cache`, which must be empty. The hook of `cx` sees the products.
    ///
    /// # Errors
    /// As [`Mistral::forward`]; `x` is then as it was.
    ///
    /// # Panics
    /// Where there is no such layer, `cache` is not empty, or `x` is not whole rows.
    pub fn forward_layer<'s>(
        &'s self,
        cx: &'s mut PassContext,
        layer: usize,
        cache: &mut KvCache,
        x: &mut [f32],
        cancel: impl Into<CancelFlags<'s>>,
    ) -> Result<(), ForwardError> {
        let d = self.config.n_embd;
        assert!(cache.is_empty() && x.len().is_multiple_of(d), "{} values in an empty cache", x.len());
        let tokens = vec![0; x.len() / d];
        // The last layer computes what is wanted alone.
        let batch = &mut [Span { cache, tokens: &tokens, output: Output::Hidden, adapters: &[] }];
        self.check(batch)?;
        let (team, hook, s) = cx.split(&self.config, tokens.len())?;
        s.begin(batch, self.config.n_vocab)?;
        let linear = Linear {
            team,
            kernels: self.kernels,
            hook,
            cancel: cancel.into(),
            stream: None,
            quantized: &mut s.quantized,
            strips: &s.strips,
            adapters: &mut s.adapters,
            errors: &mut s.errors,
            not_finite: SpanError::LOGITS,
        };
        let m = tokens.len();
        let mut pass = Pass { linear, s: &mut s.buffers, attention: &mut s.attention, batch, m };
        pass.s.x[..x.len()].copy_from_slice(x);
        let passed = pass.reserve().and_then(|()| {
            team.together(|| {
                self.positions(&mut pass);
                self.attention(&mut pass, layer, &self.weights.layers[layer])?;
                self.feed_forward(&mut pass, layer, &self.weights.layers[layer])
            })
        });
        let passed = passed.and_then(|()| pass.check_any_is_sound());
        if passed.is_ok() {
            x.copy_from_slice(&pass.s.x[..x.len()]);
        }
        pass.finish(false);
        passed
    }

    /// Writes the input of the last matrix to `h`, from the hidden states `x` behind the last layer: `rms_norm(x)`, both `[n, n_embd]`.
    /// False where a hidden state is not finite.
    ///
    /// # Panics
    /// Where the lengths differ or are not whole rows.
    pub fn final_hidden(&self, x: &[f32], h: &mut [f32]) -> bool {
        let d = self.config.n_embd;
        assert!(x.len() == h.len() && x.len().is_multiple_of(d), "{} hidden states to {}", x.len(), h.len());
        let norm = |(x, h)| self.kernels.rms_norm(x, self.weights.output_norm.view(), self.config.rms_eps, h);
        x.chunks(d).zip(h.chunks_mut(d)).all(norm)
    }

    fn check(&self, batch: &[Span<'_>]) -> Result<(), ForwardError> {
        let n_vocab = self.config.n_vocab;
        for (i, span) in batch.iter().enumerate() {
            let (n_tokens, position, room) = (span.tokens.len(), span.cache.len(), span.cache.room());
            let error = if let Some(&token) = span.tokens.iter().find(|t| **t as usize >= n_vocab) {
                SpanError::UnknownToken { token, n_vocab }
            } else if n_tokens > room {
                SpanError::ContextFull { n_tokens, position, room }
            } else if let Some((adapter, _)) = span.adapters.iter().find(|(a, _)| !a.fits(&self.config)) {
                SpanError::AdapterMisfit { name: adapter.name().to_owned() }
            } else if let Some((adapter, scale)) = span.adapters.iter().find(|(_, s)| !s.is_finite()) {
                SpanError::AdapterScale { name: adapter.name().to_owned(), scale: scale.to_string() }
            } else {
                continue;
            };
            return Err(ForwardError::Span { span: i, error });
        }
        Ok(())
    }

    /// The pass itself, as in the paper. Returns the wanted rows whose logits were computed.
    fn pass(&self, pass: &mut Pass<'_, '_, '_>) -> Result<Range<usize>, ForwardError> {
        if pass.m == 0 {
            return Ok(0..0);
        }
        if let Some(stream) = &self.stream {
            stream.begin();
        }
        self.embed(pass);
        self.positions(pass);
        for (i, layer) in self.weights.layers.iter().enumerate() {
            pass.linear.stream_to(i);
            self.attention(pass, i, layer)?;
            if pass.m > 0 {
                self.feed_forward(pass, i, layer)?;
            }
        }
        self.final_norm(pass);
        self.lm_head().logits(&mut pass.linear, pass.s, 0)
    }

    /// x = E[token]
    fn embed(&self, pass: &mut Pass<'_, '_, '_>) {
        let embeddings = self.weights.token_embd.view();
        let d = self.config.n_embd;
        let mut first = 0;
        for Span { tokens, .. } in pass.batch.iter() {
            let x = &mut pass.s.x[first * d..][..tokens.len() * d];
            pass.linear.team.for_each_chunk(x, d, |t, x| {
                bise_kernels::dequantize_row(embeddings.format(), embeddings.row(tokens[t] as usize), x);
            });
            first += tokens.len();
        }
    }

    /// Computes what depends on positions only and is the same in all layers: cosines and sines, and the scale of each query.
    fn positions(&self, pass: &mut Pass<'_, '_, '_>) {
        let Pass { linear, batch, s, m, .. } = pass;
        s.positions.clear();
        s.positions
            .extend(batch.iter().flat_map(|span| span.cache.len()..span.cache.len() + span.tokens.len()));
        s.scales.clear();
        s.scales.resize(*m, 0.0);
        let rotations = &mut s.rotations[..*m * 2 * self.config.rope.n_dims];
        self.fill_positions(linear.team, &s.positions, rotations, &mut s.scales);
    }

    /// Writes the cosines and sines of `positions`, `[n, 2 · rope dims]`, and what queries there are multiplied by, `[n]`.
    pub(crate) fn fill_positions(
        &self,
        team: &Team,
        positions: &[usize],
        rotations: &mut [f32],
        scales: &mut [f32],
    ) {
        let scale = 1.0 / (self.config.head_dim as f32).sqrt();
        for (factor, pos) in scales.iter_mut().zip(positions) {
            *factor = scale * self.config.temperature.map_or(1.0, |temperature| temperature.at(*pos));
        }
        let (n_dims, mscale) = (self.config.rope.n_dims, self.config.rope.mscale());
        team.for_each_chunk(rotations, 2 * n_dims, |t, rotation| {
            bise_kernels::rope::fill_rope(positions[t], &self.inv_freqs, mscale, rotation);
        });
    }

    /// x += Wo · attention(rope(Wq·h), rope(Wk·h), Wv·h), where h = rms_norm(x)
    fn attention(&self, pass: &mut Pass<'_, '_, '_>, i: usize, layer: &Layer) -> Result<(), ForwardError> {
        let c = &self.config;
        let (d, q_dim, kv_dim) = (c.n_embd, c.q_dim(), c.kv_dim());
        let site = |projection| Site { layer: i, projection, expert: None };
        let is_last = i + 1 == self.weights.layers.len();
        pass.enter(i, Stage::Attention)?;
        self.rms_norm(pass, &layer.attn_norm);

        let Pass { linear, s, m, batch, .. } = pass;
        let q = Target { site: site(Projection::AttnQ), w: &layer.attn_q, y: &mut s.q[..*m * q_dim] };
        let k = Target { site: site(Projection::AttnK), w: &layer.attn_k, y: &mut s.k[..*m * kv_dim] };
        let v = Target { site: site(Projection::AttnV), w: &layer.attn_v, y: &mut s.v[..*m * kv_dim] };
        let h = RowsMut::new(&mut s.h[..*m * d], d);
        match is_last {
            false => linear.project(h, &s.spans, [q, k, v])?,
            true => linear.project(h, &s.spans, [k, v])?,
        }
        self.rope(linear, RowsMut::new(&mut s.k[..*m * kv_dim], kv_dim), &s.rotations);
        let (k, v) = (Rows::new(&s.k[..*m * kv_dim], kv_dim), Rows::new(&s.v[..*m * kv_dim], kv_dim));
        attend::store(linear.team, i, batch, k, v, |span| linear.fail(span));

        if is_last {
            // All keys and values are there. Nothing more is computed for rows whose output nobody wants.
            pass.keep_wanted(c);
            if pass.m == 0 {
                return Ok(());
            }
        }
        let Pass { linear, s, m, batch, attention } = pass;
        let m = *m;
        if is_last {
            let q = Target { site: site(Projection::AttnQ), w: &layer.attn_q, y: &mut s.q[..m * q_dim] };
            linear.project(RowsMut::new(&mut s.h[..m * d], d), &s.spans, [q])?;
        }
        self.rope(linear, RowsMut::new(&mut s.q[..m * q_dim], q_dim), &s.rotations);
        let queries = Queries {
            layer: i,
            n_heads: c.n_heads,
            wanted_only: is_last,
            scales: &s.scales,
            cancel: linear.cancel,
        };
        let q = Rows::new(&s.q[..m * q_dim], q_dim);
        let attended = RowsMut::new(&mut s.h[..m * q_dim], q_dim);
        attend::attend(linear.team, self.kernels, attention, batch, queries, q, attended);

        // The queries have been answered: the output takes their place.
        let out = Target { site: site(Projection::AttnOutput), w: &layer.attn_output, y: &mut s.q[..m * d] };
        linear.project(RowsMut::new(&mut s.h[..m * q_dim], q_dim), &s.spans, [out])?;
        linear.add(&mut s.x[..m * d], &s.q[..m * d]);
        Ok(())
    }

    /// x += W2 · (silu(W1·h) ⊙ W3·h), where h = rms_norm(x)
    fn feed_forward(&self, pass: &mut Pass<'_, '_, '_>, i: usize, layer: &Layer) -> Result<(), ForwardError> {
        let d = self.config.n_embd;
        pass.enter(i, Stage::FeedForward)?;
        self.rms_norm(pass, &layer.ffn_norm);

        let Pass { linear, s, m, .. } = pass;
        let mut h = RowsMut::new(&mut s.h[..*m * d], d);
        let mut out = RowsMut::new(&mut s.q[..*m * d], d);
        match &layer.ffn {
            FeedForwards::Dense(ffn) => {
                let site = Site { layer: i, projection: Projection::FfnGate, expert: None };
                for first in (0..*m).step_by(FFN_ROWS) {
                    let rows = first..(first + FFN_ROWS).min(*m);
                    let (h, spans, out) = (h.range(rows.clone()), &s.spans[rows.clone()], out.range(rows));
                    linear.swiglu(site, ffn, h, spans, out.into_data(), [&mut s.gate, &mut s.up])?;
                }
            }
            FeedForwards::Experts { router, experts } => {
                let n_used = self.config.experts.map_or(0, |e| e.n_used);
                let buffers = [&mut s.gate[..], &mut s.up[..]];
                linear.experts(i, router, experts, n_used, h, &s.spans, out, buffers, &mut s.experts)?;
            }
        }
        linear.add(&mut s.x[..*m * d], &s.q[..*m * d]);
        Ok(())
    }

    /// h = rms_norm(x): the hidden states
    fn final_norm(&self, pass: &mut Pass<'_, '_, '_>) {
        pass.linear.not_finite = SpanError::LOGITS;
        self.rms_norm(pass, &self.weights.output_norm);
    }

    /// What turns hidden states into logits.
    fn lm_head(&self) -> LmHead<'_> {
        LmHead { w: &self.weights.output, layer: self.weights.layers.len() }
    }

    /// h = rms_norm(x)
    fn rms_norm(&self, pass: &mut Pass<'_, '_, '_>, norm: &Norm) {
        let Pass { linear, s, m, .. } = pass;
        let n = *m * self.config.n_embd;
        let x = RowsMut::new(&mut s.x[..n], self.config.n_embd);
        linear.rms_norm(x, &s.spans, norm, self.config.rms_eps, &mut s.h[..n]);
    }

    /// Rotates the heads of each row by its position.
    fn rope(&self, linear: &Linear<'_>, mut rows: RowsMut<'_>, rotations: &[f32]) {
        let (head_dim, n_rot, width) = (self.config.head_dim, self.config.rope.n_dims, rows.width());
        linear.team.for_each_chunk(rows.data(), width, |t, row| {
            self.kernels.apply_rope(row, head_dim, n_rot, &rotations[t * 2 * n_rot..][..2 * n_rot]);
        });
    }
}
