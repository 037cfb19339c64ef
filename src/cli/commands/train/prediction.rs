//! How much memory and time a run takes, before it starts.

use std::fmt;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use bise::adapter::Adapter;
use bise::memory::{MemoryLimit, available_bytes, format_bytes};
use bise::train::{Dataset, TrainError, training_bytes};
use bise::{Cancel, Engine, SessionOptions};
use bise_models::train::{Example, Targets, TrainOptions, Trainer};

use super::Run;
use super::reports::duration;

/// The most memory that a run takes, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Weights, in the file or in memory.
    weights: usize,
    /// Buffers, gradients, and what the optimizer remembers.
    training: usize,
    /// The rows.
    data: usize,
    /// The program and its tokenizer.
    program: usize,
}

impl Memory {
    fn total(&self) -> usize {
        [self.weights, self.training, self.data, self.program].into_iter().fold(0, usize::saturating_add)
    }
}

/// Errs where an adapter of `rank` makes no sense, or has no room: before any of it is made.
pub fn check_rank(engine: &Engine, targets: &Targets, rank: usize, limit: Option<MemoryLimit>) -> Result<()> {
    let sites = targets.sites(engine.config())?;
    let most = sites.iter().flat_map(|(_, shape)| *shape).max().unwrap_or(0);
    ensure!(
        rank <= most,
        "--rank {rank}: expected no more than {most}, the larger side of the largest matrix"
    );
    // Weights, gradients, and two moments.
    let n: usize = sites.iter().map(|(_, shape)| rank * shape.iter().sum::<usize>()).sum();
    let n_bytes = n.saturating_mul(4 * size_of::<f32>());
    let room = match limit {
        Some(MemoryLimit::Bytes(bytes)) => bytes,
        None | Some(MemoryLimit::Auto) => available_bytes().unwrap_or(usize::MAX),
    };
    ensure!(
        n_bytes <= room,
        "--rank {rank}: found room for {}, expected {} for the adapter alone: what fits is a lower rank, or fewer --targets or --num-layers",
        format_bytes(room),
        format_bytes(n_bytes)
    );
    Ok(())
}

/// The memory that training takes with `options`. Below a limit, passes are made smaller as far as that goes.
///
/// # Errors
/// Where it does not fit; the message says what would.
pub fn memory(
    engine: &Engine,
    adapter: &Adapter,
    data: &[&Dataset],
    options: &mut TrainOptions,
    limit: Option<MemoryLimit>,
) -> Result<Memory> {
    let plan = engine.memory(&SessionOptions { n_ctx: 1, ..SessionOptions::default() });
    // What serving would take on top is not needed.
    let serving = plan.cache_bytes(1) + plan.buffers_bytes(1);
    let whole = (plan.anonymous_at(1) + plan.mapped_at(1)).saturating_sub(serving);
    let weights = whole.saturating_sub(plan.program_bytes());
    let with = |options: &TrainOptions| -> Result<Memory, TrainError> {
        Ok(Memory {
            weights,
            training: training_bytes(engine, adapter, options)?,
            data: data.iter().map(|data| data.heap_bytes()).sum(),
            program: whole - weights,
        })
    };
    let memory = with(options)?;
    let limit = match limit {
        None => return Ok(memory),
        Some(MemoryLimit::Bytes(bytes)) => bytes,
        Some(MemoryLimit::Auto) => available_bytes().unwrap_or(usize::MAX),
    };
    let longest = data.iter().map(|data| data.longest()).max().unwrap_or(1);
    let fits = |rows: usize, checkpointing: bool| -> Result<bool, TrainError> {
        let options = TrainOptions { max_rows: rows, checkpointing, ..*options };
        Ok(with(&options)?.total() <= limit)
    };
    // The same bits, in smaller passes.
    for rows in [options.max_rows, longest.max(options.max_rows / 2), longest] {
        if fits(rows, options.checkpointing)? {
            options.max_rows = rows;
            return Ok(with(options)?);
        }
    }
    let mut remedies = Vec::new();
    if !options.checkpointing && fits(longest, true)? {
        remedies.push("leave out --no-grad-checkpoint".to_owned());
    }
    let mut rows = longest;
    while rows > 1 {
        rows /= 2;
        if fits(rows, true)? {
            remedies.push(format!("--max-seq-length {rows}"));
            break;
        }
    }
    let least = with(&TrainOptions { max_rows: longest, ..*options })?;
    let remedies = if remedies.is_empty() { "a smaller model".to_owned() } else { remedies.join(", or ") };
    bail!(
        "--max-memory: found room for {}, expected {} (weights {}, training {}): what fits is {remedies}",
        format_bytes(limit),
        format_bytes(least.total()),
        format_bytes(least.weights),
        format_bytes(least.training)
    )
}

/// What a run will take.
pub struct Prediction {
    memory: Memory,
    seconds: f64,
    n_steps: usize,
    n_tokens: u64,
    max_rows: usize,
}

impl Prediction {
    /// Measures passes over the first rows, and what the whole run takes by that. Nothing is learned.
    pub fn new(
        trainer: &mut Trainer<'_>,
        run: &Run<'_>,
        options: &TrainOptions,
        memory: Memory,
        cancel: &Cancel,
    ) -> Result<Prediction, TrainError> {
        let data = &run.data.train;
        let n_steps = run.schedule.n_steps;
        let n_tokens = run.n_tokens_until(n_steps);
        // A pass costs something, and each of its tokens does.
        const FEW: usize = 32;
        let (few, first) = time(trainer, data, FEW, cancel)?;
        let (many, second) = match first {
            seconds if seconds < 0.5 => time(trainer, data, options.max_rows, cancel)?,
            _ => time(trainer, data, (4 * FEW).min(options.max_rows), cancel)?,
        };
        let token = match many > few {
            true => ((second - first) / (many - few) as f64).max(0.5 * second / many as f64),
            false => second / many as f64,
        };
        let pass = (second - token * many as f64).max(0.0);
        let n_passes = passes(run, options.max_rows) as f64 * n_tokens as f64 / data.n_tokens() as f64;
        let mut seconds = token * n_tokens as f64 + pass * n_passes;
        if let Some(valid) = &run.data.valid {
            let rows =
                run.args.reports.val_batches.saturating_mul(run.args.steps.batch_size).min(valid.n_rows());
            let n_evaluations = ((n_steps - 1) / run.args.reports.eval_every).saturating_add(2);
            let tokens = valid.n_tokens() as f64 * rows as f64 / valid.n_rows() as f64;
            // Forward, without what comes back: a third.
            seconds += token * tokens * n_evaluations as f64 / 3.0;
        }
        Ok(Prediction { memory, seconds, n_steps, n_tokens, max_rows: options.max_rows })
    }
}

/// Passes of an epoch.
fn passes(run: &Run<'_>, max_rows: usize) -> usize {
    let data = &run.data.train;
    let mut n = 0;
    for batch in run.order.epoch(0).chunks(run.args.steps.batch_size) {
        let mut room = 0;
        for row in batch {
            let len = data.row(*row).tokens.len();
            if len > room {
                n += 1;
                room = max_rows;
            }
            room = room.saturating_sub(len);
        }
    }
    n
}

/// Computes the gradients of the first `n` tokens, and forgets them: how many tokens there were, and the seconds.
fn time(
    trainer: &mut Trainer<'_>,
    data: &Dataset,
    n: usize,
    cancel: &Cancel,
) -> Result<(usize, f64), TrainError> {
    let mut left = n;
    let mut rows = Vec::new();
    for row in data.rows() {
        let len = row.tokens.len().min(left);
        if len < 2 {
            break;
        }
        left -= len;
        rows.push(&row.tokens[..len]);
    }
    let marks: Vec<Vec<bool>> = rows.iter().map(|row| (0..row.len()).map(|i| i > 0).collect()).collect();
    let examples: Vec<Example<'_>> =
        rows.iter().zip(&marks).map(|(tokens, is_label)| Example { tokens, is_label, seed: 0 }).collect();
    let start = Instant::now();
    let result = trainer.backward(&examples);
    let seconds = start.elapsed().as_secs_f64();
    trainer.clear_gradients();
    match result {
        _ if cancel.is_cancelled() => Err(TrainError::Cancelled),
        Ok(_) => Ok((n - left, seconds)),
        Err(error) => Err(error.into()),
    }
}

impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Memory { weights, training, data, program } = self.memory;
        write!(
            f,
            "prediction: {} steps over {} tokens take {}; {} of memory (weights {}, training {} for passes of {} tokens, rows {}, program {})",
            self.n_steps,
            self.n_tokens,
            duration(self.seconds),
            format_bytes(self.memory.total()),
            format_bytes(weights),
            format_bytes(training),
            self.max_rows,
            format_bytes(data),
            format_bytes(program)
        )
    }
}
