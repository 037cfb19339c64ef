//! How much memory and time a run takes, before it starts.

use std::fmt;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use bise::adapter::Adapter;
use bise::memory::{MemoryLimit, available_bytes, format_bytes};
use bise::train::{Dataset, Saved, TrainError, training_bytes};
use bise::{Cancel, Engine, SessionOptions};
use bise_models::train::{Example, Loss, Targets, TrainOptions, Trainer};

use super::Run;
use super::reports::{duration, has_evaluation};

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

/// What a run will take, or what is left of one that goes on.
pub struct Prediction {
    memory: Memory,
    seconds: f64,
    n_steps: usize,
    n_done: usize,
    n_tokens: u64,
    max_rows: usize,
}

impl Prediction {
    /// Measures passes over the first rows, and what the run takes by that behind the steps that were `begun`. Nothing is learned.
    pub fn new(
        trainer: &mut Trainer<'_>,
        run: &Run<'_>,
        options: &TrainOptions,
        memory: Memory,
        begun: &Saved,
        cancel: &Cancel,
    ) -> Result<Prediction, TrainError> {
        let data = &run.data.train;
        // A pass costs something, and each of its tokens does.
        const FEW: usize = 32;
        let (few, first) = time(trainer, data, FEW, Trainer::backward, cancel)?;
        let n = if first < 0.5 { options.max_rows } else { (4 * FEW).min(options.max_rows) };
        let (many, second) = time(trainer, data, n, Trainer::backward, cancel)?;
        let is_evaluated = run.data.valid.is_some() || run.data.test.is_some();
        let forward = match is_evaluated {
            true => time(trainer, data, n, Trainer::loss, cancel)?.1 / second,
            false => 0.0,
        };
        let token = match many > few {
            true => ((second - first) / (many - few) as f64).max(0.5 * second / many as f64),
            false => second / many as f64,
        };
        let pass = (second - token * many as f64).max(0.0);
        Ok(Prediction {
            memory,
            seconds: Work::left(run, begun, options.max_rows).seconds(token, pass, forward),
            n_steps: run.schedule.n_steps,
            n_done: begun.n_done,
            n_tokens: n_tokens_left(run, begun),
            max_rows: options.max_rows,
        })
    }
}

fn n_tokens_left(run: &Run<'_>, begun: &Saved) -> u64 {
    run.n_tokens_until(run.schedule.n_steps).saturating_sub(run.n_tokens_until(begun.n_done))
}

/// Tokens, and the passes over them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Amount {
    n_tokens: f64,
    n_passes: f64,
}

impl Amount {
    /// One round over these rows, `batch_size` of them at a time, in passes of up to `max_rows` tokens.
    fn of_rows(data: &Dataset, rows: &[usize], batch_size: usize, max_rows: usize) -> Amount {
        let (mut n_tokens, mut n_passes) = (0, 0);
        for batch in rows.chunks(batch_size) {
            let mut room = 0;
            for row in batch {
                let len = data.row(*row).tokens.len();
                if len > room {
                    n_passes += 1;
                    room = max_rows;
                }
                room = room.saturating_sub(len);
                n_tokens += len;
            }
        }
        Amount { n_tokens: n_tokens as f64, n_passes: f64::from(n_passes) }
    }

    fn times(self, n: f64) -> Amount {
        Amount { n_tokens: n * self.n_tokens, n_passes: n * self.n_passes }
    }

    fn plus(self, other: Amount) -> Amount {
        Amount { n_tokens: self.n_tokens + other.n_tokens, n_passes: self.n_passes + other.n_passes }
    }
}

/// What a run has to compute.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Work {
    learned: Amount,
    evaluated: Amount,
}

impl Work {
    /// What is left of a run.
    fn left(run: &Run<'_>, begun: &Saved, max_rows: usize) -> Work {
        let (data, batch_size) = (run.data, run.args.steps.batch_size);
        let of = |data: &Dataset, rows: &[usize]| Amount::of_rows(data, rows, batch_size, max_rows);
        let epoch = of(&data.train, &run.order.epoch(0));
        let learned = epoch.times(n_tokens_left(run, begun) as f64 / data.train.n_tokens() as f64);
        let first = |data: &Dataset, n: usize| of(data, &(0..n).collect::<Vec<_>>());
        let valid = data.valid.as_ref().map_or(Amount::default(), |valid| {
            first(valid, run.n_valid_rows(valid)).times(n_evaluations(run, begun))
        });
        let test = data.test.as_ref();
        let test = test.map_or(Amount::default(), |test| first(test, run.n_test_rows(test)));
        Work { learned, evaluated: valid.plus(test) }
    }

    /// The time it takes where a token takes `token` seconds, and a pass `pass` beside its tokens, forward and backward. An evaluation takes
    /// the part `forward` of that.
    fn seconds(&self, token: f64, pass: f64, forward: f64) -> f64 {
        let of = |amount: Amount| token * amount.n_tokens + pass * amount.n_passes;
        of(self.learned) + forward * of(self.evaluated)
    }
}

/// Evaluations on valid.jsonl that are to come.
fn n_evaluations(run: &Run<'_>, begun: &Saved) -> f64 {
    let (n_done, n_steps, every) = (begun.n_done, run.schedule.n_steps, run.args.reports.eval_every());
    let is_missing = run.is_evaluated_behind(n_done) && !has_evaluation(&begun.history, n_done);
    if n_done >= n_steps {
        return f64::from(u8::from(is_missing));
    }
    // The last one is behind the last step in any case.
    let between = (n_steps - 1) / every - n_done / every;
    between as f64 + 1.0 + f64::from(u8::from(is_missing))
}

/// Computes the gradients or the loss of the first `n` tokens by `pass`, and forgets them: how many tokens there were, and the seconds.
fn time<'m>(
    trainer: &mut Trainer<'m>,
    data: &Dataset,
    n: usize,
    pass: impl FnOnce(&mut Trainer<'m>, &[Example<'_>]) -> Result<Loss, bise_models::train::TrainError>,
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
    let result = pass(trainer, &examples);
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
        let steps = match self.n_done {
            0 if self.n_steps == 1 => "1 step".to_owned(),
            0 => format!("{} steps", self.n_steps),
            n => format!("the last {} of {} steps", self.n_steps - n, self.n_steps),
        };
        write!(
            f,
            "prediction: {steps} over {} tokens take {}; {} of memory (weights {}, training {} for passes of {} tokens, rows {}, program {})",
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

#[cfg(all(test, feature = "builtin-model"))]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::super::args::TrainArgs;
    use super::super::{Data, Files, Initial};
    use super::*;
    use bise::train::Order;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TrainArgs,
    }

    /// What is left of nine steps, three epochs of six rows, behind some of them.
    #[test]
    fn what_is_left_is_counted_with_all_evaluations() {
        let folder = tempfile::tempdir().unwrap();
        let text = |n: usize| format!("{{\"text\": \"{}\"}}\n", "one two three ".repeat(n));
        let write = |name: &str, lengths: &[usize]| {
            let rows: String = lengths.iter().map(|n| text(*n)).collect();
            std::fs::write(folder.path().join(name), rows).unwrap();
        };
        write("train.jsonl", &[1, 2, 3, 4, 5, 6]);
        write("valid.jsonl", &[7, 2, 9]);
        write("test.jsonl", &[3, 3, 3]);
        let data = folder.path().to_str().unwrap();
        let line =
            "train --iters 9 --batch-size 2 --eval-every 4 --val-batches 1 --test --log-disable --data";
        let args = Line::parse_from(line.split(' ').chain([data])).args;
        let (engine, log) = (Engine::builtin().unwrap(), args.log.log());
        let data = Data::open(&args, &Files::find(&args, log).unwrap(), &engine, log).unwrap();
        let adapter = Initial::new(&args, &engine, log).unwrap();
        let order = Order { n_rows: 6, rows_per_step: 2, shuffle: Some(42) };
        let schedule = args.schedule(order.steps_per_epoch());
        let run = Run { args: &args, engine: &engine, data: &data, adapter: &adapter, order, schedule, log };
        let lens = |data: &Dataset| data.rows().map(|row| row.tokens.len() as f64).collect::<Vec<_>>();
        let epoch: f64 = lens(&data.train).iter().sum();
        let valid: f64 = lens(data.valid.as_ref().unwrap())[..2].iter().sum();
        let test: f64 = lens(data.test.as_ref().unwrap()).iter().sum();
        // Passes of three steps an epoch; of one batch of an evaluation, and of two of the test.
        let work = |n_epochs: f64, n_evaluations: f64| Work {
            learned: Amount { n_tokens: n_epochs * epoch, n_passes: n_epochs * 3.0 },
            evaluated: Amount { n_tokens: n_evaluations * valid + test, n_passes: n_evaluations + 2.0 },
        };
        let left = |n_done: usize, evaluated: &[usize]| {
            let history = evaluated.iter().map(|n| json!({"iteration": n, "val_loss": 2.0})).collect();
            Work::left(&run, &Saved { n_done, history, ..Saved::default() }, 1000)
        };
        // Behind 0, 4, 8 and 9.
        assert_eq!(left(0, &[]), work(3.0, 4.0));
        assert_eq!(left(3, &[0]), work(2.0, 3.0));
        assert_eq!(left(6, &[0, 4]), work(1.0, 2.0));
        assert_eq!(left(9, &[0, 4, 8, 9]), work(0.0, 0.0));
        // One that was interrupted comes again.
        assert_eq!(left(4, &[0]).evaluated, work(0.0, 3.0).evaluated);
        assert_eq!(left(4, &[0, 4]).evaluated, work(0.0, 2.0).evaluated);
        assert_eq!(left(9, &[0, 4, 8]), work(0.0, 1.0));
        let seconds = work(1.0, 2.0).seconds(0.5, 4.0, 0.25);
        let expected = 0.5 * epoch + 4.0 * 3.0 + (0.5 * (2.0 * valid + test) + 4.0 * 4.0) / 4.0;
        assert!((seconds - expected).abs() < 1e-9, "{seconds}, {expected}");
    }
}
