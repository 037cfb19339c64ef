//! A layer's attention, forward and backward.

use bise_kernels::backward::{AttentionGradients, AttentionInputs, AttentionShape};

use crate::config::MistralConfig;
use crate::linear::Target;
use crate::site::{Projection, Site};
use crate::train::buffers::Activations;
use crate::train::error::{Place, TrainError, Values};
use crate::train::lora::Loras;
use crate::train::products::InputGradient;
use crate::train::step::Step;
use crate::weights::Layer;

impl<'a> Step<'a> {
    /// `x += Wo · attention(rope(Wq·h), rope(Wk·h), Wv·h)`, where `h = rms_norm(x)`
    ///
    /// Keeps queries, keys, values and what attention gives in `kept`.
    pub fn attention(
        &mut self,
        i: usize,
        layer: &Layer,
        loras: &Loras,
        x: &mut [f32],
        kept: &mut Activations,
    ) -> Result<(), TrainError> {
        let (m, c) = (self.batch.n(), self.config);
        let (q_dim, kv_dim, d) = (c.q_dim(), c.kv_dim(), c.n_embd);
        self.products.enter(Values::Activations, Place::Attention(i))?;
        let site = |projection| Site { layer: i, projection, expert: None };
        let Activations { q, k, v, a, log_sums, .. } = kept;
        let (q, k, v) = (&mut q[..m * q_dim], &mut k[..m * kv_dim], &mut v[..m * kv_dim]);
        let (a, log_sums) = (&mut a[..m * q_dim], &mut log_sums[..m * c.n_heads]);
        let shape = self.attention_shape();

        let h = &mut self.s.h[..m * d];
        self.products.rms_norm(x, &layer.attn_norm, c.rms_eps, h)?;
        let targets = [
            Target { site: site(Projection::AttnQ), w: &layer.attn_q, y: &mut *q },
            Target { site: site(Projection::AttnK), w: &layer.attn_k, y: &mut *k },
            Target { site: site(Projection::AttnV), w: &layer.attn_v, y: &mut *v },
        ];
        self.products.forward(0, h, targets, loras)?;
        self.rope(q);
        self.rope(k);
        self.products.executor.attention(&shape, q, k, v, a, log_sums);
        let out = &mut self.s.dh[..m * d];
        let target = Target { site: site(Projection::AttnOutput), w: &layer.attn_output, y: &mut *out };
        self.products.forward(0, a, [target], loras)?;
        self.products.add(x, out);
        self.products.check(x)
    }

    /// From `dx`, the gradient behind [`Step::attention`], to the gradient before it, if that is wanted. `x` is its input.
    ///
    /// ```text
    /// da = dx·Wo
    /// dq, dk, dv = attention'(q, k, v, da)
    /// dh = rope⁻¹(dq)·Wq + rope⁻¹(dk)·Wk + dv·Wv
    /// dx += rms_norm'(x, dh)
    /// ```
    #[allow(clippy::too_many_arguments)]
    pub fn attention_backward(
        &mut self,
        i: usize,
        layer: &Layer,
        loras: &mut Loras,
        x: &[f32],
        kept: &Activations,
        dx: &mut [f32],
        is_wanted: bool,
    ) -> Result<(), TrainError> {
        let (m, c) = (self.batch.n(), self.config);
        let (q_dim, kv_dim, d) = (c.q_dim(), c.kv_dim(), c.n_embd);
        self.products.enter(Values::Gradients, Place::Attention(i))?;
        let Activations { q, k, v, a, log_sums, .. } = kept;
        let (q, k, v) = (&q[..m * q_dim], &k[..m * kv_dim], &v[..m * kv_dim]);
        let (a, log_sums) = (&a[..m * q_dim], &log_sums[..m * c.n_heads]);
        let shape = self.attention_shape();

        let (h, dh) = (&mut self.s.h[..m * d], &mut self.s.dh[..m * d]);
        let (dq, da) = (&mut self.s.dq[..m * q_dim], &mut self.s.da[..m * q_dim]);
        let (dk, dv) = (&mut self.s.dk[..m * kv_dim], &mut self.s.dv[..m * kv_dim]);
        let products = &mut self.products;
        // Queries, keys and values matter if something before them is trained.
        let goes_on = is_wanted || loras.has_any(&[Projection::AttnQ, Projection::AttnK, Projection::AttnV]);
        let lora = loras.get_mut(Projection::AttnOutput);
        products.backward(0, &layer.attn_output, lora, a, dx, InputGradient::set_if(goes_on, da));
        if !goes_on {
            return Ok(());
        }
        let inputs = AttentionInputs { q, k, v, out: a, log_sums, d_out: da };
        let gradients = AttentionGradients { q: &mut *dq, k: &mut *dk, v: &mut *dv };
        products.executor.attention_backward(&shape, &inputs, gradients);
        products.executor.rope_backward(dq, q_dim, c.head_dim, c.rope.n_dims, self.rotations);
        products.executor.rope_backward(dk, kv_dim, c.head_dim, c.rope.n_dims, self.rotations);

        products.rms_norm(x, &layer.attn_norm, c.rms_eps, h)?;
        let (lora, to) = (loras.get_mut(Projection::AttnQ), InputGradient::set_if(is_wanted, dh));
        products.backward(0, &layer.attn_q, lora, h, dq, to);
        let (lora, to) = (loras.get_mut(Projection::AttnK), InputGradient::add_if(is_wanted, dh));
        products.backward(0, &layer.attn_k, lora, h, dk, to);
        let (lora, to) = (loras.get_mut(Projection::AttnV), InputGradient::add_if(is_wanted, dh));
        products.backward(0, &layer.attn_v, lora, h, dv, to);
        if is_wanted {
            products.executor.rms_norm_backward(x, layer.attn_norm.view(), c.rms_eps, dh, dx);
            products.check(dx)?;
        }
        Ok(())
    }

    /// The heads, and what each row sees.
    fn attention_shape(&self) -> AttentionShape<'a> {
        let MistralConfig { n_heads, n_kv_heads, head_dim, sliding_window: window, .. } = *self.config;
        let (scales, sequences) = (self.scales, &self.batch.sequences);
        AttentionShape { n_heads, n_kv_heads, head_dim, window, scales, sequences }
    }

    /// Rotates the heads of each row by its position.
    fn rope(&self, rows: &mut [f32]) {
        let (kernels, team) = (self.products.executor.kernels(), self.products.executor.team());
        let (head_dim, n_rot, width) =
            (self.config.head_dim, self.config.rope.n_dims, rows.len() / self.batch.n());
        team.for_each_chunk(rows, width, |t, row| {
            kernels.apply_rope(row, head_dim, n_rot, &self.rotations[t * 2 * n_rot..][..2 * n_rot]);
        });
    }
}
