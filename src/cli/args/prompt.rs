//! The prompt, the conversation, the output.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;

use super::log::LogArgs;
use crate::cli::term::console::When;
use crate::cli::text::{self, unescape};

/// The prompt, and how much to generate.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Prompt")]
pub struct PromptArgs {
    /// Prompt to continue; in a conversation, the first message
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<OsString>,

    /// Read the prompt from a file (one newline at its end is dropped)
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Read the prompt from a file, byte for byte
    #[arg(long, alias = "bf", value_name = "FILE")]
    pub binary_file: Option<PathBuf>,

    /// Maximum number of tokens to generate; -1: no limit, -2: until the context is full
    #[arg(short, long, alias = "predict", value_name = "N", default_value_t = -1, value_parser = clap::value_parser!(i64).range(-2..), allow_negative_numbers = true, env = "LLAMA_ARG_N_PREDICT")]
    pub n_predict: i64,

    /// When the context is full, drop its older half and go on (never needed with a sliding window)
    #[arg(long, overrides_with = "no_context_shift", env = "LLAMA_ARG_CONTEXT_SHIFT")]
    pub context_shift: bool,

    /// Stop when the context is full (the default)
    #[arg(long, hide = true, overrides_with = "context_shift")]
    pub no_context_shift: bool,

    /// Number of prompt tokens that a context shift keeps; -1: all
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub keep: i64,

    /// Stop when this text is generated; in a conversation and with --interactive, give the turn to the user
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub reverse_prompt: Vec<String>,

    /// Print the tokens of the prompt to stderr before generating
    #[arg(long)]
    pub verbose_prompt: bool,

    #[command(flatten)]
    pub escapes: EscapeArgs,
}

/// Whether escapes in prompts are processed.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct EscapeArgs {
    /// Process escapes in prompts: \n, \r, \t, \', \", \\, \xHH (the default)
    #[arg(short, long, overrides_with = "no_escape")]
    pub escape: bool,

    /// Leave backslashes in prompts as they are
    #[arg(long, overrides_with = "escape")]
    pub no_escape: bool,
}

impl PromptArgs {
    /// The prompt of `--prompt`, `--file` or `--binary-file`, with its escapes processed.
    ///
    /// # Errors
    /// A file that cannot be read, or text that is not UTF-8.
    pub fn text(&self) -> Result<Option<String>> {
        if let Some(path) = &self.binary_file {
            return text::from_file(path).map(Some);
        }
        if let Some(path) = &self.file {
            let mut text = text::from_file(path)?;
            if text.ends_with('\n') {
                text.pop();
            }
            return self.escapes.meant("--file", text).map(Some);
        }
        let Some(prompt) = &self.prompt else { return Ok(None) };
        self.escapes.meant("--prompt", text::from_argument("--prompt", prompt)?).map(Some)
    }

    /// The texts of `--reverse-prompt`, with their escapes processed.
    ///
    /// # Errors
    /// Escapes that make bytes which are not UTF-8.
    pub fn reverse_prompts(&self) -> Result<Vec<String>> {
        let meant = |text: &String| self.escapes.meant("--reverse-prompt", text.clone());
        let texts = self.reverse_prompt.iter().map(meant).collect::<Result<Vec<_>>>()?;
        Ok(texts.into_iter().filter(|text| !text.is_empty()).collect())
    }
}

impl EscapeArgs {
    /// The flag that was given, if one was.
    #[cfg(any(feature = "compare", feature = "eval"))]
    pub fn given(self) -> Option<&'static str> {
        match self {
            EscapeArgs { escape: true, .. } => Some("--escape"),
            EscapeArgs { no_escape: true, .. } => Some("--no-escape"),
            _ => None,
        }
    }

    /// A text as meant: with its escapes processed, unless `--no-escape`.
    ///
    /// # Errors
    /// Escapes that make bytes which are not UTF-8; `source` names the text.
    pub fn meant(self, source: &str, text: String) -> Result<String> {
        if self.no_escape { Ok(text) } else { unescape(source, &text) }
    }
}

/// Conversations with a chat template.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Conversation")]
pub struct ConversationArgs {
    /// System prompt: instructions for the whole conversation
    #[arg(long, alias = "sys", value_name = "TEXT", allow_hyphen_values = true)]
    pub system_prompt: Option<OsString>,

    /// Read the system prompt from a file
    #[arg(long, alias = "sysf", value_name = "FILE")]
    pub system_prompt_file: Option<PathBuf>,

    #[command(flatten)]
    pub template: TemplateArgs,

    /// Exit after the first answer
    #[arg(long, alias = "st")]
    pub single_turn: bool,

    /// Let a message span lines, until one that ends in '\' or '/'
    #[arg(long, alias = "mli")]
    pub multiline_input: bool,

    /// Read plain lines, without line editing, even on a terminal
    #[arg(long)]
    pub simple_io: bool,

    /// Keep no history of what is typed (otherwise in $XDG_STATE_HOME/bise/history or ~/.local/state/bise/history)
    #[arg(long, env = "BISE_NO_HISTORY")]
    pub no_history: bool,
}

/// From a conversation to a prompt.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Conversation")]
pub struct TemplateArgs {
    /// Chat template, by name (mistral-v1, mistral-v3, mistral-v3-tekken, mistral-v7, mistral-v7-tekken, mistral-v11-tekken, mistral-v13-tekken, chatml, llama2, llama3, zephyr) or as Jinja source [default: the model's own]
    #[arg(long, value_name = "TEMPLATE", env = "LLAMA_ARG_CHAT_TEMPLATE")]
    pub chat_template: Option<String>,

    /// Read the chat template from a Jinja file
    #[arg(long, value_name = "FILE", env = "LLAMA_ARG_CHAT_TEMPLATE_FILE")]
    pub chat_template_file: Option<PathBuf>,

    /// Variables for the chat template, as a JSON object ('{"enable_thinking": false}')
    #[arg(long, value_name = "JSON", env = "LLAMA_ARG_CHAT_TEMPLATE_KWARGS", value_parser = json_object)]
    pub chat_template_kwargs: Option<JsonObject>,

    /// Whether the model is to think before it answers, for chat templates that ask (their variable enable_thinking)
    #[arg(long, alias = "rea", value_name = "WHEN", default_value = "auto", env = "LLAMA_ARG_REASONING")]
    pub reasoning: Reasoning,
}

/// `--reasoning`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reasoning {
    /// Yes
    #[value(aliases = ["enabled", "true", "1"])]
    On,
    /// No
    #[value(aliases = ["disabled", "false", "0"])]
    Off,
    /// As the template does by itself
    #[value(alias = "-1")]
    Auto,
}

impl TemplateArgs {
    /// The variables for the chat template.
    pub fn template_arguments(&self) -> JsonObject {
        let mut arguments = JsonObject::new();
        if self.reasoning != Reasoning::Auto {
            arguments.insert("enable_thinking".to_owned(), (self.reasoning == Reasoning::On).into());
        }
        arguments.extend(self.chat_template_kwargs.clone().unwrap_or_default());
        arguments
    }
}

/// What is printed besides the text.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Colour prompts and user input
    #[arg(long, alias = "co", value_name = "WHEN", default_value = "auto", num_args = 0..=1, default_missing_value = "on")]
    pub color: When,

    /// Print control tokens such as </s>
    #[arg(long, alias = "sp")]
    pub special: bool,

    /// Print no timings at the end
    #[arg(long, alias = "no-show-timings", overrides_with = "perf")]
    pub no_perf: bool,

    /// Print timings at the end (the default)
    #[arg(long, alias = "show-timings", hide = true, overrides_with = "no_perf", env = "LLAMA_ARG_PERF")]
    pub perf: bool,

    #[command(flatten)]
    pub log: LogArgs,
}

/// Flags of generation without a subcommand.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Generation")]
pub struct GenerationArgs {
    /// Hold a conversation (implied by no prompt, --system-prompt, --single-turn or --chat-template)
    #[arg(long, alias = "cnv", overrides_with = "no_conversation")]
    pub conversation: bool,

    /// Continue the prompt as it is, without a chat template
    #[arg(long, alias = "no-cnv", overrides_with = "conversation")]
    pub no_conversation: bool,

    /// Do not print the prompt before the generated text
    #[arg(long, overrides_with = "display_prompt")]
    pub no_display_prompt: bool,

    /// Print the prompt before the generated text (the default)
    #[arg(long, hide = true, overrides_with = "no_display_prompt")]
    pub display_prompt: bool,

    /// Ask the user for a line when the text ends or is interrupted
    #[arg(short, long)]
    pub interactive: bool,

    /// Same as --interactive, and ask for a line first
    #[arg(long, alias = "if")]
    pub interactive_first: bool,

    /// Text put before each line of the user, instead of a chat template; with --infill, the code before the gap (@FILE reads a file)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub in_prefix: Option<OsString>,

    /// Put a BOS token before each line of the user, instead of a chat template
    #[arg(long)]
    pub in_prefix_bos: bool,

    /// Text put after each line of the user, instead of a chat template; with --infill, the code after the gap (@FILE reads a file)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub in_suffix: Option<OsString>,

    /// Fill in the middle: generate what belongs between --in-prefix and --in-suffix (Codestral)
    #[arg(long)]
    pub infill: bool,
}

/// Variables by name.
pub type JsonObject = serde_json::Map<String, serde_json::Value>;

fn json_object(text: &str) -> Result<JsonObject, String> {
    serde_json::from_str(text).map_err(|error| format!("expected a JSON object: {error}"))
}
