//! How long a run takes, and how much memory, before it begins.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bise_kernels::linalg::{Factor, Gram, Workspace};
use bise_kernels::quantize::FeedbackScratch;
use bise_kernels::{Format, Team};
use bise_models::PassContext;

use super::collector::Collector;
use super::run::{Calibration, MIN_TOKENS, rows_a_task};
use super::steps::Input;
use crate::Cancel;
use crate::quantize::error::QuantizeError;

/// What a run takes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Prediction {
    /// Time, on the threads that are given, with nothing else running.
    pub time: Duration,
    /// Bytes of memory at most, the pages of the source that are in use among them.
    pub memory: u64,
    /// Bytes in the folder at the end of the run.
    pub disk: u64,
    /// Layers that an interrupted run has done: the time is for the rest.
    pub layers: usize,
}

/// Columns of matrices that are measured at most.
const MAX_COLUMNS: usize = 4096;

impl Calibration<'_, '_> {
    /// Runs a part of each kind of work and predicts from that what is left to do where `path` is the folder. It takes some seconds for a
    /// large model.
    ///
    /// # Errors
    /// As [`run`](Calibration::run). The folder is not written to.
    pub fn predict(&self, path: &Path, cancel: &Cancel) -> Result<Prediction, QuantizeError> {
        let layers = self.n_done(&self.folder(path)?)?;
        let (reading, products) = self.measure_reading(cancel)?;
        let largest = self.inputs().map(|input| input.k).max().unwrap_or(256);
        let k = (largest.min(MAX_COLUMNS) / 256 * 256).max(256);
        let sizes = [(k / 2).next_multiple_of(256).min(k), k];
        let mut factors = Vec::new();
        let times = sizes.map(|k| {
            let (factor, seconds) = self.measure_factor(k, cancel);
            factors.extend(factor);
            seconds
        });
        let factorizing = Fit::of(sizes, times, [2, 3]);
        let mut rounding: Vec<(Format, Fit)> = Vec::new();
        let mut seconds = 0.0;
        for step in &self.steps[layers..] {
            for pass in &step.passes {
                let read = if step.layer < self.config.n_layers { reading } else { 0.0 };
                let squares: f64 =
                    pass.iter().map(|input| (input.k as f64).powi(2) * self.share(input)).sum();
                seconds += self.tokens.len() as f64 * (read + products * squares);
            }
            for input in step.passes.iter().flatten() {
                seconds += factorizing.at(input.k);
                for target in &input.targets {
                    let tensor = &self.plan.tensors[target.tensor];
                    let format = tensor.tensor_type.format().expect("checked by the plan");
                    if !rounding.iter().any(|(measured, _)| *measured == format) {
                        let times =
                            [0, 1].map(|i| factors.get(i).map_or(0.0, |f| self.measure_rounding(format, f)));
                        rounding.push((format, Fit::of(sizes, times, [1, 2])));
                    }
                    let fit =
                        rounding.iter().find(|(measured, _)| *measured == format).expect("measured above");
                    seconds += tensor.source.rows_a_matrix() as f64 * fit.1.at(input.k);
                }
            }
        }
        self.leave_file();
        let time = Duration::from_secs_f64(seconds);
        Ok(Prediction { time, memory: self.memory(), disk: self.disk(), layers })
    }

    fn inputs(&self) -> impl Iterator<Item = &Input> {
        self.steps.iter().flat_map(|step| step.passes.iter().flatten())
    }

    /// Seconds for a token to pass a layer, and to be summed for each square of its columns.
    fn measure_reading(&self, cancel: &Cancel) -> Result<(f64, f64), QuantizeError> {
        /// Long enough for clocks, and for the second piece not to count what the first one warms up.
        const LEAST: Duration = Duration::from_millis(300);
        let Some(step) = self.steps.iter().find(|step| step.layer < self.config.n_layers) else {
            return Ok((0.0, 0.0));
        };
        let (chunk_len, d) = (self.options.n_ctx, self.config.n_embd);
        let n_chunks = 512_usize.div_ceil(chunk_len).min(self.tokens.len() / chunk_len);
        let tokens = &self.tokens[..n_chunks * chunk_len];
        let mut embedded = vec![0.0; tokens.len() * d];
        self.model.embed_tokens(tokens, &mut embedded);
        let mut cx = PassContext::new(Arc::clone(self.threads.team()));
        let mut measure = |inputs: &[Input]| -> Result<f64, QuantizeError> {
            let new = Collector::try_new(&self.threads, self.kernels, inputs);
            let mut collector = Arc::new(new.ok_or_else(|| super::run::out_of_memory(inputs))?);
            let (mut n, mut start) = (0, Instant::now());
            loop {
                let mut x = embedded.clone();
                self.read(step.layer, &mut x, true, &collector, &mut cx, cancel, &mut || ())?;
                n += 1;
                if n == 1 {
                    // This one touched the sums' memory, as only the first of a layer does.
                    start = Instant::now();
                } else if start.elapsed() >= LEAST {
                    let collector = Arc::get_mut(&mut collector).expect("the pass is over");
                    inputs.iter().for_each(|input| drop(collector.take(input)));
                    return Ok(start.elapsed().as_secs_f64() / ((n - 1) * tokens.len()) as f64);
                }
            }
        };
        let alone = measure(&[])?;
        let inputs = &step.passes[0];
        let squares: f64 = inputs.iter().map(|input| (input.k as f64).powi(2) * self.share(input)).sum();
        let products = if inputs.is_empty() { 0.0 } else { (measure(inputs)? - alone).max(0.0) / squares };
        Ok((alone, products))
    }

    /// The factor of a matrix of `k` columns, and the seconds that it takes.
    fn measure_factor(&self, k: usize, cancel: &Cancel) -> (Option<Factor>, f64) {
        let (team, workspace) = (self.threads.team(), Workspace::new(self.threads.team()));
        let Some(mut gram) = Gram::try_new(k) else { return (None, 0.0) };
        // Any inputs that are not all alike.
        let x: Vec<f32> = (0..64 * k).map(|i| ((i * 7919) % 8191) as f32 / 4096.0 - 1.0).collect();
        gram.add(team, self.kernels, &workspace, &x);
        let start = Instant::now();
        let factor = gram.factorize(team, self.kernels, &workspace, 1.0, cancel.flag()).ok();
        (factor, start.elapsed().as_secs_f64())
    }

    /// Seconds to round a row.
    fn measure_rounding(&self, format: Format, factor: &Factor) -> f64 {
        let (k, team): (usize, &Team) = (factor.k(), self.threads.team());
        let rows = rows_a_task(usize::MAX / 64, k, 1);
        let x: Vec<f32> = (0..rows * k).map(|i| ((i * 7919) % 8191) as f32 / 4096.0 - 1.0).collect();
        let row_bytes = format.row_bytes(k).expect("a multiple of 256");
        let mut out = vec![0; team.n_threads() * rows * row_bytes];
        let start = Instant::now();
        team.together(|| {
            team.for_each_chunk(&mut out, rows * row_bytes, |_, out| {
                let mut scratch = FeedbackScratch::default();
                // Made-up weights fit, and nothing depends on them.
                let _ = self.kernels.quantize_with_feedback(format, factor, &x, out, &mut scratch);
            });
        });
        start.elapsed().as_secs_f64() / (team.n_threads() * rows) as f64
    }

    /// Checks that the machine has the memory, where it tells.
    pub(super) fn check_memory(&self) -> Result<(), QuantizeError> {
        let Some(free) = crate::memory::available_bytes() else { return Ok(()) };
        let (n_ctx, d) = (self.options.n_ctx, self.config.n_embd);
        let (needed, n_chunks) = (self.memory(), self.tokens.len() / n_ctx);
        let fewest = MIN_TOKENS.div_ceil(n_ctx);
        fits(free as u64, needed, n_chunks, 4 * (n_ctx * d) as u64, fewest)
    }

    fn memory(&self) -> u64 {
        /// The program, its threads and the vocabulary.
        const PROGRAM: u64 = 48 << 20;
        let c = &self.config;
        let hidden = 4 * (self.tokens.len() + self.options.n_ctx) * c.n_embd;
        let cx = PassContext::bytes(c, self.threads.n(), self.options.n_ctx, 0);
        let pages = self.options.n_ctx.next_multiple_of(64) * 4 * c.kv_dim() * c.n_layers;
        let step = |step: &super::steps::Step| {
            let of_layer = |name: &str| crate::quantize::mix::layer(name) == Some(step.layer);
            let tensors = self.plan.tensors.iter().filter(|tensor| of_layer(&tensor.source.name));
            let source: u64 = tensors.map(|tensor| tensor.source.n_bytes() as u64).sum();
            // Pages below the diagonal are not touched before a sum is factorized, and each is done with before the next.
            let pass = |pass: &Vec<Input>| {
                let half = |inputs: &[Input]| inputs.iter().map(|input| input.bytes() / 2).sum::<u64>();
                let buffers: u64 = pass.iter().map(|input| 4 * 512 * input.k as u64).sum();
                let rounding =
                    |i: usize| pass[i].bytes() + half(&pass[i + 1..]) + self.bytes_to_round(&pass[i]);
                buffers + (0..pass.len()).map(rounding).max().unwrap_or(0).max(half(pass))
            };
            source + step.passes.iter().map(pass).max().unwrap_or(0)
        };
        let steps = self.steps.iter().map(step).max().unwrap_or(0);
        PROGRAM + ((hidden + cx + pages) as u64 + steps).max(self.bytes_to_load())
    }

    /// Bytes of the file that are mapped before the first step: three places of each tensor are looked at to tell it from others, and the
    /// system maps what is around them.
    fn bytes_to_load(&self) -> u64 {
        const AROUND: usize = 512 << 10;
        self.file.tensors().map(|tensor| tensor.n_bytes.min(3 * AROUND) as u64).sum()
    }

    /// Bytes of the rows in hand and of the new matrix.
    fn bytes_to_round(&self, input: &Input) -> u64 {
        let of_target = |target: &super::steps::Target| {
            let tensor = &self.plan.tensors[target.tensor];
            let n = tensor.source.rows_a_matrix();
            let rows = rows_a_task(n, input.k, self.threads.n());
            (tensor.n_bytes() / tensor.source.n_matrices() + self.threads.n() * rows * input.k * 4 * 5 / 2)
                as u64
        };
        input.targets.iter().map(of_target).max().unwrap_or(0)
    }

    fn disk(&self) -> u64 {
        let calibrated: u64 = self
            .inputs()
            .flat_map(|input| &input.targets)
            .map(|target| {
                let tensor = &self.plan.tensors[target.tensor];
                (tensor.n_bytes() / tensor.source.n_matrices()) as u64
            })
            .sum();
        calibrated + 2 * 4 * (self.tokens.len() * self.config.n_embd) as u64
    }
}

/// Whether `needed` bytes are `free`, `of_chunk` of them for each of `n_chunks` contexts, and with how many they would be: `fewest` or more.
fn fits(free: u64, needed: u64, n_chunks: usize, of_chunk: u64, fewest: usize) -> Result<(), QuantizeError> {
    if needed <= free {
        return Ok(());
    }
    let others = needed.saturating_sub(n_chunks as u64 * of_chunk);
    let fits = (free.saturating_sub(others) / of_chunk) as usize;
    let fits = (fits >= fewest).then_some(fits);
    Err(QuantizeError::TooLittleMemory { n_chunks, free, needed, fits })
}

/// `a · kᵖ + b · k^q`, through two measured points.
#[derive(Clone, Copy)]
struct Fit {
    powers: [i32; 2],
    factors: [f64; 2],
}

impl Fit {
    fn of(sizes: [usize; 2], times: [f64; 2], powers: [i32; 2]) -> Fit {
        let [k1, k2] = sizes.map(|k| k as f64);
        let [p, q] = powers;
        // Where there is one point, or the lower power would have to be negative, the higher one alone.
        let high = (times[1] / k2.powi(p) - times[0] / k1.powi(p)) / (k2.powi(q - p) - k1.powi(q - p));
        let low = times[1] / k2.powi(p) - high * k2.powi(q - p);
        let factors = match k1 < k2 {
            true if high < 0.0 => [times[1] / k2.powi(p), 0.0],
            true if low >= 0.0 => [low, high],
            _ => [0.0, times[1] / k2.powi(q)],
        };
        Fit { powers, factors }
    }

    fn at(self, k: usize) -> f64 {
        (0..2).map(|i| self.factors[i] * (k as f64).powi(self.powers[i])).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contexts_that_fit_are_said() {
        // 100 bytes beside ten contexts of 50.
        assert!(fits(600, 600, 10, 50, 4).is_ok());
        let said = |free| fits(free, 600, 10, 50, 4).unwrap_err().to_string();
        assert_eq!(
            said(599),
            "calibrating with 10 contexts: found 599 bytes of memory free, expected 600: --chunks 9 fits"
        );
        assert!(said(300).ends_with("--chunks 4 fits"));
        for free in [0, 50, 299] {
            assert!(said(free).ends_with("no number of --chunks fits"), "{free}");
        }
    }

    #[test]
    fn two_points_are_gone_through() {
        let time = |k: usize| 3.0 * (k as f64).powi(2) + 5.0 * (k as f64).powi(3);
        let fit = Fit::of([512, 1024], [time(512), time(1024)], [2, 3]);
        assert!((fit.at(4096) / time(4096) - 1.0).abs() < 1e-9);
        let one = Fit::of([256, 256], [2.0, 2.0], [1, 2]);
        assert_eq!((one.at(256), one.at(512)), (2.0, 8.0));
    }
}
