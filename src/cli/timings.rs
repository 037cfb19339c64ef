//! Timings and peak memory, printed as llama.cpp prints them.

use std::time::{Duration, Instant};

use bise::generation::GenerationStats;

use super::term::console::Log;

/// Times of one run.
pub struct Timings {
    start: Instant,
    /// Opening the model and allocating its session.
    pub load: Duration,
    /// Prefill.
    pub prompt: Duration,
    /// Tokens prefilled.
    pub n_prompt: usize,
    /// Sampling and decode.
    pub generation: GenerationStats,
}

impl Timings {
    /// The clock starts when the model is loaded, which took `load`.
    pub fn new(load: Duration) -> Self {
        let zero = Duration::ZERO;
        Self {
            start: Instant::now(),
            load,
            prompt: zero,
            n_prompt: 0,
            generation: GenerationStats::default(),
        }
    }

    /// Prints all of it to stderr.
    pub fn print(&self, log: Log) {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let row = |name: &str, time: Duration, n: usize, unit: &str| {
            let each = if n == 0 { 0.0 } else { ms(time) / n as f64 };
            let rate = if time.is_zero() { 0.0 } else { n as f64 / time.as_secs_f64() };
            let time = ms(time);
            log.note(format_args!(
                "{name:>16} time = {time:>10.2} ms / {n:>5} {unit} ({each:>8.2} ms per token, {rate:>8.2} tokens per second)"
            ));
        };
        let generation = self.generation;
        let drafts = generation.speculation;
        log.note(format_args!("{:>16} time = {:>10.2} ms", "load", ms(self.load)));
        row("sampling", generation.choosing, generation.n_chosen, "tokens");
        row("prompt eval", self.prompt, self.n_prompt, "tokens");
        row("eval", generation.passes, drafts.n_tokens, "runs  ");
        if drafts.n_drafted > 0 {
            let rate = 100.0 * drafts.n_accepted as f64 / drafts.n_drafted as f64;
            let (n_tokens, n_saved) = (drafts.n_tokens, drafts.n_tokens - drafts.n_passes);
            log.note(format_args!(
                "{:>16}: drafted {}, accepted {} ({rate:.1}%), {n_saved} of {n_tokens} passes saved",
                "speculation", drafts.n_drafted, drafts.n_accepted
            ));
        }
        let (total, n) = (ms(self.start.elapsed()), self.n_prompt + drafts.n_tokens);
        log.note(format_args!("{:>16} time = {total:>10.2} ms / {n:>5} tokens", "total"));
        if let Some(bytes) = bise::memory::peak_bytes() {
            log.note(format_args!("{:>16}      = {:>10.2} MB (resident)", "peak memory", bytes as f64 / 1e6));
        }
    }
}

/// Mean and standard deviation (over n − 1) of samples; the deviation of fewer than two is 0.
pub fn mean_and_deviation(samples: &[f64]) -> (f64, f64) {
    let n = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / n.max(1.0);
    let squares: f64 = samples.iter().map(|x| (x - mean).powi(2)).sum();
    let deviation = if samples.len() < 2 { 0.0 } else { (squares / (n - 1.0)).sqrt() };
    (mean, deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviation_is_over_one_less() {
        assert_eq!(mean_and_deviation(&[2.0, 4.0]), (3.0, 2.0_f64.sqrt()));
        assert_eq!(mean_and_deviation(&[5.0]), (5.0, 0.0));
    }
}
