//! A model with adapters in its weights: `W + scale · B·A`, a few rows at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use bise_kernels::{KernelTable, dequantize_row};
use bise_models::gguf::{GgufFile, Metadata, TensorType};
use bise_models::{LowRank, Projection, Site};

use super::target::Target;
use crate::quantize::{FileType, Plan, QuantizeError, QuantizeOptions, Source, SourceTensor};

/// What is added to a matrix: each part with what its product is multiplied by.
type Delta = Vec<(f32, LowRank)>;

/// A model file with adapters in it. It is a [`Source`] to write files from.
pub struct Merged<'a> {
    file: &'a GgufFile,
    tensors: Vec<Tensor>,
    adapter_paths: Vec<PathBuf>,
    /// What the user should know, one line each.
    pub notes: Vec<String>,
}

/// A tensor of the merged model.
struct Tensor {
    /// As it is read from here.
    made: SourceTensor,
    /// As the file has it, where it may have another name.
    stored: SourceTensor,
    /// What is added to each of its matrices; nothing, most often.
    deltas: Vec<Delta>,
    /// The embedding: rows are those of A's columns, by B's columns.
    is_embedding: bool,
}

/// Adapters in the order in which they are added, each with the factor that is asked for it.
#[derive(Default)]
pub struct Merge {
    deltas: BTreeMap<String, BTreeMap<usize, Delta>>,
    adapter_paths: Vec<PathBuf>,
}

impl Merge {
    /// Adds an adapter that was read for the model's configuration from the files at `paths`.
    pub fn add(
        &mut self,
        parts: impl IntoIterator<Item = (Target, LowRank)>,
        factor: f32,
        paths: Vec<PathBuf>,
    ) {
        for (target, part) in parts {
            let (name, matrix) = match target {
                Target::Matrix(Site { expert: Some(expert), layer, projection }) => {
                    (format!("{}_exps.weight", Site { layer, projection, expert: None }), expert)
                }
                target => (format!("{target}.weight"), 0),
            };
            self.deltas.entry(name).or_default().entry(matrix).or_default().push((part.scale * factor, part));
        }
        self.adapter_paths.extend(paths);
    }

    /// The model in `file` with what was added.
    ///
    /// # Errors
    /// Where the file has no such matrix, or one of a type that cannot be read.
    pub fn into_model(mut self, file: &GgufFile) -> Result<Merged<'_>, QuantizeError> {
        let output = format!("{}.weight", Site { layer: 0, projection: Projection::Output, expert: None });
        let embedding = format!("{}.weight", Target::Embedding);
        let stored = Source::tensors(file);
        let has = |name: &str| stored.iter().any(|tensor| tensor.name == name);
        // The embedding serves as the output too, in many models: until the two get different weights.
        let is_tied = !has(&output);
        let is_untied =
            is_tied && (self.deltas.contains_key(&output) || self.deltas.contains_key(&embedding));
        let (mut tensors, mut notes) = (Vec::with_capacity(stored.len() + 1), Vec::new());
        for stored in stored {
            if is_untied && stored.name == embedding {
                let line = "token_embd.weight serves as the output too, and the adapter changes them differently: the new model has an output.weight of its own";
                notes.push(line.to_owned());
                let deltas = self.deltas.remove(&output).unwrap_or_default();
                tensors.push(Tensor::new(output.clone(), stored.clone(), deltas, false)?);
            }
            let deltas = self.deltas.remove(&stored.name).unwrap_or_default();
            let is_embedding = stored.name == embedding;
            tensors.push(Tensor::new(stored.name.clone(), stored, deltas, is_embedding)?);
        }
        if let Some(name) = self.deltas.into_keys().next() {
            let (found, expected) = ("no such tensor".into(), "it, since an adapter is for it".into());
            return Err(QuantizeError::Tensor { tensor: name, found, expected });
        }
        let n_coarse = tensors
            .iter()
            .filter(|tensor| tensor.is_merged() && tensor.stored.tensor_type.block_len() > 1)
            .count();
        if n_coarse > 0 {
            notes.push(format!(
                "{n_coarse} tensors are quantized already, and what is added to them is rounded to their type: merging into F16 and quantizing \
                 that loses less, and --lora beside the model nothing"
            ));
        }
        Ok(Merged { file, tensors, adapter_paths: self.adapter_paths, notes })
    }
}

impl Tensor {
    fn new(
        name: String,
        stored: SourceTensor,
        deltas: BTreeMap<usize, Delta>,
        is_embedding: bool,
    ) -> Result<Tensor, QuantizeError> {
        let mut made = SourceTensor { name, ..stored.clone() };
        if deltas.is_empty() {
            return Ok(Tensor { made, stored, deltas: Vec::new(), is_embedding });
        }
        if stored.tensor_type.format().is_none() {
            let (found, expected) =
                (format!("type {}", stored.tensor_type), "a type that can be read".into());
            return Err(QuantizeError::Tensor { tensor: stored.name, found, expected });
        }
        made.tensor_type = TensorType::F32;
        let mut by_matrix = vec![Delta::new(); stored.n_matrices()];
        let [n_rows, k] = if is_embedding {
            [stored.shape[0], stored.n_rows()]
        } else {
            [stored.rows_a_matrix(), stored.shape[0]]
        };
        for (matrix, delta) in deltas {
            let fits = |part: &LowRank| (part.a.len(), part.b.len()) == (part.rank * k, n_rows * part.rank);
            match by_matrix.get_mut(matrix) {
                Some(place) if delta.iter().all(|(_, part)| fits(part)) => *place = delta,
                _ => {
                    let (found, expected) =
                        (format!("shape {:?}", stored.shape), "that of the adapter for it".into());
                    return Err(QuantizeError::Tensor { tensor: stored.name, found, expected });
                }
            }
        }
        Ok(Tensor { made, stored, deltas: by_matrix, is_embedding })
    }

    fn is_merged(&self) -> bool {
        !self.deltas.is_empty()
    }
}

impl Merged<'_> {
    /// How many tensors have something added.
    pub fn n_merged(&self) -> usize {
        self.tensors.iter().filter(|tensor| tensor.is_merged()).count()
    }

    /// What each tensor becomes. Without a mix, each keeps the type that it has in the file.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn plan(
        &self,
        file_type: Option<FileType>,
        options: &QuantizeOptions,
    ) -> Result<Plan, QuantizeError> {
        let mut options = options.clone();
        options.file_type = file_type.unwrap_or(FileType::Copy);
        let mut plan = Plan::new(self, &options)?;
        if options.file_type == FileType::Copy {
            for planned in &mut plan.tensors {
                planned.tensor_type = self.tensor(&planned.source).stored.tensor_type;
            }
            if let Some(file_type) = self.file.metadata().get("general.file_type") {
                plan.metadata.set("general.file_type", file_type.clone());
            }
        }
        Ok(plan)
    }

    fn tensor(&self, made: &SourceTensor) -> &Tensor {
        let found = self.tensors.iter().find(|tensor| tensor.made.name == made.name);
        found.expect("the tensor is one of this source")
    }
}

impl Source for Merged<'_> {
    fn metadata(&self) -> &Metadata {
        self.file.metadata()
    }

    fn tensors(&self) -> Vec<SourceTensor> {
        self.tensors.iter().map(|tensor| tensor.made.clone()).collect()
    }

    fn n_parts(&self) -> usize {
        self.file.n_parts()
    }

    fn rows(&self, made: &SourceTensor, rows: Range<usize>) -> Result<Cow<'_, [u8]>, QuantizeError> {
        let tensor = self.tensor(made);
        let stored = Source::rows(self.file, &tensor.stored, rows.clone())?;
        if !tensor.is_merged() {
            return Ok(stored);
        }
        let (kernels, k) = (KernelTable::detect(), tensor.stored.shape[0]);
        let format = tensor.stored.tensor_type.format().expect("it was checked");
        let delta = &tensor.deltas[rows.start / tensor.stored.rows_a_matrix()];
        let first = rows.start % tensor.stored.rows_a_matrix();
        let row_bytes = tensor.stored.row_bytes();
        let mut out = Vec::with_capacity(rows.len() * k * 4);
        let (mut x, mut sum) = (vec![0.0; k], vec![0.0; k]);
        for (i, stored) in stored.chunks_exact(row_bytes).enumerate() {
            dequantize_row(format, stored, &mut x);
            for (scale, part) in delta {
                product(kernels, tensor.is_embedding, part, first + i, &mut sum);
                kernels.add_scaled(&mut x, &sum, *scale);
            }
            out.extend(x.iter().flat_map(|x| x.to_le_bytes()));
        }
        Ok(Cow::Owned(out))
    }

    fn ask_for(&self, made: &SourceTensor, rows: Range<usize>) {
        Source::ask_for(self.file, &self.tensor(made).stored, rows);
    }

    fn leave(&self, made: &SourceTensor, rows: Range<usize>) {
        Source::leave(self.file, &self.tensor(made).stored, rows);
    }

    fn check_unchanged(&self) -> Result<(), QuantizeError> {
        Source::check_unchanged(self.file)
    }

    fn paths(&self) -> Vec<PathBuf> {
        Source::paths(self.file).into_iter().chain(self.adapter_paths.iter().cloned()).collect()
    }
}

/// One row of B·A; of the embedding, whose rows are columns of that, one of its transpose.
fn product(kernels: &KernelTable, is_embedding: bool, part: &LowRank, row: usize, out: &mut [f32]) {
    let LowRank { rank, a, b, .. } = part;
    if is_embedding {
        let n_vocab = a.len() / rank;
        for (out, b) in out.iter_mut().zip(b.chunks_exact(*rank)) {
            *out = b.iter().enumerate().map(|(r, b)| b * a[r * n_vocab + row]).sum();
        }
        return;
    }
    out.fill(0.0);
    for (b, a) in b[row * rank..][..*rank].iter().zip(a.chunks_exact(out.len())) {
        kernels.add_scaled(out, a, *b);
    }
}
