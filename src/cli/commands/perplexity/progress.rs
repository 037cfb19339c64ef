//! What is printed while a text is scored, as by llama-perplexity.

use std::io::{IsTerminal, StdoutLock, Write};

use anyhow::Result;

use crate::cli::score::Score;
use crate::cli::term::console::{Log, Progress};

/// `--ppl-output-type`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputType {
    /// The number of the chunk and the perplexity so far, all on one line
    #[value(name = "0")]
    List,
    /// A line for each chunk: where it begins, perplexity, mean negative log-likelihood and its error
    #[value(name = "1")]
    Lines,
}

/// A score that is printed after each chunk.
pub struct Printed {
    pub score: Score,
    kind: OutputType,
    stride: usize,
    n_done: usize,
    progress: Option<Progress>,
    out: StdoutLock<'static>,
}

impl Printed {
    /// Begins a text of `n_chunks`, which begin `stride` tokens apart.
    pub fn new(kind: OutputType, stride: usize, n_chunks: usize, log: Log) -> Printed {
        let out = std::io::stdout().lock();
        // On a terminal the numbers are progress enough, and a bar would be drawn over them.
        let progress = (!out.is_terminal()).then(|| log.progress("scoring", n_chunks));
        Printed { score: Score::default(), kind, stride, n_done: 0, progress, out }
    }

    /// Prints the score after one more chunk.
    ///
    /// # Errors
    /// If nobody reads.
    pub fn chunk(&mut self) -> Result<()> {
        let (i, ppl) = (self.n_done, self.score.mean().exp());
        match self.kind {
            OutputType::List => write!(self.out, "[{}]{ppl:.4},", i + 1)?,
            OutputType::Lines => {
                let (mean, error) = self.score.mean_and_error();
                writeln!(self.out, "{:8}  {ppl:.4}  {mean:4.6}  {error:4.6}", i * self.stride)?;
            }
        }
        self.out.flush()?;
        self.n_done += 1;
        if let Some(progress) = &self.progress {
            progress.set(self.n_done);
        }
        Ok(())
    }

    /// Prints the last line.
    ///
    /// # Errors
    /// If nobody reads.
    pub fn estimate(mut self) -> Result<()> {
        self.progress = None;
        let (perplexity, error) = self.score.estimate();
        writeln!(self.out, "\nFinal estimate: PPL = {perplexity:.4} +/- {error:.5}")?;
        Ok(())
    }
}
