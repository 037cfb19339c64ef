//! What is read and how much is written: the prompt, the conversation, the output.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;

use super::log::LogArgs;
use crate::cli::text::{self, unescape};

/// The prompt and the length of the answer.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Prompt")]
pub struct PromptArgs {
    /// Text to go on from; in a conversation, the first message
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<OsString>,

    /// File with the prompt (a newline at its end is left out)
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// File with the prompt, every byte of it
    #[arg(long, alias = "bf", value_name = "FILE")]
    pub binary_file: Option<PathBuf>,

    /// Tokens to write; -1: until the text ends, -2: until it ends or the context is full
    #[arg(short, long, alias = "predict", value_name = "N", default_value_t = -1, value_parser = clap::value_parser!(i64).range(-2..), allow_negative_numbers = true, env = "LLAMA_ARG_N_PREDICT")]
    pub n_predict: i64,

    /// Forget the older half of a full context and go on (with a sliding window there is no need to)
    #[arg(long, overrides_with = "no_context_shift", env = "LLAMA_ARG_CONTEXT_SHIFT")]
    pub context_shift: bool,

    /// Stop when the context is full, as is the default
    #[arg(long, hide = true, overrides_with = "context_shift")]
    pub no_context_shift: bool,

    /// Tokens of the prompt that a context shift keeps; -1: all
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub keep: i64,

    /// Stop at this text; in a conversation and with --interactive, return to the user there
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub reverse_prompt: Vec<String>,

    /// Print the tokens of the prompt on stderr first
    #[arg(long)]
    pub verbose_prompt: bool,

    #[command(flatten)]
    pub escapes: EscapeArgs,
}

/// Whether backslashes in texts mean something.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct EscapeArgs {
    /// Process escapes in texts (\n, \r, \t, \', \", \\, \xHH), as is the default
    #[arg(short, long, overrides_with = "no_escape")]
    pub escape: bool,

    /// Take backslashes in texts as they are
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
    /// A text as meant: with its escapes processed, unless `--no-escape`.
    ///
    /// # Errors
    /// Escapes that make bytes which are not UTF-8; `source` names the text.
    pub fn meant(self, source: &str, text: String) -> Result<String> {
        if self.no_escape { Ok(text) } else { unescape(source, &text) }
    }
}

/// A conversation by a chat template.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Conversation")]
pub struct ConversationArgs {
    /// What the model is told before the conversation
    #[arg(long, alias = "sys", value_name = "TEXT", allow_hyphen_values = true)]
    pub system_prompt: Option<OsString>,

    /// File with the same
    #[arg(long, alias = "sysf", value_name = "FILE")]
    pub system_prompt_file: Option<PathBuf>,

    /// Template by its name (mistral-v1, mistral-v3, mistral-v3-tekken, mistral-v7, mistral-v7-tekken …) or in Jinja's language, instead of the file's
    #[arg(long, value_name = "TEMPLATE", env = "LLAMA_ARG_CHAT_TEMPLATE")]
    pub chat_template: Option<String>,

    /// File with a template in Jinja's language
    #[arg(long, value_name = "FILE", env = "LLAMA_ARG_CHAT_TEMPLATE_FILE")]
    pub chat_template_file: Option<PathBuf>,

    /// End after the first answer
    #[arg(long, alias = "st")]
    pub single_turn: bool,

    /// Lines go on until one that ends in '\' or '/'
    #[arg(long, alias = "mli")]
    pub multiline_input: bool,

    /// Read plain lines even from a terminal
    #[arg(long)]
    pub simple_io: bool,

    /// Do not keep what is typed (otherwise in $XDG_STATE_HOME/bise/history, by default ~/.local/state/bise/history)
    #[arg(long, env = "BISE_NO_HISTORY")]
    pub no_history: bool,
}

/// What is printed, beside the text itself.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Colours for what is typed
    #[arg(long, alias = "co", value_name = "WHEN", default_value = "auto", num_args = 0..=1, default_missing_value = "on")]
    pub color: When,

    /// Print control tokens as their texts
    #[arg(long, alias = "sp")]
    pub special: bool,

    /// No timings at the end
    #[arg(long, alias = "no-show-timings", overrides_with = "perf")]
    pub no_perf: bool,

    /// Timings at the end, as is the default
    #[arg(long, alias = "show-timings", hide = true, overrides_with = "no_perf", env = "LLAMA_ARG_PERF")]
    pub perf: bool,

    #[command(flatten)]
    pub log: LogArgs,
}

/// `--color`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always
    On,
    /// Never
    Off,
    /// On a terminal, unless NO_COLOR is set
    Auto,
}

/// What only raw generation knows.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Generation")]
pub struct GenerationArgs {
    /// Hold a conversation (as when there is no prompt, or with --system-prompt, --single-turn or --chat-template)
    #[arg(long, alias = "cnv", overrides_with = "no_conversation")]
    pub conversation: bool,

    /// Go on from the prompt as it stands
    #[arg(long, alias = "no-cnv", overrides_with = "conversation")]
    pub no_conversation: bool,

    /// Do not repeat the prompt before what is written
    #[arg(long, overrides_with = "display_prompt")]
    pub no_display_prompt: bool,

    /// Repeat the prompt before what is written, as is the default
    #[arg(long, hide = true, overrides_with = "no_display_prompt")]
    pub display_prompt: bool,

    /// Take lines from the user where the text ends or is interrupted
    #[arg(short, long)]
    pub interactive: bool,

    /// The same, and begin with the user
    #[arg(long, alias = "if")]
    pub interactive_first: bool,

    /// Put before each line of the user, instead of a chat template; with --infill, the text before the gap (@FILE: from a file)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub in_prefix: Option<OsString>,

    /// Put a BOS before each line of the user, instead of a chat template
    #[arg(long)]
    pub in_prefix_bos: bool,

    /// Put after each line of the user, instead of a chat template; with --infill, the text after the gap (@FILE: from a file)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub in_suffix: Option<OsString>,

    /// Fill in the middle: write what stands between --in-prefix and --in-suffix (Codestral)
    #[arg(long)]
    pub infill: bool,
}
