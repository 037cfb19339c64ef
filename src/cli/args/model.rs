//! Which model, and how it is run.

use std::path::PathBuf;

use bise::gguf::Value;
use bise::memory::MemoryLimit;
use bise::{CacheType, Isa, SessionOptions};

use super::adapter::AdapterArgs;
use super::numbers::{context_length, positive};
use super::source::SourceArgs;
use super::threads::ThreadArgs;

/// The model, and the machine it runs on.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// GGUF file, the first part of a split model, or the FOLDER[:TYPE] of a checkpoint (Q4_K_M), which is converted once; builtin, or nothing: the built-in model
    #[arg(short, long, value_name = "FILE", env = "LLAMA_ARG_MODEL")]
    pub model: Option<PathBuf>,

    #[command(flatten)]
    pub source: SourceArgs,

    #[command(flatten)]
    pub adapters: AdapterArgs,

    #[command(flatten)]
    pub threads: ThreadArgs,

    /// How to load the file: auto and mmap map it, none and dio read it, mlock reads and locks it, mmap+mlock maps and locks it
    #[arg(long, alias = "lm", value_name = "MODE", default_value = "auto", env = "LLAMA_ARG_LOAD_MODE")]
    pub load_mode: LoadMode,

    /// Lock the weights in memory, so that they are never swapped out
    #[arg(long, env = "LLAMA_ARG_MLOCK")]
    pub mlock: bool,

    /// Read the file into memory instead of mapping it
    #[arg(long, overrides_with = "mmap")]
    pub no_mmap: bool,

    /// Map the file (the default)
    #[arg(long, hide = true, overrides_with = "no_mmap", env = "LLAMA_ARG_MMAP")]
    pub mmap: bool,

    /// Keep memory below SIZE (5G, 800M, or bytes; K, M and G are powers of 1024), or below what the machine or its control group has free.
    /// Two numbers are printed and counted: anonymous memory (keys and values, buffers, tokenizer, program), which is never exceeded, and
    /// mapped weights, which the system may drop and read again. What does not fit together is refused before anything is loaded, and the
    /// message says what would fit
    #[arg(long, value_name = "SIZE|auto", env = "BISE_MAX_MEMORY")]
    pub max_memory: Option<MemoryLimit>,

    /// Read weights from the disk again for every pass, as far as they do not fit into --max-memory or, without it, free memory. As slow
    /// as the disk: for a model that does not fit otherwise
    #[arg(long, env = "BISE_STREAM_WEIGHTS")]
    pub stream_weights: bool,

    /// Attend to the last N tokens only; 0: to all of them [default: as the file says]
    #[arg(long, value_name = "N")]
    pub sliding_window: Option<usize>,

    /// Use this instruction set instead of the best one the CPU has
    #[arg(long, value_name = "NAME", env = "BISE_ISA")]
    pub isa: Option<Isa>,

    /// Override metadata of the file; TYPE is int, float, bool or str
    #[arg(long, value_name = "KEY=TYPE:VALUE,…", value_parser = parse_overrides)]
    pub override_kv: Vec<Overrides>,

    #[command(flatten)]
    pub rope: RopeArgs,
}

/// Overrides of the rotary embedding that the file describes.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct RopeArgs {
    /// RoPE: base frequency
    #[arg(long, value_name = "BASE", env = "LLAMA_ARG_ROPE_FREQ_BASE")]
    pub rope_freq_base: Option<f32>,

    /// RoPE: how to scale positions beyond the context the model was trained for
    #[arg(long, value_name = "KIND", env = "LLAMA_ARG_ROPE_SCALING_TYPE")]
    pub rope_scaling: Option<RopeKind>,

    /// RoPE: factor by which the context grows
    #[arg(long, value_name = "N", env = "LLAMA_ARG_ROPE_SCALE")]
    pub rope_scale: Option<f32>,

    /// RoPE: the inverse of that factor
    #[arg(long, value_name = "N", env = "LLAMA_ARG_ROPE_FREQ_SCALE")]
    pub rope_freq_scale: Option<f32>,

    /// YaRN: context the model was trained for, in tokens
    #[arg(long, value_name = "N", env = "LLAMA_ARG_YARN_ORIG_CTX")]
    pub yarn_orig_ctx: Option<usize>,

    /// YaRN: frequencies that turn more often than this stay as they are (beta fast)
    #[arg(long, value_name = "N", allow_negative_numbers = true, env = "LLAMA_ARG_YARN_BETA_FAST")]
    pub yarn_beta_fast: Option<f32>,

    /// YaRN: frequencies that turn less often than this are scaled fully (beta slow)
    #[arg(long, value_name = "N", allow_negative_numbers = true, env = "LLAMA_ARG_YARN_BETA_SLOW")]
    pub yarn_beta_slow: Option<f32>,
}

/// `--rope-scaling`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeKind {
    /// No scaling
    None,
    /// All frequencies by the same factor
    Linear,
    /// Low frequencies more than high ones
    Yarn,
}

/// `--load-mode`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadMode {
    /// Map the file
    Auto,
    /// Read the file into memory
    None,
    /// Map the file
    Mmap,
    /// Read the file into memory and lock it there
    Mlock,
    /// Map the file and lock it in memory
    #[value(name = "mmap+mlock")]
    MmapMlock,
    /// Direct I/O: treated as none
    #[value(hide = true)]
    Dio,
}

/// Context length and key-value cache.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Context")]
pub struct ContextArgs {
    /// Context length in tokens; 0: what the model was trained for
    #[arg(short, long, value_name = "N", default_value_t = 0, value_parser = context_length, env = "LLAMA_ARG_CTX_SIZE")]
    pub ctx_size: u32,

    /// Maximum number of prompt tokens in a batch
    #[arg(short, long, value_name = "N", default_value_t = 2048, value_parser = positive, env = "LLAMA_ARG_BATCH")]
    pub batch_size: usize,

    /// Maximum number of tokens in one forward pass; never more than a batch
    #[arg(long, alias = "ub", value_name = "N", default_value_t = 512, value_parser = positive, env = "LLAMA_ARG_UBATCH")]
    pub ubatch_size: usize,

    #[command(flatten)]
    pub cache: CacheArgs,
}

impl ContextArgs {
    /// Options for a session.
    pub fn session_options(&self) -> SessionOptions {
        let n_ubatch = self.ubatch_size.min(self.batch_size);
        SessionOptions { n_ubatch, ..self.cache.session_options(self.ctx_size as usize) }
    }
}

/// Types of the key-value cache.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct CacheArgs {
    /// Type of the key cache: f32, f16, q8_0 or q4_0
    #[arg(long, alias = "ctk", value_name = "TYPE", default_value = "f16", value_parser = parse_cache_type, env = "LLAMA_ARG_CACHE_TYPE_K")]
    pub cache_type_k: CacheType,

    /// Type of the value cache: f32, f16, q8_0 or q4_0
    #[arg(long, alias = "ctv", value_name = "TYPE", default_value = "f16", value_parser = parse_cache_type, env = "LLAMA_ARG_CACHE_TYPE_V")]
    pub cache_type_v: CacheType,
}

impl CacheArgs {
    /// Options for a session of `n_ctx` tokens with this cache.
    pub fn session_options(&self, n_ctx: usize) -> SessionOptions {
        SessionOptions {
            n_ctx,
            k_type: self.cache_type_k,
            v_type: self.cache_type_v,
            ..SessionOptions::default()
        }
    }
}

/// Parses a cache type by its name in llama.cpp.
///
/// # Errors
/// An unknown name; the message lists the known ones.
pub fn parse_cache_type(name: &str) -> Result<CacheType, String> {
    name.parse::<CacheType>().map_err(|e| e.to_string())
}

/// The pairs of one `--override-kv`.
#[derive(Clone, Debug)]
pub struct Overrides(pub Vec<(String, Value)>);

/// Parses `KEY=TYPE:VALUE,KEY=TYPE:VALUE`. A comma inside a string separates only if another `KEY=TYPE:` follows it.
fn parse_overrides(text: &str) -> Result<Overrides, String> {
    let mut parts: Vec<String> = Vec::new();
    for part in text.split(',') {
        match parts.last_mut() {
            Some(last) if !is_override(part) => {
                last.push(',');
                last.push_str(part);
            }
            _ => parts.push(part.to_string()),
        }
    }
    let pair = |part: String| match part.split_once('=') {
        Some((key, typed)) if !key.is_empty() => {
            let value = Value::parse_override(typed).map_err(|error| format!("{key}: {error}"))?;
            Ok((key.to_string(), value))
        }
        _ => Err(format!("'{part}' is not of the form KEY=TYPE:VALUE")),
    };
    parts.into_iter().map(pair).collect::<Result<_, String>>().map(Overrides)
}

fn is_override(part: &str) -> bool {
    let kind = part.split_once('=').and_then(|(_, typed)| typed.split_once(':')).map(|(kind, _)| kind);
    matches!(kind, Some("int" | "float" | "bool" | "str"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_typed_and_separated_by_commas() {
        let keys =
            |text: &str| parse_overrides(text).map(|o| o.0.into_iter().map(|(k, _)| k).collect::<Vec<_>>());
        assert_eq!(keys("a.b=int:1,c=bool:true").unwrap(), ["a.b", "c"]);
        assert_eq!(keys("name=str:one, two,c=float:0.5").unwrap(), ["name", "c"]);
        for wrong in ["a", "a=int", "a=int:x", "=int:1", "a=bool:1", "a=u8:1"] {
            assert!(keys(wrong).is_err(), "{wrong}");
        }
    }
}
