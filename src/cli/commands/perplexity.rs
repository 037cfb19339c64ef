//! `bise perplexity`: scores a text in chunks, like llama-perplexity.

#[cfg(feature = "compare")]
mod divergence;
mod progress;
#[cfg(feature = "eval")]
mod questions;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use bise::tokenizer::EncodeOptions;
use bise::{Engine, Session};

use self::progress::{OutputType, Printed};
use crate::cli::args::log::LogArgs;
use crate::cli::args::model::{ContextArgs, ModelArgs};
use crate::cli::args::numbers::positive_or_all;
use crate::cli::args::prompt::EscapeArgs;
use crate::cli::usage::wrong;
use crate::cli::{ids, load, text};

/// What to score.
#[derive(clap::Args, Debug)]
pub struct PerplexityArgs {
    /// Text to score (one newline at its end is dropped)
    #[arg(short, long, value_name = "FILE", conflicts_with = "ids")]
    file: Option<PathBuf>,

    /// Score the text of a file as it is, with the newline at its end
    #[arg(long, alias = "bf", value_name = "FILE", conflicts_with_all = ["file", "ids"])]
    binary_file: Option<PathBuf>,

    /// Score these token ids instead; no BOS token is added
    #[arg(long, value_name = "IDS.npy")]
    ids: Option<PathBuf>,

    /// Maximum number of chunks to score; -1: all
    #[arg(long, value_name = "N", default_value = "-1", value_parser = positive_or_all)]
    chunks: usize,

    /// Score every position of a chunk but the first, not only its second half
    #[arg(long)]
    all_positions: bool,

    /// Begin a chunk every N tokens and score the last N of each; 0: chunks do not overlap
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "all_positions")]
    ppl_stride: u32,

    /// What to print after each chunk: 0 its number and the perplexity, 1 a line for plotting
    #[arg(long, value_name = "0|1", default_value = "0")]
    ppl_output_type: OutputType,

    #[cfg(feature = "compare")]
    #[command(flatten)]
    divergence: divergence::DivergenceArgs,

    #[command(flatten)]
    escapes: EscapeArgs,

    #[command(flatten)]
    pub log: LogArgs,

    #[cfg(feature = "eval")]
    #[command(flatten)]
    questions: questions::QuestionArgs,

    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    context: ContextArgs,
}

/// The default context length of llama-perplexity.
pub const DEFAULT_N_CTX: usize = 512;

/// Runs the command.
///
/// # Errors
/// The text is too short, or a pass fails.
pub fn run(args: PerplexityArgs) -> Result<()> {
    let log = args.log.log();
    #[cfg(feature = "eval")]
    if let Some((kind, n)) = args.questions.kind() {
        #[cfg(feature = "compare")]
        if args.divergence.kl_divergence_base.is_some() {
            return Err(wrong("--kl-divergence-base: questions are no text: expected one of the two"));
        }
        return questions::run(&args, kind, n, log);
    }
    #[cfg(feature = "compare")]
    {
        args.divergence.check(args.ppl_stride, args.ppl_output_type)?;
        if args.divergence.kl_divergence {
            return divergence::compare(&args, log);
        }
    }
    if args.file.is_none() && args.binary_file.is_none() && args.ids.is_none() {
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
    let chunks = Chunks::of(&args, n_ctx, &tokens)?;
    log.note(format_args!("perplexity: calculating perplexity over {} chunks, n_ctx={n_ctx}", chunks.n));
    let mut session = engine.session(&options)?;
    #[cfg(feature = "compare")]
    if let Some(path) = &args.divergence.kl_divergence_base {
        return divergence::write_base(&args, &mut session, &tokens[..chunks.n * n_ctx], n_ctx, path, log);
    }
    let tokenizer = engine.tokenizer();
    let bos =
        tokenizer.bos().filter(|_| tokenizer.adds_bos() && args.ids.is_none() && chunks.stride == n_ctx);
    let mut printed = Printed::new(args.ppl_output_type, chunks.stride, chunks.n, log);
    for i in 0..chunks.n {
        let chunk = &tokens[i * chunks.stride..];
        let chunk = &chunk[..chunk.len().min(n_ctx)];
        score_chunk(&mut session, chunk, bos, chunks.first, &mut printed)?;
        printed.chunk()?;
    }
    printed.estimate()
}

/// How a text is cut.
struct Chunks {
    n: usize,
    /// From the beginning of one to that of the next.
    stride: usize,
    /// The first position of each that counts.
    first: usize,
}

impl Chunks {
    fn of(args: &PerplexityArgs, n_ctx: usize, tokens: &[u32]) -> Result<Chunks> {
        let n_tokens = tokens.len();
        if args.all_positions {
            // A last chunk that is shorter counts too.
            let n = n_tokens / n_ctx + usize::from(n_tokens % n_ctx > 1);
            ensure!(n > 0, "found {n_tokens} tokens, expected at least 2");
            return Ok(Chunks { n: n.min(args.chunks), stride: n_ctx, first: 0 });
        }
        if n_ctx < 3 {
            return Err(wrong(format_args!("--ctx-size: found {n_ctx}, expected at least 3")));
        }
        let stride = args.ppl_stride as usize;
        if stride >= n_ctx {
            let most = n_ctx - 1;
            return Err(wrong(format_args!(
                "--ppl-stride: found {stride}, expected at most {most}, as chunks have {n_ctx} tokens (--ctx-size)"
            )));
        }
        ensure!(
            n_tokens >= 2 * n_ctx,
            "found {n_tokens} tokens, expected at least {}: two contexts of {n_ctx} (--ctx-size)",
            2 * n_ctx
        );
        Ok(match stride {
            0 => Chunks { n: (n_tokens / n_ctx).min(args.chunks), stride: n_ctx, first: n_ctx / 2 },
            stride => {
                let n = (n_tokens - n_ctx).div_ceil(stride);
                Chunks { n: n.min(args.chunks), stride, first: n_ctx - stride - 1 }
            }
        })
    }
}

fn no_text() -> anyhow::Error {
    wrong("there is no text: expected --file or --ids")
}

fn tokens(args: &PerplexityArgs, engine: &Engine) -> Result<Vec<u32>> {
    let tokenizer = engine.tokenizer();
    match (&args.ids, &args.file) {
        (Some(path), _) => ids::from_npy(path, tokenizer),
        (None, Some(path)) => {
            let text = args.escapes.meant("--file", text::without_last_newline(path)?)?;
            Ok(tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special: false }))
        }
        (None, None) => match &args.binary_file {
            Some(path) => {
                let text = args.escapes.meant("--binary-file", text::from_file(path)?)?;
                Ok(tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special: false }))
            }
            None => Err(no_text()),
        },
    }
}

/// Adds the log-probabilities of the tokens after `first` to the score; the first token is read as `bos` where there is one.
fn score_chunk(
    session: &mut Session,
    chunk: &[u32],
    bos: Option<u32>,
    first: usize,
    printed: &mut Printed,
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
        printed.score.add_logits(logits, chunk[first + i + 1]);
    })?;
    Ok(())
}
