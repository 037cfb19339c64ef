//! Passes over examples, forward and backward.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bise_kernels::Team;
use bise_kernels::backward::{Dropout, Executor};

use crate::adapter::{Adapter, AdapterError, LowRank};
use crate::budget::{MemoryBudget, Reservation};
use crate::config::MistralConfig;
use crate::error::SpanError;
use crate::linear::Linear;
use crate::mistral::Mistral;
use crate::site::{Projection, Site};
use crate::train::buffers::{Buffers, Sizes};
use crate::train::error::{Place, TrainError, Values};
use crate::train::example::{Batch, Example, Loss};
use crate::train::lora::{Lora, Loras};
use crate::train::options::{self, TrainOptions};
use crate::train::products::Products;
use crate::train::step::Step;

/// An adapter in training, beside a model that stays as it is.
///
/// [`Trainer::backward`] adds to the gradients of A and B; what is done with these is up to the caller.
///
/// The same parameters, examples and options give the same bits, whatever the team, the instruction set, and however examples are
/// split over calls and passes.
pub struct Trainer<'m> {
    model: &'m Mistral,
    options: TrainOptions,
    dropout: Dropout,
    /// Those of the last layers: [`Trainer::first`] on.
    loras: Vec<Loras>,
    /// The lowest layer with LoRA.
    first: usize,
    executor: Executor,
    batch: Batch,
    buffers: Buffers,
    cancel: Arc<AtomicBool>,
    times: Times,
    _reservation: Reservation,
}

/// How long passes took, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// From tokens to the loss.
    pub forward: Duration,
    /// From the loss to the gradients, activations that are computed again included.
    pub backward: Duration,
}

/// One of LoRA's matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// `[rank, k]`
    A,
    /// `[n_rows, rank]`
    B,
}

/// A trained matrix.
#[derive(Debug)]
pub struct Parameter<'a> {
    /// The model's matrix that it stands beside.
    pub site: Site,
    /// Which of two it is.
    pub factor: Factor,
    /// Its numbers, row-major.
    pub values: &'a mut [f32],
    /// The derivative of the loss by each, summed over all examples since gradients were cleared.
    pub gradient: &'a mut [f32],
}

impl<'m> Trainer<'m> {
    /// Training that begins at `initial`, on the threads of `team`. All memory is reserved here, from `budget`.
    ///
    /// # Errors
    /// For matrices that are not trained, shapes that do not fit, a dropout outside [0, 1), and where `budget` or the system has not the
    /// memory.
    pub fn new(
        model: &'m Mistral,
        initial: &Adapter,
        options: &TrainOptions,
        team: Arc<Team>,
        budget: &MemoryBudget,
    ) -> Result<Trainer<'m>, TrainError> {
        let config = model.config();
        let dropout = Dropout::new(options.dropout).ok_or_else(|| TrainError::Unsupported {
            what: format!("a dropout of {}", options.dropout),
            why: "take a part from 0 to below 1",
        })?;
        let sites: Vec<(Site, usize)> = initial.sites().map(|(site, rank, _)| (site, rank)).collect();
        let sizes = sizes(config, &sites, options, team.n_threads())?;
        let first = config.n_layers - sizes.n_visited;
        let mut loras: Vec<Loras> = (first..config.n_layers).map(|_| Loras::default()).collect();
        let reservation = budget.reserve(Trainer::bytes(config, &sites, options, team.n_threads())?)?;
        for (site, part) in initial.parts() {
            let [n_rows, k] = options::shape(config, site.projection);
            if (part.a.len(), part.b.len()) != (part.rank * k, n_rows * part.rank) {
                return Err(TrainError::Shape {
                    site: site.to_string(),
                    found: format!("A of {} and B of {} numbers", part.a.len(), part.b.len()),
                    expected: format!("a matrix of {n_rows} rows of {k}"),
                });
            }
            loras[site.layer - first].push(Lora::new(site, part)?);
        }
        Ok(Trainer {
            model,
            options: *options,
            dropout,
            loras,
            first,
            buffers: Buffers::new(config, &sizes)?,
            executor: Executor::new(team, model.kernels()),
            batch: Batch::default(),
            cancel: Arc::default(),
            times: Times::default(),
            _reservation: reservation,
        })
    }

    /// Bytes of the buffers, parameters and gradients of [`Trainer::new`]: `sites` are the matrices with LoRA, with their ranks. The model
    /// itself, and what an optimizer keeps, come on top.
    ///
    /// # Errors
    /// For matrices that are not trained.
    pub fn bytes(
        config: &MistralConfig,
        sites: &[(Site, usize)],
        options: &TrainOptions,
        n_threads: usize,
    ) -> Result<usize, TrainError> {
        let sizes = sizes(config, sites, options, n_threads)?;
        let parameters = sites.iter().map(|(site, rank)| {
            let [n_rows, k] = options::shape(config, site.projection);
            rank.saturating_mul(n_rows + k)
        });
        let parameters = parameters.fold(0, usize::saturating_add);
        Ok(Buffers::bytes(config, &sizes).saturating_add(parameters.saturating_mul(2 * size_of::<f32>())))
    }

    /// Has [`Trainer::backward`] and [`Trainer::loss`] end early, with an error, once `cancel` is set.
    pub fn set_cancel(&mut self, cancel: Arc<AtomicBool>) {
        self.cancel = cancel;
    }

    /// The loss of `examples`. Adds the gradient of its sum to those of the parameters.
    ///
    /// # Errors
    /// For an example that is too long or has unknown tokens, before anything is computed. Later, for numbers that are not finite, and when
    /// it is cancelled: gradients are then unspecified.
    pub fn backward(&mut self, examples: &[Example<'_>]) -> Result<Loss, TrainError> {
        self.passes(examples, true)
    }

    /// The loss of `examples`, without dropout.
    ///
    /// # Errors
    /// As [`Trainer::backward`]; gradients stay as they are.
    pub fn loss(&mut self, examples: &[Example<'_>]) -> Result<Loss, TrainError> {
        self.passes(examples, false)
    }

    fn passes(&mut self, examples: &[Example<'_>], is_backward: bool) -> Result<Loss, TrainError> {
        let max_rows = self.options.max_rows;
        let mut checks = examples.iter().enumerate();
        checks.try_for_each(|(i, example)| example.check(i, self.model.config(), max_rows))?;
        let mut loss = Loss::default();
        let mut rest = examples;
        while !rest.is_empty() {
            rest = self.batch.pack(rest, max_rows);
            if self.batch.n() > 0 {
                loss += self.pass(is_backward)?;
            }
        }
        Ok(loss)
    }

    /// A pass over the batch.
    fn pass(&mut self, is_backward: bool) -> Result<Loss, TrainError> {
        let Trainer { model, loras, first, executor, batch, buffers, times, .. } = self;
        let (config, weights, first) = (model.config(), model.weights(), *first);
        let (m, d) = (batch.n(), config.n_embd);
        let Buffers { x, dx, checkpoints, kept, between, steps, lora, served, rotations, scales, spans } =
            buffers;
        let (x, dx) = (&mut x[..m * d], &mut dx[..m * d]);
        let team = Arc::clone(executor.team());
        let served = served.as_mut().map(|served| {
            served.errors = [None];
            Linear {
                team: &team,
                kernels: model.kernels(),
                hook: None,
                cancel: (&*self.cancel).into(),
                stream: None,
                quantized: &mut served.quantized,
                strips: &served.strips,
                adapters: &mut served.adapters,
                errors: &mut served.errors,
                not_finite: SpanError::LOGITS,
            }
        });
        let n_dims = config.rope.n_dims;
        let products = Products {
            executor,
            served,
            batch,
            spans: &spans[..m],
            dropout: (is_backward && !self.dropout.is_none()).then_some(self.dropout),
            cancel: (&*self.cancel).into(),
            s: lora,
            values: Values::Activations,
            place: Place::Attention(0),
        };
        // Layers before they are needed, where weights are streamed.
        let stream_to = |i: usize| {
            if let Some(stream) = model.stream() {
                stream.enter(i);
            }
        };
        if let Some(stream) = model.stream() {
            stream.begin();
        }
        let begin = Instant::now();
        team.together(|| {
            model.embed_tokens(&batch.tokens, x);
            model.fill_positions(&team, &batch.positions, &mut rotations[..m * 2 * n_dims], &mut scales[..m]);
            let mut step = Step {
                config,
                products,
                batch,
                rotations: &rotations[..m * 2 * n_dims],
                scales: &scales[..m],
                s: steps,
            };
            let none = Loras::default();
            let is_whole = kept[0].is_whole;
            for (i, layer) in weights.layers.iter().enumerate() {
                stream_to(i);
                let visited = i.checked_sub(first);
                let loras = visited.map_or(&none, |visited| &loras[visited]);
                if is_backward && let Some(visited) = visited {
                    checkpoints[visited][..m * d].copy_from_slice(x);
                }
                let slot = visited.filter(|_| is_whole).unwrap_or(0);
                let kept = &mut kept[slot];
                step.attention(i, layer, loras, x, kept)?;
                if is_whole && is_backward && visited.is_some() {
                    between[slot][..m * d].copy_from_slice(x);
                }
                step.feed_forwards(i, layer, loras, x, kept)?;
            }
            stream_to(config.n_layers);
            // Its gradient is part of the same steps: a chunk of logits becomes its own.
            let loss = step.loss(weights, x, is_backward.then_some(&mut *dx))?;
            times.forward += begin.elapsed();
            if !is_backward {
                return Ok(loss);
            }
            let begin = Instant::now();
            for (i, layer) in weights.layers.iter().enumerate().skip(first).rev() {
                stream_to(i);
                let visited = i - first;
                let (x, loras) = (&checkpoints[visited][..m * d], &mut loras[visited]);
                let slot = if is_whole { visited } else { 0 };
                let (kept, between) = (&mut kept[slot], &mut between[slot][..m * d]);
                if !is_whole {
                    between.copy_from_slice(x);
                    step.attention(i, layer, loras, between, kept)?;
                }
                step.layer_backward(i, layer, loras, x, between, kept, dx, i > first)?;
            }
            times.backward += begin.elapsed();
            Ok(loss)
        })
    }

    /// How long passes took since the trainer was made. The gradient of the logits counts as forward.
    pub fn times(&self) -> Times {
        self.times
    }

    /// The trained matrices: in order of layers, then projections, A before B.
    pub fn parameters(&mut self) -> impl Iterator<Item = Parameter<'_>> {
        self.loras.iter_mut().flat_map(Loras::iter_mut).flat_map(|lora| {
            let Lora { site, part, da, db } = lora;
            let a = Parameter { site: *site, factor: Factor::A, values: &mut part.a, gradient: da };
            let b = Parameter { site: *site, factor: Factor::B, values: &mut part.b, gradient: db };
            [a, b]
        })
    }

    /// Sets all gradients to zero.
    pub fn clear_gradients(&mut self) {
        self.parameters().for_each(|parameter| parameter.gradient.fill(0.0));
    }

    /// The adapter as it is now, called `name`.
    ///
    /// # Errors
    /// Where a parameter is not finite.
    pub fn adapter(&self, name: String) -> Result<Adapter, AdapterError> {
        let loras = self.loras.iter().flat_map(Loras::iter);
        Adapter::new(name, self.model, loras.map(|lora| (lora.site, lora.part.clone())))
    }

    /// What is trained, as it is now: in order of layers, then projections.
    pub fn parts(&self) -> impl Iterator<Item = (Site, &LowRank)> {
        self.loras.iter().flat_map(Loras::iter).map(|lora| (lora.site, &lora.part))
    }

    /// The model.
    pub fn model(&self) -> &'m Mistral {
        self.model
    }
}

/// What the sizes of buffers follow from: `sites` are the matrices with LoRA, with their ranks.
fn sizes(
    config: &MistralConfig,
    sites: &[(Site, usize)],
    options: &TrainOptions,
    n_threads: usize,
) -> Result<Sizes, TrainError> {
    let mut sizes = Sizes {
        rows: options.max_rows,
        n_visited: 0,
        rank: 0,
        widest_input: 0,
        most_outputs: 0,
        n_threads,
        has_dropout: options.dropout > 0.0,
        checkpointing: options.checkpointing,
        exact: options.exact,
    };
    for (site, rank) in sites {
        options::check(config, *site)?;
        if site.layer >= config.n_layers {
            return Err(TrainError::Unsupported {
                what: format!("'{site}'"),
                why: "the model has no such layer",
            });
        }
        let [n_rows, k] = options::shape(config, site.projection);
        sizes.most_outputs = sizes.most_outputs.max(n_rows);
        let rows = if site.projection == Projection::FfnDown { sizes.ffn_rows() } else { sizes.rows };
        sizes.widest_input = sizes.widest_input.max(rows.saturating_mul(k));
        sizes.n_visited = sizes.n_visited.max(config.n_layers - site.layer);
        sizes.rank = sizes.rank.max(*rank);
    }
    Ok(sizes)
}
