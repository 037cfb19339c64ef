//! Running a model in less memory than its weights take: layers are prefetched before the pass needs them and released after it.
//!
//! As many layers as there is room for are kept from one pass to the next, since reading in a circle through a cache that is too small
//! finds nothing in it. Those that are not kept lie evenly between those that are, so that the disk always has something to read.

use std::sync::{Mutex, PoisonError};

use crate::budget::MemoryBudget;
use crate::gguf::{FileRanges, TensorBytes};
use crate::weights::{FeedForwards, Layer, Matrix, Norm, Weights};

/// Most bytes of the embedding that are in memory at a time: two pages for each token of a pass.
const EMBEDDING_BYTES: usize = 16 << 20;

/// Streams the weights of a model through memory. It changes when they are read, never what is computed.
pub struct WeightStream {
    /// The layers in order, then the output.
    steps: Vec<Step>,
    /// Looked up token by token; nothing where it is the output too.
    embedding: FileRanges,
    /// The steps in the order in which they are no longer kept as room gets short.
    order: Vec<usize>,
    /// Bytes for weights and for what `budget` counts, together.
    total: usize,
    /// What `budget` will count, as far as that is known from the start.
    planned: usize,
    budget: MemoryBudget,
    state: Mutex<State>,
}

/// What a layer reads.
struct Step {
    all: FileRanges,
    /// What it reads in any case; of a sparse layer, its experts are asked for once they are chosen.
    always: Option<FileRanges>,
    experts: Vec<FileRanges>,
}

struct State {
    steps: Vec<StepState>,
    /// Bytes for steps that are not kept.
    window: usize,
}

#[derive(Clone, Copy, Default)]
struct StepState {
    is_kept: bool,
    /// Asked for and not given back.
    is_held: bool,
    /// Used now or next.
    is_near: bool,
}

impl WeightStream {
    /// Streams `weights` so that they and what `budget` counts stay below `total` bytes, as far as [`WeightStream::least_bytes`] allow.
    /// `planned` bytes of these are left to the budget from the start.
    pub fn new(weights: &Weights, total: usize, planned: usize, budget: &MemoryBudget) -> WeightStream {
        let steps = steps(weights);
        let embedding = embedding(weights);
        embedding.read_sparsely();
        let mut order: Vec<usize> = (0..steps.len()).collect();
        order.sort_by_key(|i| i.reverse_bits());
        let state = State { steps: vec![StepState::default(); steps.len()], window: 0 };
        WeightStream {
            steps,
            embedding,
            order,
            total,
            planned,
            budget: budget.clone(),
            state: Mutex::new(state),
        }
    }

    /// The least that is in memory at a time: what is computed with and what is read for the next step.
    pub fn least_bytes(weights: &Weights) -> usize {
        let steps = steps(weights);
        window_bytes(&steps) + embedding_bytes(&embedding(weights))
    }

    /// Whether there is anything to stream: weights in memory of their own have no file behind them.
    pub fn is_possible(weights: &Weights) -> bool {
        // Only Unix has a way to give them back.
        cfg!(unix) && steps(weights).iter().any(|step| step.all.n_bytes() > 0)
    }

    /// Steps that are kept from one pass to the next, of how many.
    pub fn kept(&self) -> (usize, usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.divide(&mut state);
        (state.steps.iter().filter(|step| step.is_kept).count(), self.steps.len())
    }

    /// A pass begins, and has all memory it needs beside the weights.
    pub(crate) fn begin(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.divide(&mut state);
    }

    /// Layer number `i` begins; the output is the one after the last.
    pub(crate) fn enter(&self, i: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.window == 0 && state.steps[i].is_held {
            return;
        }
        if i == 0 && state.window > 0 {
            self.embedding.give_back();
        }
        self.mark_near(&mut state, i);
        for (step, state) in self.steps.iter().zip(&mut state.steps) {
            if state.is_held && !state.is_kept && !state.is_near {
                step.all.give_back();
                state.is_held = false;
            }
        }
        // In the order in which they are needed.
        for j in (i..self.steps.len()).chain(0..i) {
            let (step, state) = (&self.steps[j], &mut state.steps[j]);
            if state.is_near && !state.is_held {
                step.always.as_ref().unwrap_or(&step.all).ask_for();
                state.is_held = true;
            }
        }
    }

    /// Experts of layer `i` were chosen.
    pub(crate) fn choose(&self, i: usize, mut is_chosen: impl FnMut(usize) -> bool) {
        let is_kept = self.state.lock().unwrap_or_else(PoisonError::into_inner).steps[i].is_kept;
        if !is_kept {
            let experts = self.steps[i].experts.iter().enumerate();
            experts.filter(|(e, _)| is_chosen(*e)).for_each(|(_, expert)| expert.ask_for());
        }
    }

    /// Decides which steps are kept.
    fn divide(&self, state: &mut State) {
        let room = self.total.saturating_sub(self.budget.used().max(self.planned));
        let mut kept: usize = self.steps.iter().map(|step| step.all.n_bytes()).sum();
        state.steps.iter_mut().for_each(|step| step.is_kept = true);
        state.window = 0;
        if kept + self.embedding.n_bytes() <= room {
            return;
        }
        let room = room.saturating_sub(embedding_bytes(&self.embedding));
        let least = window_bytes(&self.steps);
        for i in &self.order {
            if kept + least <= room {
                break;
            }
            kept -= self.steps[*i].all.n_bytes();
            state.steps[*i].is_kept = false;
        }
        state.window = (room.saturating_sub(kept)).max(least);
    }

    /// Marks step `i` and as many of those that have to be read after it as the window holds.
    fn mark_near(&self, state: &mut State, i: usize) {
        state.steps.iter_mut().for_each(|step| step.is_near = false);
        let mut left = state.window.max(window_bytes(&self.steps));
        for j in (i..self.steps.len()).chain(0..i) {
            let step = &mut state.steps[j];
            if step.is_kept && step.is_held {
                continue;
            }
            match left.checked_sub(self.steps[j].all.n_bytes()) {
                Some(rest) => left = rest,
                None => break,
            }
            step.is_near = true;
        }
    }
}

/// Room for the largest step and for the one that is read meanwhile.
fn window_bytes(steps: &[Step]) -> usize {
    2 * steps.iter().map(|step| step.all.n_bytes()).max().unwrap_or(0)
}

fn embedding_bytes(embedding: &FileRanges) -> usize {
    embedding.n_bytes().min(EMBEDDING_BYTES)
}

fn embedding(weights: &Weights) -> FileRanges {
    let is_output = std::ptr::eq(weights.token_embd.view().bytes(), weights.output.view().bytes());
    FileRanges::of((!is_output).then(|| weights.token_embd.bytes().clone()))
}

fn steps(weights: &Weights) -> Vec<Step> {
    let output = [Some(weights.output.bytes().clone()), mapped(&weights.output_norm)];
    let output =
        Step { all: FileRanges::of(output.into_iter().flatten()), always: None, experts: Vec::new() };
    weights.layers.iter().map(step).chain([output]).collect()
}

fn step(layer: &Layer) -> Step {
    let bytes = |matrix: &Matrix| matrix.bytes().clone();
    let attention = [&layer.attn_q, &layer.attn_k, &layer.attn_v, &layer.attn_output].map(bytes);
    let norms = [mapped(&layer.attn_norm), mapped(&layer.ffn_norm)].into_iter().flatten();
    let always = attention.into_iter().chain(norms);
    match &layer.ffn {
        FeedForwards::Dense(ffn) => {
            let ffn = [&ffn.gate, &ffn.up, &ffn.down].map(bytes);
            Step { all: FileRanges::of(always.chain(ffn)), always: None, experts: Vec::new() }
        }
        FeedForwards::Experts { router, experts } => {
            let always: Vec<TensorBytes> = always.chain([bytes(router)]).collect();
            let experts: Vec<[TensorBytes; 3]> =
                experts.iter().map(|expert| [&expert.gate, &expert.up, &expert.down].map(bytes)).collect();
            Step {
                all: FileRanges::of(always.iter().chain(experts.iter().flatten()).cloned()),
                always: Some(FileRanges::of(always)),
                experts: experts.into_iter().map(FileRanges::of).collect(),
            }
        }
    }
}

fn mapped(norm: &Norm) -> Option<TensorBytes> {
    match norm {
        Norm::Mapped(bytes) => Some(bytes.clone()),
        Norm::Widened(_) => None,
    }
}
