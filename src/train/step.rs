//! Step by step: gradients of some rows, and what the optimizer makes of them.

use std::time::{Duration, Instant};

use bise_models::train::{Example, Loss};

use super::adam_w::{AdamW, Moments};
use super::data::{Dataset, DatasetRow};
use super::error::TrainError;
use super::objective::Objective;
use super::order::Order;
use super::random::key;
use super::schedule::Schedule;
use crate::Cancel;

/// How weights change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions {
    /// The learning rates.
    pub schedule: Schedule,
    /// The optimizer.
    pub adam: AdamW,
    /// The norm that gradients are cut to; infinite where they are not.
    pub max_gradient_norm: f64,
    /// Rows whose gradients are asked for at a time.
    pub rows_per_pass: usize,
    /// Chooses what dropout leaves out.
    pub seed: u64,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Its number, from 1.
    pub number: usize,
    /// The mean loss of its label tokens, before the weights changed.
    pub loss: f64,
    /// The label tokens.
    pub n_labels: usize,
    /// All tokens that were read.
    pub n_tokens: usize,
    /// The learning rate.
    pub lr: f64,
    /// The norm of the gradient before it was cut.
    pub gradient_norm: f64,
    /// How long it took.
    pub took: Duration,
}

/// A run under way: the weights, what the optimizer remembers of them, and how many steps are done.
pub struct Training<T> {
    /// What is trained.
    pub objective: T,
    options: StepOptions,
    order: Order,
    /// The order of the epoch that was asked for last.
    epoch: Option<(usize, Vec<usize>)>,
    pub(super) moments: Vec<Moments>,
    pub(super) n_done: usize,
}

impl<T: Objective> Training<T> {
    /// A run that begins with the weights of `objective`.
    pub fn new(mut objective: T, order: Order, options: StepOptions) -> Training<T> {
        let mut moments = Vec::new();
        objective.visit(&mut |weights| moments.push(Moments::new(weights.values.len())));
        Training { objective, options, order, epoch: None, moments, n_done: 0 }
    }

    /// Steps that are done.
    pub fn n_done(&self) -> usize {
        self.n_done
    }

    /// Steps of the whole run.
    pub fn n_steps(&self) -> usize {
        self.options.schedule.n_steps
    }

    /// The rows of step `step`, from 0.
    fn rows(&mut self, step: usize) -> Vec<usize> {
        let (epoch, places) = self.order.places(step);
        if self.epoch.as_ref().is_none_or(|(kept, _)| *kept != epoch) {
            self.epoch = Some((epoch, self.order.epoch(epoch)));
        }
        let (_, rows) = self.epoch.as_ref().expect("it was set above");
        rows[places].to_vec()
    }

    /// Does the next step. The loss is that of all its label tokens together, over their number; passes add up in order, so how rows are
    /// split over passes changes nothing.
    ///
    /// # Errors
    /// A pass that fails, a loss or a gradient that is not finite, or `cancel`: the weights stay as they were before the step. Where the new
    /// weights are not finite, there is nothing to go on with.
    pub fn step(&mut self, data: &Dataset, cancel: &Cancel) -> Result<Step, TrainError> {
        let start = Instant::now();
        let number = self.n_done + 1;
        let rows = self.rows(self.n_done);
        let mut total = Loss::default();
        let mut n_tokens = 0;
        self.objective.clear_gradients();
        for pass in rows.chunks(self.options.rows_per_pass) {
            if cancel.is_cancelled() {
                return Err(TrainError::Cancelled);
            }
            let owned: Vec<Marked<'_>> = pass.iter().map(|row| Marked::new(data.row(*row))).collect();
            // By the step and the row, not by the pass.
            let seed =
                |row: &usize| key(self.options.seed, &format!("dropout of row {row} in step {number}"));
            let examples: Vec<Example<'_>> =
                owned.iter().zip(pass).map(|(marked, row)| marked.example(seed(row))).collect();
            n_tokens += owned.iter().map(|marked| marked.tokens.len()).sum::<usize>();
            total += self.objective.backward(&examples).map_err(|error| TrainError::pass(number, error))?;
        }
        let loss = total.mean();
        let not_finite = |what, value: f64| TrainError::NotFinite { step: number, what, value };
        if !loss.is_finite() {
            return Err(not_finite("loss", loss));
        }
        let mean = 1.0 / total.n_labels as f64;
        let mut squares = 0.0;
        self.objective.visit(&mut |weights| {
            squares += weights.gradient.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>();
        });
        let gradient_norm = squares.sqrt() * mean;
        if !gradient_norm.is_finite() {
            return Err(not_finite("norm of the gradient", gradient_norm));
        }
        let cut = (self.options.max_gradient_norm / (gradient_norm + 1e-6)).min(1.0);
        let lr = self.options.schedule.lr(self.n_done);
        let (mut moments, mut unfit) = (self.moments.iter_mut(), None);
        self.objective.visit(&mut |weights| {
            let moments = moments.next().expect("there are moments of every matrix");
            let factor = (mean * cut) as f32;
            self.options.adam.step(number as u64, lr, factor, weights.values, weights.gradient, moments);
            unfit = unfit.or(weights.values.iter().copied().find(|weight| !weight.is_finite()));
        });
        if let Some(weight) = unfit {
            return Err(not_finite("weight", weight.into()));
        }
        self.n_done = number;
        let took = start.elapsed();
        Ok(Step { number, loss, n_labels: total.n_labels, n_tokens, lr, gradient_norm, took })
    }

    /// The mean loss of the first `max_rows` rows of other data, without dropout.
    ///
    /// # Errors
    /// A pass that fails, or `cancel`.
    pub fn evaluate(&mut self, data: &Dataset, max_rows: usize, cancel: &Cancel) -> Result<Loss, TrainError> {
        let rows: Vec<usize> = (0..data.n_rows().min(max_rows)).collect();
        let mut total = Loss::default();
        for pass in rows.chunks(self.options.rows_per_pass) {
            if cancel.is_cancelled() {
                return Err(TrainError::Cancelled);
            }
            let owned: Vec<Marked<'_>> = pass.iter().map(|row| Marked::new(data.row(*row))).collect();
            let examples: Vec<Example<'_>> = owned.iter().map(|marked| marked.example(0)).collect();
            total += self.objective.loss(&examples).map_err(|error| TrainError::pass(self.n_done, error))?;
        }
        Ok(total)
    }
}

/// A row and its marks of labels.
pub(super) struct Marked<'a> {
    tokens: &'a [u32],
    is_label: Vec<bool>,
}

impl<'a> Marked<'a> {
    pub fn new(row: DatasetRow<'a>) -> Marked<'a> {
        let is_label = (0..row.tokens.len()).map(|i| i >= row.first_label).collect();
        Marked { tokens: row.tokens, is_label }
    }

    pub fn example(&self, seed: u64) -> Example<'_> {
        Example { tokens: self.tokens, is_label: &self.is_label, seed }
    }
}
