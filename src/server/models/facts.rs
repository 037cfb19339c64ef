//! What is told about a model, whether it is in memory or not.

use serde_json::{Map, Value, json};
use twox_hash::XxHash3_128;

use super::{Model, metadata};
use crate::description::Description;

/// What was found out about a model when it was opened.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Tokens of the vocabulary.
    pub n_vocab: usize,
    /// The context it was trained for.
    pub n_ctx_train: usize,
    /// Width of its hidden states.
    pub n_embd: usize,
    /// Its name in the file, architecture, size and quantization.
    pub about: Description,
    /// Whether the vocabulary is one of SentencePiece, rather than byte-level BPE.
    pub sentence_piece: bool,
    /// The source of the chat template.
    pub template: Option<String>,
    /// The texts of BOS and EOS.
    pub bos: String,
    /// See `bos`.
    pub eos: String,
    /// Tokens of a request and its answer.
    pub n_ctx: usize,
    /// Whether the vocabulary has the tokens for filling in the middle.
    pub infills: bool,
    /// Whether the file is meant for embeddings: it says how they are pooled.
    pub pooled: bool,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// 64 hexadecimal digits that tell the model from others.
    pub digest: String,
    /// The metadata of the file, without long arrays.
    pub metadata: Map<String, Value>,
}

/// Arrays with more items are not kept.
const MAX_ITEMS: usize = 5;

impl Facts {
    /// Those of a model in memory.
    pub fn of(model: &Model) -> Facts {
        let engine = &model.engine;
        let config = engine.config();
        let kind = engine.file().metadata().str("tokenizer.ggml.model").ok().flatten();
        Facts {
            n_vocab: config.n_vocab,
            n_ctx_train: config.n_ctx_train,
            n_embd: config.n_embd,
            about: Description::of(engine.file()),
            sentence_piece: kind == Some("llama"),
            template: model.template.as_ref().map(|template| template.source().to_owned()),
            bos: model.special_tokens.bos.clone(),
            eos: model.special_tokens.eos.clone(),
            n_ctx: model.n_ctx,
            infills: engine.tokenizer().infill_prefix().is_some(),
            pooled: matches!(engine.pooling(), Ok(Some(_))),
            file_bytes: engine.file().n_bytes(),
            digest: digest(engine.fingerprint()),
            metadata: metadata(engine.file(), MAX_ITEMS),
        }
    }

    /// As llama-server's `meta`.
    pub fn meta(&self) -> Value {
        json!({
            "vocab_type": if self.sentence_piece { 1 } else { 2 },
            "n_vocab": self.n_vocab,
            "n_ctx_train": self.n_ctx_train,
            "n_ctx": self.n_ctx,
            "n_embd": self.n_embd,
            "n_params": self.about.n_params,
            "size": self.about.n_bytes,
        })
    }
}

/// As long as that of a SHA-256, which would take reading the whole file.
fn digest(fingerprint: u128) -> String {
    let more = XxHash3_128::oneshot(&fingerprint.to_le_bytes());
    format!("{fingerprint:032x}{more:032x}")
}
