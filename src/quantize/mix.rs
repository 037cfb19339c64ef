//! Which tensor gets which type: the rules of llama.cpp's `llama-quant.cpp` for models like Mistral.

use bise_models::gguf::TensorType;

use super::file_type::FileType;

/// What the rules ask of a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModelShape {
    pub n_layers: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub n_experts: usize,
    /// Architecture `llama`, rather than `mistral3`.
    pub is_llama: bool,
}

impl ModelShape {
    /// Query heads to a head of keys and values.
    fn n_queries_a_key(&self) -> usize {
        self.n_heads.checked_div(self.n_kv_heads).unwrap_or(0)
    }

    /// A model of 80 layers whose heads share keys and values: its values are small, and get more bits.
    fn is_70b(&self) -> bool {
        self.is_llama && self.n_experts != 8 && self.n_layers == 80 && self.n_heads != self.n_kv_heads
    }
}

/// A tensor's part in the model, as far as the rules care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Output,
    TokenEmbedding,
    AttnQkv,
    AttnV,
    AttnK,
    AttnOutput,
    FfnDown,
    Other,
}

impl Role {
    /// That of the tensor called `name`.
    pub fn of(name: &str) -> Role {
        match name {
            "output.weight" => Role::Output,
            "token_embd.weight" => Role::TokenEmbedding,
            name if name.contains("attn_qkv.weight") => Role::AttnQkv,
            name if name.contains("attn_v.weight") => Role::AttnV,
            name if name.contains("attn_k.weight") => Role::AttnK,
            name if name.contains("attn_output.weight") => Role::AttnOutput,
            name if name.contains("ffn_down") => Role::FfnDown,
            _ => Role::Other,
        }
    }

    /// Errors of values hurt more than others.
    pub fn is_values(self) -> bool {
        matches!(self, Role::AttnV | Role::AttnQkv)
    }
}

/// The layer in a tensor's name.
pub(super) fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

/// Whether a tensor is one that a file type is about: a matrix or a stack of them, but no norm and no router of experts.
pub(super) fn is_quantized(name: &str, shape: &[usize]) -> bool {
    let n_dims = shape.iter().rposition(|&size| size > 1).map_or(1, |last| last + 1);
    n_dims >= 2
        && name.ends_with("weight")
        && !name.contains("_norm.weight")
        && !name.contains("ffn_gate_inp.weight")
}

/// Decides on the tensors of a model one after the other, in the order of layers.
pub(super) struct Mix {
    pub file_type: FileType,
    pub shape: ModelShape,
    pub has_importance: bool,
    /// There is no `output.weight`: the token embedding is used as such.
    pub is_tied: bool,
    pub output_type: Option<TensorType>,
    /// Tensors of values, of fused queries, keys and values too.
    pub n_values: usize,
    values_seen: usize,
    downs_seen: usize,
}

impl Mix {
    pub fn new(file_type: FileType, shape: ModelShape, has_importance: bool) -> Mix {
        let (is_tied, output_type) = (true, None);
        Mix {
            file_type,
            shape,
            has_importance,
            is_tied,
            output_type,
            n_values: 0,
            values_seen: 0,
            downs_seen: 0,
        }
    }

    /// The type for the tensor called `name` with rows of `k`, before rows that do not divide are seen to. `base` is the file type's own.
    pub fn choose(&mut self, name: &str, k: usize, base: TensorType) -> TensorType {
        let role = Role::of(name);
        match role {
            Role::Output => self.output(k, base),
            Role::TokenEmbedding if self.is_tied => self.output(k, base),
            Role::AttnV | Role::AttnQkv => {
                let i = self.values_seen;
                self.values_seen += 1;
                self.values(i, base)
            }
            Role::AttnK if self.shape.n_experts == 8 => TensorType::Q8_0,
            Role::FfnDown => {
                let i = self.downs_seen;
                self.downs_seen += 1;
                // Experts do not come in the order of layers, so they are placed by their names.
                let i = if self.shape.n_experts > 1 { layer(name).unwrap_or(i) } else { i };
                self.ffn_down(i, base)
            }
            Role::AttnOutput => self.attn_output(base),
            _ => base,
        }
    }

    fn output(&self, k: usize, base: TensorType) -> TensorType {
        match self.output_type {
            Some(asked) => asked,
            None if !k.is_multiple_of(base.block_len()) => TensorType::Q8_0,
            None if base == TensorType::Q8_0 => base,
            None => TensorType::Q6_K,
        }
    }

    fn values(&self, i: usize, base: TensorType) -> TensorType {
        use FileType::*;
        let grouped = self.shape.n_queries_a_key() >= 4;
        let chosen = match self.file_type {
            Q2_K if grouped => TensorType::Q4_K,
            Q2_K => TensorType::Q3_K,
            Q2_K_S if grouped => TensorType::Q4_K,
            Q3_K_M if i < 2 => TensorType::Q5_K,
            Q3_K_M => TensorType::Q4_K,
            Q3_K_L => TensorType::Q5_K,
            IQ4_NL | IQ4_XS if grouped => TensorType::Q5_K,
            Q4_K_M | Q5_K_M if use_more_bits(i, self.n_values) => TensorType::Q6_K,
            Q4_K_S if i < 4 => TensorType::Q5_K,
            _ => base,
        };
        match chosen {
            _ if self.shape.n_experts == 8 => TensorType::Q8_0,
            TensorType::Q3_K | TensorType::Q4_K if self.shape.is_70b() => TensorType::Q5_K,
            chosen => chosen,
        }
    }

    fn ffn_down(&self, i: usize, base: TensorType) -> TensorType {
        use FileType::*;
        let n = self.shape.n_layers;
        let is_early = i < n / 8;
        match self.file_type {
            Q2_K => TensorType::Q3_K,
            Q2_K_S if is_early => TensorType::Q4_K,
            Q3_K_M if i < n / 16 => TensorType::Q5_K,
            Q3_K_M => TensorType::Q4_K,
            Q3_K_L => TensorType::Q5_K,
            Q4_K_M | Q5_K_M if use_more_bits(i, n) => TensorType::Q6_K,
            Q4_K_S if is_early => TensorType::Q5_K,
            IQ4_NL | IQ4_XS if is_early && !self.has_importance => TensorType::Q5_K,
            Q4_0 if is_early && self.has_importance => TensorType::Q4_1,
            Q5_0 if is_early && self.has_importance => TensorType::Q5_1,
            _ => base,
        }
    }

    fn attn_output(&self, base: TensorType) -> TensorType {
        use FileType::*;
        match self.file_type {
            Q2_K | Q3_K_S | Q3_K_M | IQ4_NL | Q4_K_S | Q4_K_M | IQ4_XS if self.shape.n_experts == 8 => {
                TensorType::Q5_K
            }
            _ if self.shape.n_experts == 8 => base,
            Q2_K => TensorType::Q3_K,
            Q3_K_M => TensorType::Q4_K,
            Q3_K_L => TensorType::Q5_K,
            _ => base,
        }
    }
}

/// The first eighth of `n` layers, the last eighth, and every third between them.
fn use_more_bits(i: usize, n: usize) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}

/// The type for rows of `k` that are not whole blocks of `wanted`.
pub(super) fn fallback(wanted: TensorType, k: usize) -> TensorType {
    if k.is_multiple_of(wanted.block_len()) {
        return wanted;
    }
    let smaller = match wanted {
        TensorType::IQ4_XS => TensorType::IQ4_NL,
        TensorType::Q2_K | TensorType::Q3_K => TensorType::Q4_0,
        TensorType::Q4_K => TensorType::Q5_0,
        TensorType::Q5_K => TensorType::Q5_1,
        TensorType::Q6_K => TensorType::Q8_0,
        other => other,
    };
    if k.is_multiple_of(smaller.block_len()) { smaller } else { TensorType::F16 }
}
