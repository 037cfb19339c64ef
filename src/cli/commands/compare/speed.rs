//! How fast each model is, in turns: what else happens on the machine then meets all of them.

use std::time::Instant;

use anyhow::Result;
use bise::{Engine, SessionOptions};

use crate::cli::args::numbers::within;
use crate::cli::term::console::{Level, Log};

/// More than any context has room for.
const MOST_TOKENS: usize = 1 << 20;
const MOST_ROUNDS: usize = 1000;

/// What is measured.
#[derive(clap::Args, Clone, Debug)]
pub struct SpeedArgs {
    /// Tokens of the prompt whose prefill is measured
    #[arg(short = 'p', long, value_name = "N", default_value_t = 256, value_parser = within(1, MOST_TOKENS))]
    pub n_prompt: usize,

    /// Tokens whose decode is measured
    #[arg(short = 'n', long, value_name = "N", default_value_t = 32, value_parser = within(1, MOST_TOKENS))]
    pub n_gen: usize,

    /// Rounds; in each, every model is opened, warmed up and measured once; 0: speed is not measured
    #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = within(0, MOST_ROUNDS))]
    pub repetitions: usize,
}

/// Tokens per second, a value a round.
#[derive(Clone, Debug, Default)]
pub struct Speeds {
    pub prefill: Vec<f64>,
    pub decode: Vec<f64>,
}

/// The value in the middle; `None` where there is none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    Some((*sorted.get(n / 2)? + sorted[(n - 1) / 2]) / 2.0)
}

impl SpeedArgs {
    /// Measures a model for each of `speeds`, which `open` opens by its number. Every second round goes through them backwards.
    ///
    /// # Errors
    /// If a pass fails; `speeds` has what was measured before.
    pub fn measure(
        &self,
        open: impl Fn(usize, Log) -> Result<Engine>,
        log: Log,
        speeds: &mut [Speeds],
    ) -> Result<()> {
        let n = speeds.len();
        let progress = log.progress("measuring speed", self.repetitions * n);
        // What there is to warn of was said before.
        let quiet = Log { level: Level::Errors };
        for round in 0..self.repetitions {
            for turn in 0..n {
                let i = if round % 2 == 0 { turn } else { n - 1 - turn };
                let engine = open(i, quiet)?;
                self.measure_one(&engine, &mut speeds[i])?;
                progress.set(round * n + turn + 1);
            }
        }
        Ok(())
    }

    fn measure_one(&self, engine: &Engine, speeds: &mut Speeds) -> Result<()> {
        let n_ctx = self.n_prompt + self.n_gen;
        let mut session = engine.session(&SessionOptions { n_ctx, ..SessionOptions::default() })?;
        // Any tokens take the same time.
        let n_vocab = engine.config().n_vocab as u64;
        let token = |i: usize| ((i as u64 * 7919 + 17) % n_vocab) as u32;
        let prompt: Vec<u32> = (0..self.n_prompt).map(token).collect();
        // Reads the weights into memory and wakes the threads.
        session.prefill(&prompt[..prompt.len().min(16)])?;
        session.decode(token(0))?;
        session.clear();
        let start = Instant::now();
        session.prefill(&prompt)?;
        speeds.prefill.push(self.n_prompt as f64 / start.elapsed().as_secs_f64());
        let start = Instant::now();
        for i in 0..self.n_gen {
            session.decode(token(i))?;
        }
        speeds.decode.push(self.n_gen as f64 / start.elapsed().as_secs_f64());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }
}
