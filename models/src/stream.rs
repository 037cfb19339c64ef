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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::fd::AsRawFd;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config::MistralConfig;
    use crate::gguf::{GgufFile, GgufWriter, TensorType, Value};

    const N_FF: usize = 8192;

    /// A Mixtral of two layers, each with four experts of three megabytes, none of it in memory.
    fn write(path: &Path) {
        let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/mixtral_stacked.gguf");
        let oracle = GgufFile::open(oracle).unwrap();
        let mut writer = GgufWriter::new();
        for (key, value) in oracle.metadata().iter() {
            writer.metadata_mut().set(key, value.clone());
        }
        writer.metadata_mut().set("llama.feed_forward_length", Value::U32(N_FF as u32));
        let mut bytes = Vec::new();
        for tensor in oracle.tensors() {
            if tensor.name.contains("_exps") {
                let shape: Vec<usize> =
                    tensor.shape.iter().map(|&n| if n == 96 { N_FF } else { n }).collect();
                writer.add_tensor(&tensor.name, &shape, TensorType::F16).unwrap();
                bytes.push(vec![0; 2 * shape.iter().product::<usize>()]);
            } else {
                writer.add_tensor(&tensor.name, &tensor.shape, tensor.tensor_type).unwrap();
                bytes.push(oracle.bytes(tensor).to_vec());
            }
        }
        let bytes: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        let mut file = std::fs::File::create(path).unwrap();
        writer.write_all(&mut file, &bytes).unwrap();
        file.sync_all().unwrap();
        // SAFETY: the descriptor is open, and the call only drops clean pages from the page cache.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    }

    /// How much of it is in memory, from 0 to 1.
    fn resident(ranges: &FileRanges) -> f64 {
        let (resident, all) = ranges.resident_pages();
        resident as f64 / all as f64
    }

    /// Waits for the disk.
    fn comes(ranges: &FileRanges) -> bool {
        (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            resident(ranges) == 1.0
        })
    }

    #[test]
    fn experts_are_read_ahead_once_they_are_chosen_and_no_others() {
        /// What the system reads around what is asked for, and keeps around what is given back.
        const LITTLE: f64 = 0.25;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse.gguf");
        write(&path);
        let file = GgufFile::open(&path).unwrap();
        let config = MistralConfig::from_metadata(file.metadata()).unwrap();
        let weights = Weights::load(&file, &config).unwrap();
        // Too little for any layer to be kept.
        let stream = WeightStream::new(&weights, 0, 0, &MemoryBudget::unlimited());
        let experts: Vec<&FileRanges> = stream.steps[0].experts.iter().collect();
        // What was read around the header may still be on its way.
        let is_forgotten = || {
            stream.steps.iter().for_each(|step| step.all.give_back());
            std::thread::sleep(Duration::from_millis(5));
            experts.iter().all(|expert| resident(expert) < LITTLE)
        };
        if !(0..200).any(|_| is_forgotten()) {
            println!("left out: this file system keeps what is given back");
            return;
        }
        stream.begin();
        stream.enter(0);
        assert!(comes(stream.steps[0].always.as_ref().unwrap()));
        let others = |but: &[usize]| -> Vec<f64> {
            let others = experts.iter().enumerate().filter(|(i, _)| !but.contains(i));
            others.map(|(_, expert)| resident(expert)).collect()
        };
        assert!(others(&[]).iter().all(|&part| part < LITTLE), "before any is chosen: {:?}", others(&[]));
        stream.choose(0, |expert| expert == 1 || expert == 3);
        assert!(comes(experts[1]) && comes(experts[3]));
        assert!(others(&[1, 3]).iter().all(|&part| part < LITTLE), "{:?}", others(&[1, 3]));
        // Two steps on, none of it is kept.
        stream.enter(1);
        stream.enter(2);
        assert!(others(&[]).iter().all(|&part| part < LITTLE), "{:?}", others(&[]));
    }
}
