//! What tensors are called: in GGUF files, by transformers and by Mistral.

use crate::convert::layout::Layout;

/// A linear layer, a norm or an embedding, without `.weight`.
pub(super) struct Module {
    pub gguf: &'static str,
    hugging_face: &'static str,
    mistral: &'static str,
}

impl Module {
    const fn new(gguf: &'static str, hugging_face: &'static str, mistral: &'static str) -> Module {
        Module { gguf, hugging_face, mistral }
    }

    /// The name in a checkpoint, behind that of the layer.
    pub fn name(&self, layout: Layout) -> &'static str {
        match layout {
            Layout::HuggingFace => self.hugging_face,
            Layout::Mistral => self.mistral,
        }
    }

    /// What comes before the number of a layer.
    pub fn layers(layout: Layout) -> &'static str {
        match layout {
            Layout::HuggingFace => "model.layers.",
            Layout::Mistral => "layers.",
        }
    }
}

pub(super) const EMBEDDING: Module = Module::new("token_embd", "model.embed_tokens", "tok_embeddings");
pub(super) const OUTPUT_NORM: Module = Module::new("output_norm", "model.norm", "norm");
pub(super) const OUTPUT: Module = Module::new("output", "lm_head", "output");

/// The modules of a layer.
pub(super) struct Layer {
    pub attn_norm: Module,
    pub attn_q: Module,
    pub attn_k: Module,
    pub attn_v: Module,
    pub attn_output: Module,
    pub ffn_norm: Module,
    pub ffn_gate: Module,
    pub ffn_up: Module,
    pub ffn_down: Module,
    /// Mixtral's, of which there is no form in Mistral's own layout.
    pub router: Module,
}

pub(super) const LAYER: Layer = Layer {
    attn_norm: Module::new("attn_norm", "input_layernorm", "attention_norm"),
    attn_q: Module::new("attn_q", "self_attn.q_proj", "attention.wq"),
    attn_k: Module::new("attn_k", "self_attn.k_proj", "attention.wk"),
    attn_v: Module::new("attn_v", "self_attn.v_proj", "attention.wv"),
    attn_output: Module::new("attn_output", "self_attn.o_proj", "attention.wo"),
    ffn_norm: Module::new("ffn_norm", "post_attention_layernorm", "ffn_norm"),
    ffn_gate: Module::new("ffn_gate", "mlp.gate_proj", "feed_forward.w1"),
    ffn_up: Module::new("ffn_up", "mlp.up_proj", "feed_forward.w3"),
    ffn_down: Module::new("ffn_down", "mlp.down_proj", "feed_forward.w2"),
    router: Module::new("ffn_gate_inp", "block_sparse_moe.gate", ""),
};
