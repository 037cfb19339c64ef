//! `bise logits`: the logits after every token, as a `.npy` file of float32 `[n_tokens, n_vocab]`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use bise::tokenizer::EncodeOptions;

use crate::cli::args::log::LogArgs;
use crate::cli::args::model::{CacheArgs, ModelArgs};
use crate::cli::args::numbers::{context_length, positive};
use crate::cli::ids::{self, IdList};
use crate::cli::npy::RowWriter;
use crate::cli::overwrite::refuse_sources;
use crate::cli::term::signals;
use crate::cli::usage::wrong;
use crate::cli::{load, text};

/// Arguments of `bise logits`.
#[derive(clap::Args, Debug)]
pub struct LogitsArgs {
    /// Read token ids from a .npy file (16, 32 or 64-bit integers); no BOS token is added
    #[arg(long, value_name = "IDS.npy", conflicts_with_all = ["tokens", "file"])]
    ids: Option<PathBuf>,

    /// Token ids, as in 1,2,3; no BOS token is added
    #[arg(long, value_name = "IDS", conflicts_with = "file")]
    tokens: Option<IdList>,

    /// Read a text from a file and tokenize it as a prompt
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Number of tokens in one forward pass; the logits are the same for any number
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = positive)]
    chunk: usize,

    /// Context length in tokens; 0: as long as the input
    #[arg(short, long, value_name = "N", default_value_t = 0, value_parser = context_length)]
    ctx_size: u32,

    /// The .npy file to write: a row of float32 logits for every token
    #[arg(short, long, value_name = "OUT.npy")]
    output: PathBuf,

    #[command(flatten)]
    pub log: LogArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    cache: CacheArgs,
}

/// Runs the command.
///
/// # Errors
/// If there are no tokens, some are outside the vocabulary or beyond the context, or the file cannot be written.
pub fn run(args: LogitsArgs) -> Result<()> {
    let log = args.log.log();
    let loaded = load::load(&args.model, None, log)?;
    let read = loaded.engine.file().paths().chain(args.ids.as_deref()).chain(args.file.as_deref());
    refuse_sources(&args.output, read)?;
    let tokenizer = loaded.engine.tokenizer();
    let tokens = match (&args.ids, &args.tokens, &args.file) {
        (Some(path), ..) => ids::from_npy(path, tokenizer)?,
        (None, Some(list), _) => {
            ids::check(&list.0, tokenizer).context("--tokens")?;
            list.0.clone()
        }
        (None, None, Some(path)) => {
            let text = text::from_file(path)?;
            let tokens = tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special: true });
            ids::check(&tokens, tokenizer).with_context(|| path.display().to_string())?;
            tokens
        }
        (None, None, None) => return Err(wrong("there are no tokens: expected --ids, --tokens or --file")),
    };
    let mut options = self::options(&args, tokens.len());
    options.n_ubatch = args.chunk;
    let engine = loaded.into_engine(1, &options, log);
    let n_trained = engine.config().n_ctx_train;
    if tokens.len() > n_trained {
        log.warn(format_args!(
            "{} tokens are more than the {n_trained} the model was trained for",
            tokens.len()
        ));
    }
    let mut session = engine.session(&options)?;
    let mut writer = RowWriter::create(&args.output, tokens.len(), engine.config().n_vocab)?;
    let progress = log.progress("reading", tokens.len());
    let writing = signals::writing(session.cancel_handle());
    let mut written = Ok(());
    for chunk in tokens.chunks(args.chunk) {
        let scored = session.score(chunk, &mut |_, logits| {
            if written.is_ok() {
                written = writer.push(logits);
            }
        });
        scored.with_context(|| format!("{} was not written", args.output.display()))?;
        std::mem::replace(&mut written, Ok(()))?;
        progress.set(session.position());
    }
    drop(writing);
    // The last rows are computed after the last pass has looked.
    engine.file().check_unchanged()?;
    writer.finish()
}

fn options(args: &LogitsArgs, n_tokens: usize) -> bise::SessionOptions {
    let n_ctx = if args.ctx_size == 0 { n_tokens } else { args.ctx_size as usize };
    args.cache.session_options(n_ctx)
}
