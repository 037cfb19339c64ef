//! Flags as typed. What they mean is worked out beside each group, and by the commands.

pub mod adapter;
#[cfg_attr(not(feature = "grammar"), path = "no_constraint.rs")]
pub mod constraint;
pub mod environment;
pub mod help;
pub mod llama_cpp;
pub mod log;
pub mod model;
pub mod numbers;
pub mod prompt;
pub mod prompt_cache;
pub mod sampling;
#[cfg(feature = "server")]
pub mod server;
pub mod source;
pub mod speculation;
mod stray;
#[cfg(feature = "quantize")]
pub mod tensor_types;
pub mod threads;
pub mod words;

use self::constraint::ConstraintArgs;
use self::model::{ContextArgs, ModelArgs};
use self::prompt::{ConversationArgs, GenerationArgs, OutputArgs, PromptArgs};
use self::prompt_cache::PromptCacheArgs;
use self::sampling::SamplingArgs;
use self::speculation::SpeculationArgs;

/// Everything that goes on from a prompt understands.
#[derive(clap::Args, Clone, Debug)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub chat: ChatArgs,
    #[command(flatten)]
    pub generation: GenerationArgs,
}

/// What a conversation understands.
#[derive(clap::Args, Clone, Debug)]
pub struct ChatArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub prompt: PromptArgs,
    #[command(flatten)]
    pub context: ContextArgs,
    #[command(flatten)]
    pub prompt_cache: PromptCacheArgs,
    #[command(flatten)]
    pub conversation: ConversationArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub constraint: ConstraintArgs,
    #[command(flatten)]
    pub speculation: SpeculationArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}
