//! The server: where it listens, who may ask, what it shows.

use std::path::PathBuf;
use std::time::Duration;

use bise::memory::MemoryLimit;

use super::numbers::positive;
use crate::cli::ollama_host::OllamaHost;

/// Where and for whom.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub struct ListenArgs {
    /// Addresses to listen on, separated by commas; one that ends in .sock is a Unix socket. Sockets that systemd hands over come first [default: 127.0.0.1]
    #[arg(long, value_name = "HOST,…", value_delimiter = ',', env = "LLAMA_ARG_HOST")]
    pub host: Vec<String>,

    /// Port to listen on; 0: any that is free, which is printed [default: 8080]
    #[arg(long, value_name = "PORT", env = "LLAMA_ARG_PORT")]
    pub port: Option<u16>,

    /// Where to listen as Ollama has it, by default on its port 11434; --host and --port come first
    #[arg(long, value_name = "HOST:PORT", env = "OLLAMA_HOST")]
    pub ollama_host: Option<OllamaHost>,

    /// Path that all endpoints begin with
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = "",
        hide_default_value = true,
        env = "LLAMA_ARG_API_PREFIX"
    )]
    pub api_prefix: String,

    /// Keys of which a client has to know one, separated by commas
    #[arg(long, value_name = "KEY,…", value_delimiter = ',', env = "LLAMA_API_KEY", hide_env_values = true)]
    pub api_key: Vec<String>,

    /// Read keys from a file, one a line
    #[arg(long, value_name = "FILE", env = "LLAMA_ARG_API_KEY_FILE")]
    pub api_key_file: Option<PathBuf>,

    /// Origins whose pages may use the server, separated by commas; localhost: any on this machine, *: all [default: none]
    #[arg(long, value_name = "ORIGIN,…", value_delimiter = ',', env = "LLAMA_ARG_CORS_ORIGINS")]
    pub cors_origins: Vec<String>,

    /// Methods that they may use
    #[arg(
        long,
        value_name = "METHOD,…",
        value_delimiter = ',',
        default_value = "GET, POST, DELETE, OPTIONS",
        env = "LLAMA_ARG_CORS_METHODS"
    )]
    pub cors_methods: Vec<String>,

    /// Headers that they may send; *: all
    #[arg(
        long,
        value_name = "HEADER,…",
        value_delimiter = ',',
        default_value = "*",
        env = "LLAMA_ARG_CORS_HEADERS"
    )]
    pub cors_headers: Vec<String>,

    /// Let them send cookies and keys (the default)
    #[arg(long, hide = true, overrides_with = "no_cors_credentials", env = "LLAMA_ARG_CORS_CREDENTIALS")]
    pub cors_credentials: bool,

    /// Do not let them send cookies and keys
    #[arg(long, overrides_with = "cors_credentials")]
    pub no_cors_credentials: bool,

    /// Seconds that a client may take to send a request
    #[arg(long, alias = "to", value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..), env = "LLAMA_ARG_TIMEOUT")]
    pub timeout: u32,

    /// Seconds between two signs of life in a stream that has nothing to say; 0: none
    #[arg(long, value_name = "N", default_value_t = 30, env = "LLAMA_ARG_SSE_PING_INTERVAL")]
    pub sse_ping_interval: u32,

    /// Threads that read requests and write answers; the model has its own (--threads)
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = positive, env = "LLAMA_ARG_THREADS_HTTP")]
    pub threads_http: usize,

    /// Seconds that answers under way may take once the server was told to end
    #[arg(long, value_name = "N", default_value_t = 4, env = "BISE_SHUTDOWN_GRACE")]
    pub shutdown_grace: u32,
}

/// What is served, and how much of it at a time.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Requests")]
pub struct ServingArgs {
    /// Names of the model, separated by commas [default: the file's name]
    #[arg(short, long, value_name = "NAME,…", value_delimiter = ',', env = "LLAMA_ARG_ALIAS")]
    pub alias: Vec<String>,

    /// Words about the model for clients that list models, separated by commas
    #[arg(long, value_name = "TAG,…", value_delimiter = ',', env = "LLAMA_ARG_TAGS")]
    pub tags: Vec<String>,

    /// Requests answered at a time, which share the context; -1: 4, each of which may fill it [default: -1]
    #[arg(long, alias = "np", value_name = "N", default_value_t = -1, hide_default_value = true, allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-1..=1024), env = "LLAMA_ARG_N_PARALLEL")]
    pub parallel: i64,

    /// Let each request fill the whole context, as far as the others leave room
    #[arg(long, alias = "kvu", overrides_with = "no_kv_unified", env = "LLAMA_ARG_KV_UNIFIED")]
    pub kv_unified: bool,

    /// Give each request its share of the context (the default with --parallel)
    #[arg(long, alias = "no-kvu", hide = true, overrides_with = "kv_unified")]
    pub no_kv_unified: bool,

    /// Requests that may wait; more are answered with 503
    #[arg(long, value_name = "N", default_value_t = 512, env = "BISE_MAX_QUEUE")]
    pub max_queue: usize,

    /// Maximum number of tokens of an answer where a request gives none; -1: until the context is full
    #[arg(short, long, alias = "predict", value_name = "N", default_value_t = -1, value_parser = clap::value_parser!(i64).range(-2..), allow_negative_numbers = true, env = "LLAMA_ARG_N_PREDICT")]
    pub n_predict: i64,

    /// How the vectors of a text's tokens become one embedding: their mean, the first (cls) or the last; none: they all are sent [default: as the file says, or mean]
    #[arg(long, value_name = "KIND", env = "LLAMA_ARG_POOLING")]
    pub pooling: Option<PoolingArg>,

    /// Keep what was read of prompts for later requests that begin alike (the default)
    #[arg(long, hide = true, overrides_with = "no_cache_prompt", env = "LLAMA_ARG_CACHE_PROMPT")]
    pub cache_prompt: bool,

    /// Read every prompt as a whole, unless a request says otherwise
    #[arg(long, overrides_with = "cache_prompt")]
    pub no_cache_prompt: bool,

    /// Keep what was read of prompts in a folder, too, for later starts and other servers with this model
    #[arg(long, value_name = "FOLDER", env = "BISE_CACHE_DIR")]
    pub cache_dir: Option<PathBuf>,

    /// Size of that folder at most; what was used longest ago goes first
    #[arg(long, value_name = "SIZE", default_value = "8G", value_parser = bytes, env = "BISE_CACHE_DIR_SIZE")]
    pub cache_dir_size: u64,

    /// Continue an answer that a conversation ends with (the default)
    #[arg(long, hide = true, overrides_with = "no_prefill_assistant", env = "LLAMA_ARG_PREFILL_ASSISTANT")]
    pub prefill_assistant: bool,

    /// Begin a new answer, even where a conversation ends with one
    #[arg(long, overrides_with = "prefill_assistant")]
    pub no_prefill_assistant: bool,

    /// End answers where this text is generated, unless a request names such texts
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub reverse_prompt: Vec<String>,

    /// What becomes of a model's thoughts, unless a request says otherwise: auto and deepseek send them apart from the answer (as reasoning_content), none leaves them in it
    #[arg(long, value_name = "FORMAT", default_value = "auto", env = "LLAMA_ARG_THINK")]
    pub reasoning_format: ReasoningFormat,

    /// Leave thoughts and calls of tools in the text of the answer, as the model wrote them
    #[arg(long, overrides_with = "no_skip_chat_parsing", env = "LLAMA_ARG_SKIP_CHAT_PARSING")]
    pub skip_chat_parsing: bool,

    /// Send thoughts and calls of tools apart from the text (the default)
    #[arg(long, hide = true, overrides_with = "skip_chat_parsing")]
    pub no_skip_chat_parsing: bool,

    /// Take the model out of memory after so many seconds without requests, until the next one; -1: never
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-1..))]
    pub sleep_idle_seconds: i64,
}

impl ServingArgs {
    /// The names of `--alias`.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.alias.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
    }
}

/// Adapters, and where clients may load others from.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Adapters")]
pub struct LoraArgs {
    /// Apply adapters to no request until it asks for them (lora, or model: their name) or POST /lora-adapters does
    #[arg(long)]
    pub lora_init_without_apply: bool,

    /// Let clients load adapters from a folder (POST /lora-adapters/load)
    #[arg(long, value_name = "FOLDER", env = "BISE_LORA_DIR")]
    pub lora_dir: Option<PathBuf>,
}

/// Which models there are, and how many at a time, where --model names none.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Models by name (without --model)")]
pub struct RouterArgs {
    /// Also serve the GGUF files of a folder, and of folders in it, by their names
    #[arg(long, value_name = "FOLDER", env = "LLAMA_ARG_MODELS_DIR")]
    pub models_dir: Option<PathBuf>,

    /// Flags of single models, in an INI file: a section for each, flags without dashes as keys; [*] is for all
    #[arg(long, value_name = "FILE", env = "LLAMA_ARG_MODELS_PRESET")]
    pub models_preset: Option<PathBuf>,

    /// Models in memory at a time; the one that nobody has asked for longest goes first, and none that is busy; 0: any number
    #[arg(long, value_name = "N", default_value_t = 4, env = "LLAMA_ARG_MODELS_MAX")]
    pub models_max: usize,

    /// Load a model when it is asked for (the default)
    #[arg(long, hide = true, overrides_with = "no_models_autoload", env = "LLAMA_ARG_MODELS_AUTOLOAD")]
    pub models_autoload: bool,

    /// Load models only by POST /models/load, unless a request says ?autoload=true
    #[arg(long, overrides_with = "models_autoload")]
    pub no_models_autoload: bool,

    /// Seconds that a request waits for room while the models in memory are busy
    #[arg(long, value_name = "N", default_value_t = 300, env = "BISE_MODELS_WAIT")]
    pub models_wait: u32,

    /// Unload a model after so long without requests: seconds, or 5m, 1h30m; -1: never. A request may say otherwise
    #[arg(long, value_name = "TIME", default_value = "5m", allow_hyphen_values = true, value_parser = keep_alive, env = "OLLAMA_KEEP_ALIVE")]
    pub keep_alive: KeepAlive,
}

/// How long a model stays: `None` is for ever.
pub type KeepAlive = Option<Duration>;

fn keep_alive(text: &str) -> Result<KeepAlive, String> {
    bise::server::parse_keep_alive(text)
}

/// Which endpoints there are.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Endpoints")]
pub struct EndpointArgs {
    /// Show what is being done at /slots (the default)
    #[arg(long, hide = true, overrides_with = "no_slots", env = "LLAMA_ARG_ENDPOINT_SLOTS")]
    pub slots: bool,

    /// Do not show what is being done at /slots
    #[arg(long, overrides_with = "slots")]
    pub no_slots: bool,

    /// Show counts for Prometheus at /metrics (the default)
    #[arg(long, hide = true, overrides_with = "no_metrics", env = "LLAMA_ARG_ENDPOINT_METRICS")]
    pub metrics: bool,

    /// Do not show counts for Prometheus at /metrics
    #[arg(long, overrides_with = "metrics")]
    pub no_metrics: bool,

    /// Serve the chat page at / (the default)
    #[arg(long, hide = true, alias = "webui", overrides_with = "no_ui", env = "LLAMA_ARG_UI")]
    pub ui: bool,

    /// Do not serve the chat page
    #[arg(long, alias = "no-webui", overrides_with = "ui")]
    pub no_ui: bool,

    /// Take changes at POST /props
    #[arg(long, env = "LLAMA_ARG_ENDPOINT_PROPS")]
    pub props: bool,

    /// The version that clients of Ollama are told, some of which want a certain one
    #[arg(long, value_name = "VERSION", default_value = "0.34.0", value_parser = version, env = "BISE_OLLAMA_VERSION")]
    pub ollama_version: String,

    /// Log what requests do, and add the prompt as the model saw it to answers
    #[arg(long, alias = "log-verbose", short = 'v')]
    pub verbose: bool,
}

/// Numbers with points between them: clients compare them.
fn version(text: &str) -> Result<String, String> {
    let is_number =
        |part: &str| !part.is_empty() && part.len() < 10 && part.bytes().all(|byte| byte.is_ascii_digit());
    match text.split('.').count() == 3 && text.split('.').all(is_number) {
        true => Ok(text.to_owned()),
        false => Err("expected three numbers, as in 0.34.0".to_owned()),
    }
}

/// `--pooling`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolingArg {
    /// A vector for each token
    None,
    /// The mean over all tokens
    Mean,
    /// The first token's
    Cls,
    /// The last token's
    Last,
}

/// `--reasoning-format`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningFormat {
    /// Apart from the answer
    Auto,
    /// Apart from the answer
    Deepseek,
    /// In the answer
    None,
}

/// A size, written as for `--max-memory`.
fn bytes(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(MemoryLimit::Bytes(bytes)) => Ok(bytes as u64),
        Ok(MemoryLimit::Auto) => Err("found 'auto', expected a size as in 8G, 800M or 5000000000".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
