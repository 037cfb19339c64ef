//! Models of zeros, of any shape: which numbers a model has does not change what memory it takes.

use std::path::{Path, PathBuf};

use bise::gguf::{GgufDataWriter, GgufFile, GgufWriter, TensorType, Value, WriteError};

use super::cli_support::Folder;

/// A model.
#[derive(Clone, Copy)]
pub struct Shape {
    pub n_embd: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub n_ff: usize,
    pub n_experts: usize,
    pub window: u32,
    pub tied: bool,
    pub tensor_type: TensorType,
}

/// A small one.
pub const PLAIN: Shape = Shape {
    n_embd: 256,
    n_layers: 4,
    n_heads: 4,
    n_kv_heads: 2,
    n_ff: 768,
    n_experts: 0,
    window: 0,
    tied: false,
    tensor_type: TensorType::F16,
};

impl Shape {
    /// Writes the model to `zeros.gguf`.
    pub fn write(&self, folder: &Folder) -> PathBuf {
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny/bise-tiny.Q4_K_M.gguf");
        let tiny = GgufFile::open(tiny).unwrap();
        let mut writer = GgufWriter::new();
        for (key, value) in tiny.metadata().iter().filter(|(key, _)| !key.starts_with("llama.rope")) {
            writer.metadata_mut().set(key, value.clone());
        }
        let mut set = |key: &str, n: usize| {
            writer.metadata_mut().set(&format!("llama.{key}"), Value::U32(n as u32));
        };
        let head_dim = self.n_embd / self.n_heads;
        set("embedding_length", self.n_embd);
        set("block_count", self.n_layers);
        set("feed_forward_length", self.n_ff);
        set("attention.head_count", self.n_heads);
        set("attention.head_count_kv", self.n_kv_heads);
        set("attention.key_length", head_dim);
        set("attention.value_length", head_dim);
        set("rope.dimension_count", head_dim);
        set("attention.sliding_window", self.window as usize);
        if self.n_experts > 0 {
            set("expert_count", self.n_experts);
            set("expert_used_count", 2);
        }
        let mut tensors: Vec<(String, Vec<usize>, TensorType)> = Vec::new();
        let (d, kv) = (self.n_embd, self.n_kv_heads * head_dim);
        let n_vocab = 4096;
        let mut matrix = |name: &str, shape: &[usize]| {
            tensors.push((format!("{name}.weight"), shape.to_vec(), self.tensor_type));
        };
        matrix("token_embd", &[d, n_vocab]);
        if !self.tied {
            matrix("output", &[d, n_vocab]);
        }
        for i in 0..self.n_layers {
            matrix(&format!("blk.{i}.attn_q"), &[d, d]);
            matrix(&format!("blk.{i}.attn_k"), &[d, kv]);
            matrix(&format!("blk.{i}.attn_v"), &[d, kv]);
            matrix(&format!("blk.{i}.attn_output"), &[d, d]);
            match self.n_experts {
                0 => {
                    matrix(&format!("blk.{i}.ffn_gate"), &[d, self.n_ff]);
                    matrix(&format!("blk.{i}.ffn_up"), &[d, self.n_ff]);
                    matrix(&format!("blk.{i}.ffn_down"), &[self.n_ff, d]);
                }
                n => {
                    matrix(&format!("blk.{i}.ffn_gate_inp"), &[d, n]);
                    matrix(&format!("blk.{i}.ffn_gate_exps"), &[d, self.n_ff, n]);
                    matrix(&format!("blk.{i}.ffn_up_exps"), &[d, self.n_ff, n]);
                    matrix(&format!("blk.{i}.ffn_down_exps"), &[self.n_ff, d, n]);
                }
            }
        }
        for i in 0..self.n_layers {
            tensors.push((format!("blk.{i}.attn_norm.weight"), vec![d], TensorType::F32));
            tensors.push((format!("blk.{i}.ffn_norm.weight"), vec![d], TensorType::F32));
        }
        tensors.push(("output_norm.weight".to_owned(), vec![d], TensorType::F32));
        for (name, shape, tensor_type) in &tensors {
            writer.add_tensor(name, shape, *tensor_type).unwrap();
        }
        let path = folder.path("zeros.gguf");
        let fill = |out: &mut GgufDataWriter<_>| {
            tensors.iter().try_for_each(|(_, shape, tensor_type)| {
                let n: usize = shape.iter().product();
                let bytes = match tensor_type {
                    TensorType::F32 => 4 * n,
                    TensorType::F16 => 2 * n,
                    TensorType::Q8_0 => n / 32 * 34,
                    TensorType::Q4_K => n / 256 * 144,
                    other => panic!("{other:?}"),
                };
                out.write(&vec![0; bytes])
            })
        };
        writer.save::<WriteError>(&path, fill).unwrap();
        path
    }
}
