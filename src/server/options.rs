//! How the server is run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bise_models::gguf::GgufFile;
use serde_json::{Map, Value};

use crate::Engine;
use crate::chat::ChatTemplate;
use crate::embedding::Pooling;
use crate::hub::Extras;
use crate::memory::MemoryPlan;
use crate::sampling::SamplingParams;
use crate::scheduler::SchedulerOptions;

/// An error of any kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host name or IP address. Several addresses of one name are all listened on.
    Host(String),
    /// A Unix socket.
    Socket(PathBuf),
}

/// Which pages of other sites may use the server (`--cors-origins`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsOptions {
    /// Origins (`https://example.org`), `localhost` for any on this machine, `*` for all. None by default.
    pub origins: Vec<String>,
    /// Methods they may use.
    pub methods: Vec<String>,
    /// Headers they may send; `*` for all.
    pub headers: Vec<String>,
    /// Whether they may send cookies and authorization.
    pub credentials: bool,
}

/// How the server is run.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where it listens. What systemd hands over comes first, and in place of these.
    pub addresses: Vec<Address>,
    /// The port; 0 is any that is free.
    pub port: u16,
    /// Keys of which a client has to know one. None: everybody may ask.
    pub api_keys: Vec<String>,
    /// What stands before all paths.
    pub prefix: String,
    /// Pages of other sites that may ask.
    pub cors: CorsOptions,
    /// Whether `/slots` is there.
    pub slots: bool,
    /// Whether `/metrics` is there.
    pub metrics: bool,
    /// Whether the chat page is there.
    pub page: bool,
    /// Whether `POST /props` is there.
    pub props: bool,
    /// The version that clients of Ollama are told.
    pub ollama_version: String,
    /// Whether answers bear the prompt as the model saw it, under `__verbose`.
    pub verbose: bool,
    /// Whether prompts are kept, and what is kept is used, where a request says nothing.
    pub cache_prompt: bool,
    /// How often a stream that has nothing to say says that it is alive.
    pub ping: Option<Duration>,
    /// How long a client may take to send its request, or be idle before the next one.
    pub timeout: Duration,
    /// How long answers under way may take once the server was told to end.
    pub grace: Duration,
    /// After how long without requests the model leaves memory until the next one.
    pub sleep_idle: Option<Duration>,
    /// Threads that read and write; passes have their own.
    pub threads: usize,
}

/// How requests that are answered at a time share a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextShare {
    /// Each has it for itself.
    Each,
    /// Each has an equal part of it.
    Split,
    /// Each may fill it, as far as the others leave room.
    Pool,
}

/// Opens a model.
pub trait Opener: Send + Sync {
    /// Opens it; called again when it is loaded again. Takes as long as the disk does.
    ///
    /// # Errors
    /// The file, or the memory for it.
    fn open(&self) -> Result<Engine, BoxError>;

    /// What it will take of memory, without opening it.
    ///
    /// # Errors
    /// The file.
    fn plan(&self) -> Result<MemoryPlan, BoxError>;

    /// The file, of which no weight is read.
    ///
    /// # Errors
    /// It is none.
    fn file(&self) -> Result<GgufFile, BoxError>;
}

/// The adapters (LoRA) of a model.
#[derive(Clone, Debug, Default)]
pub struct AdapterOptions {
    /// GGUF files and folders of PEFT that it is opened with, each with a factor on its scale. Their numbers are their places.
    pub files: Vec<(PathBuf, f32)>,
    /// Whether they act on no request until one says so, or `POST /lora-adapters` does.
    pub wait: bool,
    /// The folder that clients may load more from; none, where there is none.
    pub folder: Option<PathBuf>,
}

/// A model to serve: how it is opened, and what it is called.
#[derive(Clone)]
pub struct ModelOptions {
    /// Its names, sorted; answers bear the first one.
    pub aliases: Vec<String>,
    /// Words about it, for people.
    pub tags: Vec<String>,
    /// The file, or what stands for one.
    pub path: String,
    /// Opens it.
    pub opener: Arc<dyn Opener>,
    /// Its adapters.
    pub adapters: AdapterOptions,
    /// What a Modelfile says beside the weights.
    pub extras: Extras,
    /// Sampling parameters, where a request says nothing.
    pub sampling: SamplingParams,
    /// Ollama's names of those that flags or a Modelfile set. Its interface has defaults of its own for the others.
    pub sampling_set: Vec<String>,
    /// Tokens of an answer at most, where a request gives no number; `None` is until the context is full.
    pub max_tokens: Option<usize>,
    /// Texts that end an answer, where a request names none.
    pub stop: Vec<String>,
    /// Chat template in place of the file's.
    pub template: Option<ChatTemplate>,
    /// More variables for the chat template.
    pub template_args: Map<String, Value>,
    /// Whether to think, where a request says nothing.
    pub thinking: Option<bool>,
    /// Whether thoughts stay in the answer as they are written, where a request says nothing.
    pub raw_reasoning: bool,
    /// Whether calls of tools are looked for in answers; they stay in the text otherwise.
    pub finds_calls: bool,
    /// Whether an answer at the end of a conversation is continued, where a request says nothing.
    pub continues_answers: bool,
    /// How requests share the context of [`SchedulerOptions::session`].
    pub context: ContextShare,
    /// Slots, queue, context.
    pub scheduler: SchedulerOptions,
    /// How hidden states become one vector, in place of what the file says.
    pub pooling: Option<Pooling>,
    /// Whether texts are not pooled: a vector for each token.
    pub embeds_tokens: bool,
}

impl ModelOptions {
    /// The name that answers bear.
    pub fn name(&self) -> &str {
        self.aliases.first().map_or("", String::as_str)
    }

    /// Tokens that each request has, of a context of `n_ctx`.
    pub fn n_ctx_each(&self, n_ctx: usize) -> usize {
        match self.context {
            ContextShare::Each | ContextShare::Pool => n_ctx,
            ContextShare::Split => n_ctx / self.scheduler.n_slots.max(1),
        }
    }
}
