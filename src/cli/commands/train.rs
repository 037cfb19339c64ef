//! `bise train`: an adapter (LoRA) for the model as it is served, like `mlx_lm.lora`.

mod args;
mod curve;
mod initial;
mod output;
mod prediction;
mod reports;
mod settings;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use bise::train::{
    AdamW, DataOptions, Dataset, GGUF_NAME, Order, RunFolder, STATE, Saved, Schedule, Settings, StepOptions,
    TrainError, Training, trainer, write_adapter,
};
use bise::{Cancel, Engine};
use bise_models::printable::Printable;
use bise_models::train::{TrainOptions, Trainer};

pub use self::args::TrainArgs;
use self::initial::Initial;
use self::prediction::Prediction;
use self::reports::{Reports, duration};
use super::chat;
use crate::cli::load;
use crate::cli::term::console::Log;
use crate::cli::term::signals;
use crate::cli::usage::wrong;

/// Tokens of a pass, unless a row has more. Larger passes are hardly faster, and take more memory.
const PASS_TOKENS: usize = 1024;

/// Runs the command.
///
/// # Errors
/// Data that cannot be learned from, a model or adapter that cannot be trained, a run that diverges, and files that cannot be written.
pub fn run(args: TrainArgs) -> Result<()> {
    let log = args.log.log();
    args.check_usage()?;
    let files = Files::find(&args, log)?;
    output::check(&args, &files)?;
    let engine = load::load(&args.model, None, log)?.engine;
    let data = Data::open(&args, &files, &engine, log)?;
    let adapter = Initial::new(&args, &engine, log)?;
    let order = Order {
        n_rows: data.train.n_rows(),
        rows_per_step: args.steps.batch_size.saturating_mul(args.steps.grad_accum),
        shuffle: (!args.steps.no_shuffle).then_some(args.steps.seed),
    };
    let schedule = args.schedule(order.steps_per_epoch());
    let run = Run { args: &args, engine: &engine, data: &data, adapter: &adapter, order, schedule, log };
    let cancel = Cancel::new();
    let _writing = signals::writing(cancel.clone());
    let mut options = run.options();
    let memory =
        prediction::memory(&engine, &adapter.adapter, &data.all(), &mut options, args.model.max_memory)?;
    // The folder is taken before anything is measured: another run in it would be found hours later.
    let folder = match args.dry_run {
        true => None,
        false => Some(RunFolder::take(&args.output)?),
    };
    let trainer = trainer(&engine, &adapter.adapter, &options, &cancel)?;
    let mut training = Training::new(trainer, order, run.step_options());
    let settings = settings::of(&run);
    let begun = run.begin(&mut training, &settings)?;
    let prediction = Prediction::new(&mut training.objective, &run, &options, memory, &begun, &cancel);
    let prediction = prediction.map_err(|error| interrupted_or(error, "nothing was trained"))?;
    match folder {
        None => {
            println!("{prediction}");
            Ok(())
        }
        Some(folder) => {
            log.note(&prediction);
            run.train(&mut training, settings, begun, &folder, &cancel)
        }
    }
}

/// An error as the command tells it: what Ctrl-C ended is no fault.
fn interrupted_or(error: TrainError, what: &str) -> anyhow::Error {
    match error {
        TrainError::Cancelled => signals::Interrupted(what.to_owned()).into(),
        error => error.into(),
    }
}

/// The files of rows.
struct Files {
    train: PathBuf,
    valid: Option<PathBuf>,
    test: Option<PathBuf>,
}

impl Files {
    fn find(args: &TrainArgs, log: Log) -> Result<Files> {
        let data = &args.data;
        let found = std::fs::metadata(data).with_context(|| Printable(data.display()).to_string())?;
        let files = match found.is_dir() {
            false => Files { train: data.clone(), valid: None, test: None },
            true => {
                let there = |name: &str| Some(data.join(name)).filter(|path| path.exists());
                let Some(train) = there("train.jsonl") else {
                    bail!("{}: found no train.jsonl, expected one in the folder", Printable(data.display()));
                };
                Files { train, valid: there("valid.jsonl"), test: there("test.jsonl") }
            }
        };
        if args.reports.test && files.test.is_none() {
            bail!("{}: found no test.jsonl, expected one for --test", Printable(data.display()));
        }
        let reports = &args.reports;
        let given = [(reports.eval_every, "--eval-every"), (reports.val_batches, "--val-batches")];
        for (_, flag) in given.into_iter().filter(|(given, _)| given.is_some() && files.valid.is_none()) {
            log.warn(format_args!("{flag} has no effect: there is no valid.jsonl to evaluate on"));
        }
        Ok(files)
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.train), self.valid.as_ref(), self.test.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }
}

impl TrainArgs {
    /// Errs where flags exclude each other.
    fn check_usage(&self) -> Result<()> {
        if !self.model.adapters.all().is_empty() {
            return Err(wrong("--lora cannot be used here: --init ADAPTER begins with an adapter"));
        }
        let flags = &self.adapter;
        if flags.init.is_none() {
            return Ok(());
        }
        let given = [
            (flags.targets.is_some(), "--targets"),
            (flags.num_layers.is_some(), "--num-layers"),
            (flags.rank.is_some(), "--rank"),
            (flags.alpha.is_some(), "--alpha"),
            (flags.rslora, "--rslora"),
        ];
        if let Some((_, flag)) = given.into_iter().find(|(is_given, _)| *is_given) {
            return Err(wrong(format_args!(
                "{flag} cannot be used with --init: the adapter keeps its shape"
            )));
        }
        Ok(())
    }

    fn schedule(&self, steps_per_epoch: usize) -> Schedule {
        let steps = &self.steps;
        let n_steps = match (steps.iters, steps.epochs) {
            (Some(n), _) => n,
            (None, epochs) => epochs.unwrap_or(3).saturating_mul(steps_per_epoch),
        };
        let n_warmup = match steps.warmup {
            part if part < 1.0 => (part * n_steps as f64).ceil() as usize,
            n => n as usize,
        };
        Schedule { lr: steps.lr, kind: steps.schedule.kind(), n_warmup, n_steps }
    }
}

/// The rows.
struct Data {
    train: Dataset,
    valid: Option<Dataset>,
    test: Option<Dataset>,
}

impl Data {
    fn open(args: &TrainArgs, files: &Files, engine: &Engine, log: Log) -> Result<Data> {
        let n_ctx = engine.config().n_ctx_train;
        if args.max_seq_length > n_ctx && engine.config().sliding_window.is_none() {
            log.warn(format_args!(
                "--max-seq-length {}: the model was trained for {n_ctx} tokens",
                args.max_seq_length
            ));
        }
        let options = DataOptions {
            template: chat::template_of(&args.template, engine)?,
            arguments: args.template.template_arguments(),
            mask_prompt: args.mask_prompt,
            max_seq_length: args.max_seq_length,
        };
        let open = |path: &Path| -> Result<Dataset> {
            let data = Dataset::open(path, engine.tokenizer(), &options)?;
            for warning in data.warnings() {
                log.warn(warning);
            }
            Ok(data)
        };
        let train = open(&files.train)?;
        log.note(format_args!(
            "{}: {} rows, {} tokens, {} of them count",
            Printable(files.train.display()),
            train.n_rows(),
            train.n_tokens(),
            train.n_labels()
        ));
        let valid = files.valid.as_deref().map(open).transpose()?;
        let test = files.test.as_deref().filter(|_| args.reports.test).map(open).transpose()?;
        Ok(Data { train, valid, test })
    }

    fn all(&self) -> Vec<&Dataset> {
        [Some(&self.train), self.valid.as_ref(), self.test.as_ref()].into_iter().flatten().collect()
    }
}

/// A run: what is trained, on what, and how.
struct Run<'a> {
    args: &'a TrainArgs,
    engine: &'a Engine,
    data: &'a Data,
    adapter: &'a Initial,
    order: Order,
    schedule: Schedule,
    log: Log,
}

impl Run<'_> {
    fn options(&self) -> TrainOptions {
        let steps = &self.args.steps;
        let longest = self.data.all().iter().map(|data| data.longest()).max().unwrap_or(1);
        let mut lengths: Vec<usize> = self.data.train.rows().map(|row| row.tokens.len()).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        let batch: usize = lengths.iter().take(steps.batch_size).sum();
        TrainOptions {
            dropout: self.args.adapter.dropout as f32,
            exact: steps.exact,
            max_rows: longest.max(batch.min(PASS_TOKENS)),
            checkpointing: !steps.no_grad_checkpoint,
        }
    }

    fn step_options(&self) -> StepOptions {
        let steps = &self.args.steps;
        StepOptions {
            schedule: self.schedule,
            adam: AdamW { weight_decay: steps.weight_decay, ..AdamW::default() },
            max_gradient_norm: if steps.clip == 0.0 { f64::INFINITY } else { steps.clip },
            rows_per_pass: steps.batch_size,
            seed: steps.seed,
        }
    }

    /// Tokens that the steps before step `n` read.
    fn n_tokens_until(&self, n: usize) -> u64 {
        let data = &self.data.train;
        let (epoch, places) = self.order.places(n);
        let rows = self.order.epoch(epoch);
        let partly: usize = rows[..places.start].iter().map(|row| data.row(*row).tokens.len()).sum();
        (data.n_tokens() as u64).saturating_mul(epoch as u64).saturating_add(partly as u64)
    }

    /// What was done before: with --resume, by the last checkpoint, which `training` takes over.
    fn begin(&self, training: &mut Training<Trainer<'_>>, settings: &Settings) -> Result<Saved> {
        if !self.args.resume {
            return Ok(Saved::default());
        }
        let path = output::newest_checkpoint(&self.args.output)?;
        let found = training.load(&path.join(STATE), settings)?;
        self.log.note(format_args!(
            "{}: going on behind step {} of {}",
            Printable(path.display()),
            found.n_done,
            training.n_steps()
        ));
        if let Some(log) = &self.args.reports.log {
            output::check_log(log, &found.history)?;
        }
        Ok(found)
    }

    fn train(
        &self,
        training: &mut Training<Trainer<'_>>,
        settings: Settings,
        begun: Saved,
        folder: &RunFolder,
        cancel: &Cancel,
    ) -> Result<()> {
        folder.check_free(training.n_done() + 1..=training.n_steps())?;
        if self.args.force {
            folder.remove_checkpoints()?;
        }
        let n_tokens = self.n_tokens_until(training.n_steps());
        let title = match self.engine.file().metadata().str("general.name").ok().flatten() {
            Some(name) => name.to_owned(),
            None => self.engine.file().name().to_owned(),
        };
        let saved = (begun.n_done > 0).then_some(begun.n_done);
        let n_done_tokens = self.n_tokens_until(begun.n_done);
        let mut reports = Reports::new(
            &self.args.reports,
            title,
            training.n_steps(),
            n_tokens,
            begun,
            n_done_tokens,
            self.log,
        )?;
        let start = Instant::now();
        let mut kept = Kept { folder, settings, saved, is_fit: true };
        let result = self.steps(training, &mut kept, &mut reports, cancel);
        if let Err(error) = result {
            return Err(self.ended(error, training, &mut kept, &reports));
        }
        drop(reports);
        self.log.note(format_args!(
            "{}: the adapter after {} steps, in {}; `bise -m … --lora {}` uses it",
            Printable(folder.path().display()),
            training.n_done(),
            duration(start.elapsed().as_secs_f64()),
            Printable(folder.path().join(GGUF_NAME).display())
        ));
        Ok(())
    }

    fn steps(
        &self,
        training: &mut Training<Trainer<'_>>,
        kept: &mut Kept<'_>,
        reports: &mut Reports<'_>,
        cancel: &Cancel,
    ) -> Result<()> {
        let (args, n_steps) = (&self.args.reports, training.n_steps());
        loop {
            let n_done = training.n_done();
            // What was cut short behind the last step of an earlier run comes first.
            reports.report_if_due()?;
            if self.is_evaluated_behind(n_done) && !reports.has_evaluation(n_done) {
                self.evaluate(training, reports, cancel)?;
            }
            if n_done > 0 && (n_done.is_multiple_of(args.save_every) || n_done == n_steps) {
                kept.save(self, training, reports)?;
            }
            if n_done >= n_steps {
                break;
            }
            kept.is_fit = false;
            let step = training.step(&self.data.train, cancel)?;
            kept.is_fit = true;
            reports.add(&step);
        }
        if let Some(test) = &self.data.test {
            let n_rows = self.n_test_rows(test);
            let loss = training.evaluate(test, n_rows, cancel)?;
            reports.tested(loss.mean(), n_rows)?;
        }
        write_adapter(
            kept.folder.path(),
            &training.objective,
            &self.adapter.config,
            self.name().as_deref(),
            true,
        )?;
        Ok(())
    }

    /// Whether there is an evaluation behind step `n`, if there is something to evaluate on: behind 0 is before the first.
    fn is_evaluated_behind(&self, n: usize) -> bool {
        n == 0 || n.is_multiple_of(self.args.reports.eval_every()) || n == self.schedule.n_steps
    }

    /// The rows of an evaluation.
    fn n_valid_rows(&self, valid: &Dataset) -> usize {
        self.args.reports.val_batches().saturating_mul(self.args.steps.batch_size).min(valid.n_rows())
    }

    /// The rows of the evaluation at the end.
    fn n_test_rows(&self, test: &Dataset) -> usize {
        self.args.reports.test_batches.saturating_mul(self.args.steps.batch_size).min(test.n_rows())
    }

    fn evaluate(
        &self,
        training: &mut Training<Trainer<'_>>,
        reports: &mut Reports<'_>,
        cancel: &Cancel,
    ) -> Result<()> {
        let Some(valid) = &self.data.valid else { return Ok(()) };
        let start = Instant::now();
        let n_rows = self.n_valid_rows(valid);
        let loss = training.evaluate(valid, n_rows, cancel)?;
        reports.evaluated(training.n_done(), loss.mean(), n_rows, valid.n_rows(), start.elapsed())
    }

    /// The name of the adapter: that of its folder.
    fn name(&self) -> Option<String> {
        let folder = self.args.output.canonicalize().ok()?;
        Some(folder.file_name()?.to_string_lossy().into_owned())
    }

    /// What is said of a run that ended early. What it has learned is kept, unless it was not worth keeping.
    fn ended(
        &self,
        error: anyhow::Error,
        training: &mut Training<Trainer<'_>>,
        kept: &mut Kept<'_>,
        reports: &Reports<'_>,
    ) -> anyhow::Error {
        let is_cancelled = error.downcast_ref().is_some_and(|error| matches!(error, TrainError::Cancelled));
        // The weights are those of the last step that was done, unless it is the step itself that failed.
        let is_fit = kept.is_fit;
        let is_saved = if (is_cancelled || is_fit) && training.n_done() > 0 {
            kept.save(self, training, reports)
        } else {
            Ok(())
        };
        let place = |kept: &Kept<'_>| {
            kept.saved.map(|step| Printable(kept.folder.checkpoint(step).display()).to_string())
        };
        if !is_cancelled {
            let error = match is_saved {
                Ok(()) => error,
                Err(failed) => anyhow!("{error:#}; then no checkpoint could be saved: {failed:#}"),
            };
            return match place(kept) {
                None => anyhow!("{error:#}; there is no checkpoint yet"),
                Some(place) if is_fit && kept.saved == Some(training.n_done()) => anyhow!(
                    "{error:#}; {place} has {} of {} steps, and --resume goes on",
                    training.n_done(),
                    training.n_steps()
                ),
                Some(place) => anyhow!("{error:#}; {place} is kept"),
            };
        }
        if let Err(error) = is_saved {
            return error;
        }
        let message = match place(kept) {
            None => "no step was done".to_owned(),
            Some(place) => format!(
                "{place} has {} of {} steps; the same command with --resume{} goes on",
                training.n_done(),
                training.n_steps(),
                if self.args.force { " in place of --force" } else { "" }
            ),
        };
        signals::Interrupted(message).into()
    }
}

/// The checkpoints of a run.
struct Kept<'a> {
    folder: &'a RunFolder,
    settings: Settings,
    /// The step of the newest.
    saved: Option<usize>,
    /// Whether what is trained can be saved: not while a step or a save is under way, which leave it so if they fail.
    is_fit: bool,
}

impl Kept<'_> {
    fn save(
        &mut self,
        run: &Run<'_>,
        training: &mut Training<Trainer<'_>>,
        reports: &Reports<'_>,
    ) -> Result<()> {
        let n_done = training.n_done();
        if self.saved == Some(n_done) {
            return Ok(());
        }
        self.is_fit = false;
        let settings = &self.settings;
        self.folder.add(n_done, |folder| {
            write_adapter(folder, &training.objective, &run.adapter.config, run.name().as_deref(), false)?;
            training.save(&folder.join(STATE), settings, reports.history(), reports.unreported())
        })?;
        self.saved = Some(n_done);
        self.is_fit = true;
        self.folder.remove_old_states()?;
        Ok(())
    }
}
