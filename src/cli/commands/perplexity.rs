//! `bise perplexity`: scores a text in chunks, like llama-perplexity.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use bise::tokenizer::EncodeOptions;
use bise::{Engine, Session};

use crate::cli::args::log::LogArgs;
use crate::cli::args::model::{ContextArgs, ModelArgs};
use crate::cli::args::numbers::positive_or_all;
use crate::cli::args::prompt::EscapeArgs;
use crate::cli::score::Score;
use crate::cli::usage::wrong;
use crate::cli::{ids, load, text};

/// What to score.
#[derive(clap::Args, Debug)]
pub struct PerplexityArgs {
    /// Text to score (one newline at its end is dropped)
    #[arg(short, long, value_name = "FILE", conflicts_with = "ids")]
    file: Option<PathBuf>,

    /// Score these token ids instead; no BOS token is added
    #[arg(long, value_name = "IDS.npy")]
    ids: Option<PathBuf>,

    /// Maximum number of chunks to score; -1: all
    #[arg(long, value_name = "N", default_value = "-1", value_parser = positive_or_all)]
    chunks: usize,

    /// Score every position of a chunk but the first, not only its second half
    #[arg(long)]
    all_positions: bool,

    #[command(flatten)]
    escapes: EscapeArgs,

    #[command(flatten)]
    pub log: LogArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    context: ContextArgs,
}

/// The default context length of llama-perplexity.
const DEFAULT_N_CTX: usize = 512;

/// Runs the command.
///
/// # Errors
/// The text is too short, or a pass fails.
pub fn run(args: PerplexityArgs) -> Result<()> {
    let log = args.log.log();
    if args.file.is_none() && args.ids.is_none() {
        return Err(no_text());
    }
    let mut options = args.context.session_options();
    if options.n_ctx == 0 {
        options.n_ctx = DEFAULT_N_CTX;
    }
    let engine = load::load(&args.model, Some((1, options)), log)?.into_engine(1, &options, log);
    let start = Instant::now();
    let tokens = tokens(&args, &engine)?;
    log.note(format_args!("perplexity: tokenization took {:.1} ms", start.elapsed().as_secs_f64() * 1e3));

    let n_ctx = options.n_ctx;
    let (mut n_chunks, rest) = (tokens.len() / n_ctx, tokens.len() % n_ctx);
    if args.all_positions {
        // A last chunk that is shorter counts too.
        n_chunks += usize::from(rest > 1);
        ensure!(n_chunks > 0, "found {} tokens, expected at least 2", tokens.len());
    } else {
        if n_ctx < 3 {
            return Err(wrong(format_args!("--ctx-size: found {n_ctx}, expected at least 3")));
        }
        ensure!(
            tokens.len() >= 2 * n_ctx,
            "found {} tokens, expected at least {}: two contexts of {n_ctx} (--ctx-size)",
            tokens.len(),
            2 * n_ctx
        );
    }
    n_chunks = n_chunks.min(args.chunks);
    log.note(format_args!("perplexity: calculating perplexity over {n_chunks} chunks, n_ctx={n_ctx}"));

    let tokenizer = engine.tokenizer();
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos() && args.ids.is_none());
    let first = if args.all_positions { 0 } else { n_ctx / 2 };
    let mut session = engine.session(&options)?;
    let mut score = Score::default();
    let mut out = std::io::stdout().lock();
    // On a terminal the numbers are progress enough, and a bar would be drawn over them.
    let progress = (!out.is_terminal()).then(|| log.progress("scoring", n_chunks));
    for (i, chunk) in tokens.chunks(n_ctx).take(n_chunks).enumerate() {
        score_chunk(&mut session, chunk, bos, first, &mut score)?;
        write!(out, "[{}]{:.4},", i + 1, score.mean().exp())?;
        out.flush()?;
        if let Some(progress) = &progress {
            progress.set(i + 1);
        }
    }
    drop(progress);
    let (perplexity, error) = score.estimate();
    writeln!(out, "\nFinal estimate: PPL = {perplexity:.4} +/- {error:.5}")?;
    Ok(())
}

fn no_text() -> anyhow::Error {
    wrong("there is no text: expected --file or --ids")
}

fn tokens(args: &PerplexityArgs, engine: &Engine) -> Result<Vec<u32>> {
    let tokenizer = engine.tokenizer();
    match (&args.ids, &args.file) {
        (Some(path), _) => ids::from_npy(path, tokenizer),
        (None, Some(path)) => {
            let mut text = text::from_file(path)?;
            if text.ends_with('\n') {
                text.pop();
            }
            let text = args.escapes.meant("--file", text)?;
            Ok(tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special: false }))
        }
        (None, None) => Err(no_text()),
    }
}

/// Adds the log-probabilities of the tokens after `first` to the score; the first token is read as `bos` where there is one.
fn score_chunk(
    session: &mut Session,
    chunk: &[u32],
    bos: Option<u32>,
    first: usize,
    score: &mut Score,
) -> Result<()> {
    session.clear();
    let mut read = chunk.to_vec();
    if let Some(bos) = bos {
        read[0] = bos;
    }
    // What comes before the first position that counts needs no logits, and after the last token nothing follows.
    if first > 0 {
        session.prefill(&read[..first])?;
    }
    session.score(&read[first..chunk.len() - 1], &mut |i, logits| {
        score.add_logits(logits, chunk[first + i + 1]);
    })?;
    Ok(())
}
