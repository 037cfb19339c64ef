//! The run: layer by layer.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bise_kernels::kv_page::{CacheType, PageLayout};
use bise_kernels::linalg::{Factor, FactorizeError, Gram, Workspace};
use bise_kernels::quantize::FeedbackScratch;
use bise_kernels::{KernelTable, dequantize_row};
use bise_models::gguf::{FileRanges, GgufFile};
use bise_models::{KvCache, Mistral, PagePool, PassContext};
use twox_hash::XxHash3_128;

use super::collector::Collector;
use super::folder::Folder;
use super::progress::CalibrateProgress;
use super::source::Calibrated;
use super::steps::{Input, Step, Target, steps};
use crate::quantize::error::QuantizeError;
use crate::quantize::mix::layer;
use crate::quantize::plan::Plan;
use crate::quantize::slabs::{FirstError, not_possible};
use crate::quantize::source::Source;
use crate::{Cancel, ForwardError, MistralConfig, Projection, Rows, Threads};

/// How a model is calibrated.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CalibrateOptions {
    /// Tokens that are read from an empty context.
    pub n_ctx: usize,
    /// What is added to the diagonal of `XᵀX`, as a part of its mean. More trusts the text less.
    pub damping: f64,
}

impl Default for CalibrateOptions {
    fn default() -> Self {
        CalibrateOptions { n_ctx: 512, damping: 0.01 }
    }
}

/// The fewest tokens that a model is calibrated with.
pub(super) const MIN_TOKENS: usize = 2048;
/// The fewest inputs of an expert for error feedback to be of use.
const MIN_INPUTS: u64 = 128;
/// How often more damping is tried, ten times as much each time.
const MORE_DAMPING: usize = 3;

/// A model that is to be calibrated.
pub struct Calibration<'a, 'p> {
    pub(super) file: &'a GgufFile,
    pub(super) plan: &'p Plan,
    pub(super) options: CalibrateOptions,
    pub(super) threads: Threads,
    pub(super) kernels: &'static KernelTable,
    pub(super) config: MistralConfig,
    pub(super) model: Mistral,
    /// Whole chunks of `n_ctx`.
    pub(super) tokens: Vec<u32>,
    pub(super) steps: Vec<Step>,
}

impl<'a, 'p> Calibration<'a, 'p> {
    /// Prepares for quantizing `file` according to `plan`. `tokens` are read in chunks of `n_ctx`, of which each begins with `bos` in place
    /// of its first token, where there is one; what is no whole chunk at the end is left out.
    ///
    /// # Errors
    /// Where there are too few tokens, or the file holds no model that can run.
    pub fn new(
        file: &'a GgufFile,
        plan: &'p Plan,
        tokens: &[u32],
        bos: Option<u32>,
        options: CalibrateOptions,
        threads: &Threads,
    ) -> Result<Calibration<'a, 'p>, QuantizeError> {
        let config = MistralConfig::from_metadata(file.metadata())?;
        let layers: BTreeSet<usize> =
            plan.tensors.iter().filter_map(|tensor| layer(&tensor.source.name)).collect();
        let steps = steps(plan, &Vec::from_iter(layers), config.n_layers);
        if steps.iter().all(|step| step.passes.iter().all(Vec::is_empty)) {
            return Err(QuantizeError::NothingToCalibrate);
        }
        let n_ctx = options.n_ctx.max(1);
        let expected = MIN_TOKENS.next_multiple_of(n_ctx);
        if tokens.len() < expected {
            return Err(QuantizeError::TextTooShort { found: tokens.len(), expected, n_ctx });
        }
        let mut tokens = tokens[..tokens.len() / n_ctx * n_ctx].to_vec();
        if let Some(bos) = bos {
            tokens.chunks_mut(n_ctx).for_each(|chunk| chunk[0] = bos);
        }
        let kernels = KernelTable::detect();
        let model = Mistral::load(file, config.clone(), kernels)?;
        Ok(Calibration {
            file,
            plan,
            options,
            threads: threads.clone(),
            kernels,
            config,
            model,
            tokens,
            steps,
        })
    }

    /// Tokens that are read.
    pub fn n_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Layers that are calibrated, the last matrix counted as one.
    pub fn n_layers(&self) -> usize {
        self.steps.len()
    }

    /// Calibrates, with what is done so far in the folder `path`; `progress` is called as it goes on, and when a layer
    /// begins.
    ///
    /// The bytes do not depend on the number of threads, nor on whether it was interrupted.
    ///
    /// # Errors
    /// Where the folder is of another run, in use or damaged, inputs are not finite, there is no memory or no room on the disk, or it was
    /// cancelled. What is done stays in the folder.
    pub fn run(
        &self,
        path: &Path,
        cancel: &Cancel,
        progress: &mut dyn FnMut(CalibrateProgress),
    ) -> Result<Calibrated<'a>, QuantizeError> {
        self.check_memory()?;
        let mut folder = self.folder(path)?;
        folder.take()?;
        let mut x = zeroed(self.tokens.len() * self.config.n_embd)?;
        let first = self.n_done(&folder)?;
        for target in self.targets(first) {
            if cancel.is_cancelled() {
                return Err(QuantizeError::Cancelled);
            }
            let (tensor, len) = self.matrix(target);
            folder.check_bytes(tensor, target.matrix, len)?;
        }
        let notes = match first {
            0 => {
                self.model.embed_tokens(&self.tokens, &mut x);
                Vec::new()
            }
            _ => folder.read_hidden(&mut x)?,
        };
        self.leave_file();
        let before = self.steps[..first].iter().map(|step| self.operations_of_step(step)).sum();
        let (done, all, n_layers) = (before, self.operations(), self.steps.len());
        let mut run = Run { folder, cancel, progress, notes, layers: first, n_layers, done, all };
        let mut cx = PassContext::new(Arc::clone(self.threads.team()));
        for (i, step) in self.steps.iter().enumerate().skip(first) {
            run.layers = i;
            run.advance(0.0);
            for pass in 0..step.passes.len() {
                self.pass(step, pass, &mut x, &mut cx, &mut run)?;
            }
            for tensor in self.plan.tensors.iter().filter(|t| layer(&t.source.name) == Some(step.layer)) {
                let (source, n) = (&tensor.source, tensor.source.rows_a_matrix());
                (0..source.n_matrices()).for_each(|i| self.file.leave(source, i * n..(i + 1) * n));
            }
            if !x.iter().all(|x| x.is_finite()) {
                return Err(not_finite(&format!("blk.{}", step.layer)));
            }
            run.folder.write_hidden(i + 1, &run.notes, &x)?;
        }
        Source::check_unchanged(self.file)?;
        let tensors = self.targets(self.steps.len()).map(|t| self.plan.tensors[t.tensor].source.name.clone());
        Ok(Calibrated { file: self.file, folder: run.folder, tensors: tensors.collect(), notes: run.notes })
    }

    /// Leaves all of the file to the page cache. What little is read of each layer beforehand is mapped in pieces of up to 2 MB.
    pub(super) fn leave_file(&self) {
        FileRanges::of(self.file.tensors().map(|tensor| self.file.bytes(tensor))).leave();
    }

    /// The matrices of the first `n` steps.
    fn targets(&self, n: usize) -> impl Iterator<Item = Target> {
        let inputs = self.steps.iter().take(n).flat_map(|step| step.passes.iter().flatten());
        inputs.flat_map(|input| input.targets.iter().copied())
    }

    /// The steps that are done.
    pub(super) fn n_done(&self, folder: &Folder) -> Result<usize, QuantizeError> {
        let n = folder.n_steps()?.unwrap_or(0);
        if n > self.steps.len() {
            return Err(folder.too_many_steps(n, self.steps.len()));
        }
        for target in self.targets(n) {
            let (tensor, len) = self.matrix(target);
            folder.check_size(tensor, target.matrix, len)?;
        }
        Ok(n)
    }

    /// The folder at `path`.
    pub(super) fn folder(&self, path: &Path) -> Result<Folder, QuantizeError> {
        let matrices = self.targets(self.steps.len()).map(|target| (self.matrix(target).0, target.matrix));
        Folder::open(path, self.fingerprint(), matrices)
    }

    /// The name of a tensor, and the bytes of one of its matrices.
    fn matrix(&self, target: Target) -> (&str, usize) {
        let tensor = &self.plan.tensors[target.tensor];
        (&tensor.source.name, tensor.n_bytes() / tensor.source.n_matrices())
    }

    /// What tells this run from others whose folder must not be mixed with its own.
    fn fingerprint(&self) -> u128 {
        let mut hash = XxHash3_128::new();
        hash.write(&crate::session_file::whole_fingerprint(self.file).to_le_bytes());
        hash.write(bytemuck::cast_slice(&self.tokens));
        hash.write(&(self.options.n_ctx as u64).to_le_bytes());
        hash.write(&self.options.damping.to_le_bytes());
        for tensor in &self.plan.tensors {
            hash.write(tensor.source.name.as_bytes());
            hash.write(tensor.tensor_type.name().as_bytes());
        }
        hash.finish_128()
    }

    /// Runs a layer, and quantizes the matrices whose inputs pass `pass` is about. The last pass leaves the hidden states behind the layer
    /// in `x`.
    fn pass(
        &self,
        step: &Step,
        pass: usize,
        x: &mut [f32],
        cx: &mut PassContext,
        run: &mut Run<'_>,
    ) -> Result<(), QuantizeError> {
        let inputs = &step.passes[pass];
        let is_last = pass + 1 == step.passes.len();
        let new = Collector::try_new(&self.threads, self.kernels, inputs);
        let mut collector = Arc::new(new.ok_or_else(|| out_of_memory(inputs))?);
        let of_chunk = self.options.n_ctx as f64 * self.operations_of_token(step.layer, inputs);
        let cancel = run.cancel;
        self.read(step.layer, x, is_last, &collector, cx, cancel, &mut || run.advance(of_chunk))?;
        let collector = Arc::get_mut(&mut collector).expect("the pass is over");
        for input in inputs {
            let gram = collector.take(input);
            self.quantize(input, gram, run)?;
            run.advance(self.operations_of_input(input));
        }
        Ok(())
    }

    /// Has `collector` see the inputs of a layer, or of the last matrix. `advance` is called after each context.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn read(
        &self,
        layer: usize,
        x: &mut [f32],
        keep: bool,
        collector: &Arc<Collector>,
        cx: &mut PassContext,
        cancel: &Cancel,
        advance: &mut dyn FnMut(),
    ) -> Result<(), QuantizeError> {
        let (c, chunk_len) = (&self.config, self.options.n_ctx * self.config.n_embd);
        let mut copy = zeroed(chunk_len)?;
        if layer == c.n_layers {
            for x in x.chunks(chunk_len) {
                if !self.model.final_hidden(x, &mut copy) {
                    return Err(not_finite("output.weight"));
                }
                let add = || collector.add(Projection::Output, None, Rows::new(&copy, c.n_embd));
                self.threads.team().together(add);
                advance();
            }
            return Ok(());
        }
        let layout = PageLayout::new(c.n_kv_heads, c.head_dim, CacheType::F16, CacheType::F16);
        let pool = PagePool::new(layout, c.n_layers, usize::MAX);
        let mut cache = KvCache::new(&pool, self.options.n_ctx, c.sliding_window);
        cx.set_hook(Some(collector.clone()));
        let chunks = x.chunks_mut(chunk_len).try_for_each(|x| {
            copy.copy_from_slice(x);
            self.model.forward_layer(cx, layer, &mut cache, &mut copy, cancel.flag())?;
            if keep {
                x.copy_from_slice(&copy);
            }
            advance();
            Ok(())
        });
        cx.set_hook(None);
        chunks.map_err(|error: ForwardError| match error {
            ForwardError::Cancelled => QuantizeError::Cancelled,
            error => QuantizeError::Forward(error),
        })
    }

    /// Quantizes the matrices whose inputs are summed in `gram`.
    fn quantize(&self, input: &Input, gram: Gram, run: &mut Run<'_>) -> Result<(), QuantizeError> {
        let first = &self.plan.tensors[input.targets[0].tensor].source.name;
        let name = match input.expert {
            Some(expert) => format!("{first}, expert {expert}"),
            None => first.clone(),
        };
        let diagonal = gram.diagonal();
        if !diagonal.iter().all(|x| x.is_finite()) {
            return Err(not_finite(&name));
        }
        let (n_rows, factor) = (gram.n_rows(), self.factorize(gram, &name, run)?);
        if factor.is_none() && n_rows < MIN_INPUTS {
            run.notes.push(format!(
                "tensor '{name}': {n_rows} tokens visited it, expected at least {MIN_INPUTS}: quantized without error feedback"
            ));
        }
        for target in &input.targets {
            self.quantize_matrix(*target, factor.as_ref(), n_rows, &diagonal, run)?;
        }
        Ok(())
    }

    /// The factor, with more damping where it needs that; `None` where there is none, or too few inputs for it.
    fn factorize(
        &self,
        mut gram: Gram,
        name: &str,
        run: &mut Run<'_>,
    ) -> Result<Option<Factor>, QuantizeError> {
        if gram.n_rows() < MIN_INPUTS {
            return Ok(None);
        }
        let (team, workspace) = (self.threads.team(), Workspace::new(self.threads.team()));
        let mut damping = self.options.damping;
        for _ in 0..=MORE_DAMPING {
            match gram.factorize(team, self.kernels, &workspace, damping, run.cancel.flag()) {
                Ok(factor) => return Ok(Some(factor)),
                Err((FactorizeError::Cancelled, _)) => return Err(QuantizeError::Cancelled),
                Err((error, same)) => {
                    gram = same;
                    run.notes.push(format!(
                        "tensor '{name}': its inputs depend on each other ({error}): more damping than {damping}"
                    ));
                    damping *= 10.0;
                }
            }
        }
        run.notes.push(format!("tensor '{name}': quantized without error feedback"));
        Ok(None)
    }

    fn quantize_matrix(
        &self,
        target: Target,
        factor: Option<&Factor>,
        n_rows: u64,
        diagonal: &[f32],
        run: &Run<'_>,
    ) -> Result<(), QuantizeError> {
        let tensor = &self.plan.tensors[target.tensor];
        let (from, k) = (&tensor.source, tensor.source.shape[0]);
        let (n, to) = (from.rows_a_matrix(), tensor.tensor_type.format().expect("checked by the plan"));
        let source_format = from.tensor_type.format().expect("checked by the plan");
        let row_bytes = to.row_bytes(k).expect("rows are whole blocks");
        let mut out = vec![0; n * row_bytes];
        let rows_a_task = rows_a_task(n, k, self.threads.n());
        let scratch: Mutex<Vec<FeedbackScratch>> = Mutex::default();
        let failed = FirstError::default();
        let (importance, cancel) = ((n_rows > 0).then_some(diagonal), run.cancel);
        self.threads.team().together(|| {
            self.threads.team().for_each_chunk(&mut out, rows_a_task * row_bytes, |i, out| {
                let first = target.matrix * n + i * rows_a_task;
                let mut make = || {
                    if cancel.is_cancelled() {
                        return Err(QuantizeError::Cancelled);
                    }
                    let n = out.len() / row_bytes;
                    let mut x = vec![0.0; n * k];
                    dequantize_row(source_format, &self.file.rows(from, first..first + n)?, &mut x);
                    let made = match factor {
                        Some(factor) => {
                            let lock = || scratch.lock().unwrap_or_else(PoisonError::into_inner);
                            let mut buffers = lock().pop().unwrap_or_default();
                            let made = self.kernels.quantize_with_feedback(to, factor, &x, out, &mut buffers);
                            lock().push(buffers);
                            made
                        }
                        None => self.kernels.quantize_weights(to, k, &x, importance, out),
                    };
                    made.map_err(|error| not_possible(tensor, first * k, error))
                };
                failed.note(first, make());
            });
        });
        failed.into_result()?;
        run.folder.write_matrix(&from.name, target.matrix, &out)
    }
}

/// A run under way.
struct Run<'r> {
    folder: Folder,
    cancel: &'r Cancel,
    progress: &'r mut dyn FnMut(CalibrateProgress),
    notes: Vec<String>,
    layers: usize,
    n_layers: usize,
    /// Operations that are done, and all of them.
    done: f64,
    all: f64,
}

impl Run<'_> {
    fn advance(&mut self, operations: f64) {
        self.done += operations;
        let part = (self.done / self.all.max(1.0)).min(1.0);
        (self.progress)(CalibrateProgress { layers: self.layers, n_layers: self.n_layers, part });
    }
}

/// Rows that one thread quantizes at a time: many, because the factor is read once for all of them, and few enough for the caches.
pub(super) fn rows_a_task(n: usize, k: usize, n_threads: usize) -> usize {
    /// Weights of a task.
    const WEIGHTS: usize = 2 << 20;
    let fair = n.div_ceil(n_threads).next_multiple_of(32);
    (WEIGHTS / k / 32 * 32).clamp(32, 256).min(fair)
}

fn zeroed(n: usize) -> Result<Vec<f32>, QuantizeError> {
    bytemuck::allocation::try_zeroed_vec(n)
        .map_err(|()| QuantizeError::NoMemory { bytes: 4 * n as u64, what: "hidden states".into() })
}

pub(super) fn out_of_memory(inputs: &[Input]) -> QuantizeError {
    let bytes = inputs.iter().map(Input::bytes).sum();
    QuantizeError::NoMemory { bytes, what: "the sums of a layer's inputs".into() }
}

fn not_finite(tensor: &str) -> QuantizeError {
    QuantizeError::Tensor {
        tensor: tensor.to_owned(),
        found: "inputs that are infinite or not a number".into(),
        expected: "finite ones: the model cannot read this text".into(),
    }
}
