//! What is told about a model, whether it is in memory or not.

use bise_models::MistralConfig;
use bise_models::gguf::GgufFile;
use bise_models::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};
use twox_hash::XxHash3_128;

use super::{Model, metadata};
use crate::chat::SpecialTokens;
use crate::description::Description;
use crate::hub::Sha256;
use crate::server::options::{BoxError, ModelOptions};
use crate::session_file::fingerprint;

/// What the file of a model says about it.
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
        let template = model.template.as_ref().map(|template| template.source().to_owned());
        let (file, config, tokenizer) = (engine.file(), engine.config(), engine.tokenizer());
        let digest = digest(engine.fingerprint());
        Facts { template, digest, ..Facts::from_parts(file, config, tokenizer, model.n_ctx) }
    }

    /// Those of a model that is not in memory. `known` is the digest by which the hub has it.
    ///
    /// # Errors
    /// The file is none that can be served.
    pub fn of_file(options: &ModelOptions, known: Option<Sha256>) -> Result<Facts, BoxError> {
        let file = options.opener.file()?;
        let config = MistralConfig::from_metadata(file.metadata())?;
        let tokenizer = Tokenizer::from_metadata(file.metadata())?;
        let asked = options.scheduler.session.n_ctx;
        let n_ctx = options.n_ctx_each(if asked == 0 { config.n_ctx_train } else { asked });
        let template = match &options.template {
            Some(template) => Some(template.source().to_owned()),
            None => {
                let source = file.metadata().str("tokenizer.chat_template")?;
                source.filter(|source| !source.is_empty()).map(str::to_owned)
            }
        };
        let digest = known.map_or_else(|| digest(fingerprint(&file)), |digest| digest.to_string());
        Ok(Facts { template, digest, ..Facts::from_parts(&file, &config, &tokenizer, n_ctx) })
    }

    fn from_parts(file: &GgufFile, config: &MistralConfig, tokenizer: &Tokenizer, n_ctx: usize) -> Facts {
        let metadata = file.metadata();
        let special_tokens = SpecialTokens::of(tokenizer);
        let pooling = metadata.u64(&format!("{}.pooling_type", config.arch)).ok().flatten();
        Facts {
            n_vocab: config.n_vocab,
            n_ctx_train: config.n_ctx_train,
            n_embd: config.n_embd,
            about: Description::of(file),
            sentence_piece: metadata.str("tokenizer.ggml.model").ok().flatten() == Some("llama"),
            template: None,
            bos: special_tokens.bos,
            eos: special_tokens.eos,
            n_ctx,
            infills: tokenizer.infill_prefix().is_some(),
            pooled: matches!(pooling, Some(1..=3)),
            file_bytes: file.n_bytes(),
            digest: String::new(),
            metadata: self::metadata(file, MAX_ITEMS),
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
