//! `--kl-divergence-base` and `--kl-divergence`: a model's predictions beside those of another.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use bise::compare::{BaseReader, BaseWriter, Divergence, Estimate, Layout, Running, Statistics};
use bise::{Cancel, Session};
use bise_models::atomic_file::AtomicFile;
use bise_models::printable::Printable;

use super::progress::{OutputType, Printed};
use super::{PerplexityArgs, tokens};
use crate::cli::overwrite::{refuse_existing, refuse_sources};
use crate::cli::term::console::Log;
use crate::cli::term::signals;
use crate::cli::usage::wrong;
use crate::cli::{compare as errors, describe, load};

/// The base of a comparison.
#[derive(clap::Args, Debug)]
pub struct DivergenceArgs {
    /// Compare the model's predictions with those in the file of --kl-divergence-base; the text is in the file, too
    #[arg(long, requires = "kl_divergence_base")]
    pub kl_divergence: bool,

    /// Write the log-probabilities of all tokens to FILE, or read them from it with --kl-divergence
    #[arg(long, alias = "save-all-logits", value_name = "FILE", conflicts_with_all = ["ids", "all_positions"])]
    pub kl_divergence_base: Option<PathBuf>,

    /// Overwrite FILE
    #[arg(long, requires = "kl_divergence_base")]
    pub force: bool,
}

impl DivergenceArgs {
    /// Errs where flags do not go together, or the file that is to be written is in the way, before anything is computed.
    pub fn check(&self, stride: u32, output_type: OutputType) -> Result<()> {
        match &self.kl_divergence_base {
            Some(_) if stride > 0 => Err(wrong(
                "--ppl-stride: the chunks of --kl-divergence-base do not overlap: expected one of the two",
            )),
            Some(_) if self.kl_divergence && self.force => {
                Err(wrong("--force: --kl-divergence writes no file: expected one of the two"))
            }
            Some(_) if self.kl_divergence && output_type != OutputType::List => Err(wrong(
                "--ppl-output-type: --kl-divergence prints lines of its own: expected one of the two",
            )),
            Some(_) if self.kl_divergence => Ok(()),
            Some(path) => refuse_existing(path, self.force),
            None => Ok(()),
        }
    }
}

/// Scores `tokens`, and writes their log-probabilities to `path`.
pub fn write_base(
    args: &PerplexityArgs,
    session: &mut Session,
    tokens: &[u32],
    n_ctx: usize,
    path: &Path,
    log: Log,
) -> Result<()> {
    let engine = session.engine();
    refuse_sources(
        path,
        engine.file().paths().chain(args.file.as_deref()).chain(args.binary_file.as_deref()),
    )?;
    let n_chunks = tokens.len() / n_ctx;
    let layout = Layout { n_ctx, n_vocab: engine.config().n_vocab, n_chunks };
    let n_bytes = layout.n_bytes().ok_or_else(|| anyhow!("{n_chunks} chunks are too many for a file"))?;
    let name = Printable(path.display());
    log.note(format_args!("perplexity: saving all logits to {name} ({})", describe::bytes(n_bytes)));
    let cannot = |action| move |error| anyhow!("{}: cannot {action}: {error}", Printable(path.display()));
    let aside = AtomicFile::create(path).map_err(cannot("create the file"))?;
    let mut writer = BaseWriter::start(BufWriter::with_capacity(1 << 20, aside), path, layout, tokens)?;
    let bos = bos(session);
    let cancel = Cancel::new();
    session.set_cancel_handle(cancel.clone());
    let _writing = signals::writing(cancel);
    let mut printed = Printed::new(args.ppl_output_type, n_ctx, n_chunks, log);
    for chunk in tokens.chunks_exact(n_ctx) {
        let score = &mut printed.score;
        bise::compare::write_chunk(session, chunk, bos, &mut writer, &mut |nll| score.add(-nll))
            .map_err(errors::ended)?;
        printed.chunk()?;
    }
    let aside = writer.finish().into_inner().map_err(|e| cannot("write the file")(e.into_error()))?;
    aside.commit().map_err(cannot("put the file in place"))?;
    printed.estimate()
}

fn bos(session: &Session) -> Option<u32> {
    let tokenizer = session.engine().tokenizer();
    tokenizer.bos().filter(|_| tokenizer.adds_bos())
}

/// Compares the model with a base.
pub fn compare(args: &PerplexityArgs, log: Log) -> Result<()> {
    let path = args.divergence.kl_divergence_base.as_ref().expect("clap asks for it");
    let mut base = BaseReader::open(path)?;
    let layout = base.layout();
    let mut options = args.context.session_options();
    if options.n_ctx != 0 && options.n_ctx != layout.n_ctx {
        bail!(
            "{}: found chunks of {} tokens, expected {} (--ctx-size; leave it out to take what the file says)",
            Printable(path.display()),
            layout.n_ctx,
            options.n_ctx
        );
    }
    options.n_ctx = layout.n_ctx;
    let engine = load::load(&args.model, Some((1, options)), log)?.into_engine(1, &options, log);
    let n_chunks = layout.n_chunks.min(args.chunks);
    if args.file.is_none()
        && let Some(flag) = args.escapes.given()
    {
        log.warn(format_args!("{flag} has no effect without --file: the base holds tokens"));
    }
    if args.file.is_some() {
        check_text(&tokens(args, &engine)?, &mut base, n_chunks)?;
    }
    log.note(format_args!("kl_divergence: computing over {n_chunks} chunks, n_ctx={}", layout.n_ctx));
    let mut session = engine.session(&options)?;
    let bos = bos(&session);
    let cancel = Cancel::new();
    session.set_cancel_handle(cancel.clone());
    let _writing = signals::writing(cancel);
    let mut out = std::io::stdout().lock();
    let mut divergence = Divergence::default();
    let progress = (!std::io::IsTerminal::is_terminal(&out)).then(|| log.progress("comparing", n_chunks));
    writeln!(
        out,
        "\nchunk             PPL               ln(PPL(Q)/PPL(base))          KL Divergence              Δp RMS            Same top p"
    )?;
    for i in 0..n_chunks {
        bise::compare::compare_chunk(&mut session, &mut base, i, bos, &mut divergence)
            .map_err(errors::ended)?;
        print_chunk(&mut out, i + 1, &divergence.running())?;
        out.flush()?;
        if let Some(progress) = &progress {
            progress.set(i + 1);
        }
    }
    drop(progress);
    writeln!(out)?;
    if divergence.n() < 100 {
        log.warn(format_args!(
            "found {} positions: too few for statistics, which are printed from 100 on",
            divergence.n()
        ));
        return Ok(());
    }
    print_statistics(&mut out, &divergence.statistics())
}

/// Errs where the text is not the one that the base was made with.
fn check_text(tokens: &[u32], base: &mut BaseReader, n_chunks: usize) -> Result<()> {
    let n_ctx = base.layout().n_ctx;
    let mut text = tokens.chunks(n_ctx);
    for i in 0..n_chunks {
        let (found, expected) = (base.chunk(i)?, text.next().unwrap_or_default());
        let name = Printable(base.path().display());
        if expected.len() < n_ctx {
            bail!(
                "{name}: found {n_chunks} chunks of {n_ctx} tokens, expected the text of --file, which has {} tokens",
                tokens.len()
            );
        }
        if let Some(at) = (0..n_ctx).find(|&at| found[at] != expected[at]) {
            bail!(
                "{name}: chunk {}, token {}: found {}, expected {}: it was made with another text or vocabulary than --file",
                i + 1,
                at + 1,
                found[at],
                expected[at]
            );
        }
    }
    Ok(())
}

fn print_chunk(out: &mut impl Write, n: usize, so_far: &Running) -> std::io::Result<()> {
    let (ppl, ratio, kld) = (so_far.ppl, so_far.ln_ratio, so_far.kld);
    let (rms, same) = (percent(so_far.rms_p_diff), percent(so_far.same_top));
    writeln!(
        out,
        "{n:4}    {:9.4} ± {:9.4}    {:10.5} ± {:10.5}    {:10.5} ± {:10.5}    {:6.3} ± {:6.3} %    {:6.3} ± {:6.3} %",
        ppl.value,
        ppl.error,
        ratio.value,
        ratio.error,
        kld.value,
        kld.error,
        rms.value,
        rms.error,
        same.value,
        same.error
    )
}

fn percent(x: Estimate) -> Estimate {
    Estimate { value: 100.0 * x.value, error: 100.0 * x.error }
}

fn print_statistics(out: &mut impl Write, all: &Statistics) -> Result<()> {
    let running = &all.running;
    let estimate = |x: Estimate| format!("{:10.6} ± {:10.6}", x.value, x.error);
    let short = |x: Estimate| format!("{:6.3} ± {:5.3} %", percent(x).value, percent(x).error);
    writeln!(out, "====== Perplexity statistics ======")?;
    writeln!(out, "Mean PPL(Q)                   : {}", estimate(running.ppl))?;
    writeln!(out, "Mean PPL(base)                : {}", estimate(running.ppl_base))?;
    writeln!(out, "Cor(ln(PPL(Q)), ln(PPL(base))): {:6.2}%", 100.0 * all.correlation)?;
    writeln!(out, "Mean ln(PPL(Q)/PPL(base))     : {}", estimate(running.ln_ratio))?;
    writeln!(out, "Mean PPL(Q)/PPL(base)         : {}", estimate(all.ratio))?;
    writeln!(out, "Mean PPL(Q)-PPL(base)         : {}", estimate(all.difference))?;

    writeln!(out, "\n====== KL divergence statistics ======")?;
    writeln!(out, "Mean    KLD: {}", estimate(running.kld))?;
    let (kld, p_diff) = (&all.kld, &all.p_diff);
    for (name, value) in [
        ("Maximum", kld.max()),
        ("99.9%  ", kld.at(0.999)),
        ("99.0%  ", kld.at(0.99)),
        ("95.0%  ", kld.at(0.95)),
        ("90.0%  ", kld.at(0.9)),
        ("Median ", kld.median()),
        ("10.0%  ", kld.at(0.1)),
        (" 5.0%  ", kld.at(0.05)),
        (" 1.0%  ", kld.at(0.01)),
        (" 0.1%  ", kld.at(0.001)),
        ("Minimum", kld.min()),
    ] {
        writeln!(out, "{name} KLD: {value:10.6}")?;
    }

    writeln!(out, "\n====== Token probability statistics ======")?;
    writeln!(out, "Mean    Δp: {}", short(all.mean_p_diff))?;
    for (name, value) in [
        ("Maximum", p_diff.max()),
        ("99.9%  ", p_diff.at(0.999)),
        ("99.0%  ", p_diff.at(0.99)),
        ("95.0%  ", p_diff.at(0.95)),
        ("90.0%  ", p_diff.at(0.9)),
        ("75.0%  ", p_diff.at(0.75)),
        ("Median ", p_diff.median()),
        ("25.0%  ", p_diff.at(0.25)),
        ("10.0%  ", p_diff.at(0.1)),
        (" 5.0%  ", p_diff.at(0.05)),
        (" 1.0%  ", p_diff.at(0.01)),
        (" 0.1%  ", p_diff.at(0.001)),
        ("Minimum", p_diff.min()),
    ] {
        writeln!(out, "{name} Δp: {:6.3}%", 100.0 * f64::from(value))?;
    }
    writeln!(out, "RMS Δp    : {}", short(running.rms_p_diff))?;
    writeln!(out, "Same top p: {}", short(running.same_top))?;
    Ok(())
}
