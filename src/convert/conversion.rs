use std::path::{Path, PathBuf};

use bise_models::atomic_file::is_set_aside;
use bise_models::gguf::Metadata;

use super::checkpoint::{Checkpoint, Dtype};
use super::config::ModelConfig;
use super::error::ConvertError;
use super::general;
use super::keep::{Keep, Lossless};
use super::quantization::Quantization;
use super::tensors::{self, Tensor};
use super::tokenizer::set_tokenizer;
use crate::quantize::{FileType, Plan, QuantizeError, QuantizeOptions};
use crate::{Cancel, Threads};

/// How to convert a checkpoint; `ConvertOptions::default()` is what `bise convert` does without flags.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConvertOptions {
    /// The types of the new file.
    pub out_type: OutType,
    /// Keep layers that are quantized to integers as they are. Without it, [`OutType::Auto`] does so where that is possible.
    pub lossless: Option<Lossless>,
    /// Take Mistral's own files (`params.json`) where those of Hugging Face are there, too.
    pub mistral_format: bool,
    /// The model's name, in place of its folder's.
    pub model_name: Option<String>,
    /// Write the metadata and the vocabulary alone.
    pub vocab_only: bool,
    /// Exceptions from the mix, importance and the like. Its `file_type` is not looked at.
    pub quantize: QuantizeOptions,
    /// Replace a file that is there.
    pub force: bool,
}

impl Default for ConvertOptions {
    fn default() -> ConvertOptions {
        ConvertOptions {
            out_type: OutType::Auto,
            lossless: None,
            mistral_format: false,
            model_name: None,
            vocab_only: false,
            quantize: QuantizeOptions::new(FileType::F16),
            force: false,
        }
    }
}

impl ConvertOptions {
    /// `auto` keeps integers where it can, as it keeps BF16; types that are asked for are made.
    fn keep(&self) -> Keep {
        match (self.lossless, self.out_type) {
            (None, OutType::Auto) => Keep::WherePossible,
            (None, OutType::Mix(_)) => Keep::Nothing,
            (Some(Lossless::In(format)), _) => Keep::All(Some(format)),
            (Some(Lossless::Smallest), OutType::Auto) => Keep::All(None),
            (Some(Lossless::Smallest), OutType::Mix(mix)) => {
                let of_mix = Lossless::FORMATS.into_iter().find(|format| format.to_string() == mix.name());
                Keep::All(of_mix)
            }
        }
    }
}

/// The types of the new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutType {
    /// The 16-bit type of the weights: BF16 if the first matrix of 16 bits is that, else F16.
    Auto,
    /// This one.
    Mix(FileType),
}

impl OutType {
    /// `auto`, or the name of a [`FileType`], in any case.
    pub fn from_name(name: &str) -> Option<OutType> {
        match name.eq_ignore_ascii_case("auto") {
            true => Some(OutType::Auto),
            false => FileType::from_name(name).filter(|t| *t != FileType::Copy).map(OutType::Mix),
        }
    }
}

/// The tensors and keys of the new file. It is a [`Source`](crate::quantize::Source) to quantize from.
pub struct Conversion<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<Tensor<'a>>,
    /// What the user should know, one line each.
    pub notes: Vec<String>,
}

impl<'a> Conversion<'a> {
    /// Reads the configuration and the tokenizer, and finds all weights. Reads none of them.
    ///
    /// # Errors
    /// For an architecture or a tokenizer that cannot be converted, numbers that make no sense, and tensors that are missing, have another shape
    /// than the configuration says, or are unknown.
    pub fn new(checkpoint: &'a Checkpoint, options: &ConvertOptions) -> Result<Conversion<'a>, ConvertError> {
        let config = ModelConfig::of(checkpoint)?;
        let quantization = Quantization::of(checkpoint)?;
        if options.lossless.is_some() && quantization.integers.is_none() {
            return Err(checkpoint.config_error(
                "quantization_config",
                "no integers",
                "a checkpoint that AWQ, GPTQ or compressed-tensors has quantized, because it is to be kept without loss",
            ));
        }
        let keep = options.keep();
        let found = tensors::collect(checkpoint, &config, &quantization, keep)?;
        let n_weights = |tensor: &Tensor<'_>| tensor.shape.iter().map(|n| *n as u64).product::<u64>();
        let all = found.tensors.iter().map(n_weights).sum();
        let in_experts =
            found.tensors.iter().filter(|tensor| tensor.name.contains("_exps.")).map(n_weights).sum();
        let mut metadata = Metadata::new("new file");
        let name = options.model_name.as_deref();
        general::set_keys(&mut metadata, checkpoint, &config, name, (all, in_experts))?;
        config.set_keys(&mut metadata);
        config.check_keys(checkpoint, &metadata)?;
        let of_tokenizer =
            set_tokenizer(&checkpoint.folder, checkpoint.layout, config.n_vocab, &mut metadata)?;
        let mut notes = config.notes;
        notes.extend(found.notes);
        notes.extend(of_tokenizer);
        Ok(Conversion { checkpoint, metadata, tensors: found.tensors, notes })
    }

    /// What `general.file_type` says: the type of integers that are kept, where that is most of the weights; else [`mix`](Conversion::mix).
    pub fn file_type(&self, out_type: OutType) -> FileType {
        self.kept_type().unwrap_or_else(|| self.mix(out_type))
    }

    fn kept_type(&self) -> Option<FileType> {
        let n_weights = |tensor: &Tensor<'_>| tensor.shape.iter().map(|n| *n as u64).product::<u64>();
        let all: u64 = self.tensors.iter().map(n_weights).sum();
        let of_type = |file_type: &FileType| -> u64 {
            let kept = self.tensors.iter().filter(|tensor| tensor.keeps_type());
            kept.filter(|tensor| Some(tensor.tensor_type) == file_type.base()).map(n_weights).sum()
        };
        [FileType::Q4_0, FileType::Q4_1, FileType::Q5_0, FileType::Q8_0]
            .into_iter()
            .find(|file_type| 2 * of_type(file_type) > all)
    }

    /// The types that weights get which are not kept as integers.
    pub fn mix(&self, out_type: OutType) -> FileType {
        if let OutType::Mix(file_type) = out_type {
            return file_type;
        }
        // Scales of layers that are quantized have the type of the kernels that were to run them.
        let is_weight = |name: &str| !name.ends_with(".scales") && !name.ends_with(".qzeros");
        let all = self.checkpoint.tensors();
        let matrices = all.filter(|(name, tensor)| tensor.shape.len() >= 2 && is_weight(name));
        let first =
            matrices.map(|(_, tensor)| tensor.dtype).find(|dtype| matches!(dtype, Dtype::BF16 | Dtype::F16));
        if first == Some(Dtype::BF16) { FileType::BF16 } else { FileType::F16 }
    }

    /// What each tensor becomes.
    ///
    /// # Errors
    /// Where a tensor cannot become what it should.
    pub fn plan(&self, options: &ConvertOptions) -> Result<Plan, ConvertError> {
        self.plan_as(self.mix(options.out_type), options)
    }

    fn plan_as(&self, file_type: FileType, options: &ConvertOptions) -> Result<Plan, ConvertError> {
        let mut quantize = options.quantize.clone();
        quantize.file_type = file_type;
        let mut plan = Plan::new(self, &quantize)?;
        if let Some(id) = self.kept_type().and_then(FileType::id) {
            plan.metadata.set("general.file_type", id);
        }
        if options.vocab_only {
            plan.tensors.clear();
        }
        Ok(plan)
    }

    /// Adds the file and the tensor of the checkpoint to the error of a weight that is not finite.
    fn with_place(&self, error: QuantizeError) -> ConvertError {
        let QuantizeError::Tensor { tensor, .. } = &error else { return error.into() };
        let named = self.tensors.iter().find(|ours| ours.name == *tensor).and_then(Tensor::not_finite);
        let stored = named.and_then(|name| Some((name, self.checkpoint.tensor(name)?)));
        match stored {
            None => error.into(),
            Some((name, stored)) => ConvertError::Weight {
                path: self.checkpoint.path_of(stored).to_owned(),
                name: name.to_owned(),
                error: Box::new(error),
            },
        }
    }

    /// Writes the file at `path`; see [`convert`].
    ///
    /// # Errors
    /// As [`convert`], once the checkpoint has been read.
    pub fn write(
        &self,
        path: &Path,
        options: &ConvertOptions,
        threads: &Threads,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Converted, ConvertError> {
        self.write_as(&|_| path.to_owned(), options, threads, cancel, progress)
    }

    /// Writes the file where `path_of` says that one of its type is to be; see [`convert`].
    ///
    /// # Errors
    /// As [`convert`], once the checkpoint has been read.
    pub fn write_as(
        &self,
        path_of: &dyn Fn(FileType) -> PathBuf,
        options: &ConvertOptions,
        threads: &Threads,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Converted, ConvertError> {
        let mut notes = self.notes.clone();
        let mut plan = self.plan(options)?;
        let mut file_type = self.file_type(options.out_type);
        let mut path = path_of(file_type);
        let mut write = |plan: &Plan, path: &Path| {
            let n_bytes = plan.source_bytes();
            plan.write(self, path, threads, cancel, options.force, &mut |done| progress(done, n_bytes))
        };
        match write(&plan, &path) {
            Err(QuantizeError::TooLarge { tensor, found, .. })
                if options.out_type == OutType::Auto && self.mix(OutType::Auto) == FileType::F16 =>
            {
                if plan.paths(&path).iter().any(|path| !is_set_aside(path)) {
                    return Err(ConvertError::Unsupported {
                        path,
                        what: format!("F16 for {found} of tensor '{tensor}'"),
                        reason: "it is too large, and a part of the file is written already, which cannot be taken back: use --outtype bf16"
                            .into(),
                    });
                }
                notes.push(format!("tensor '{tensor}': {found} is too large for F16: BF16 is written"));
                file_type = self.kept_type().unwrap_or(FileType::BF16);
                plan = self.plan_as(FileType::BF16, options)?;
                path = path_of(file_type);
                write(&plan, &path).map_err(|error| self.with_place(error))?;
            }
            written => written.map_err(|error| self.with_place(error))?,
        }
        notes.extend(plan.notes.iter().cloned());
        let paths = plan.paths(&path);
        Ok(Converted { file_type, plan, notes, paths })
    }
}

/// What [`Conversion::write`] wrote.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Converted {
    /// The mix.
    pub file_type: FileType,
    /// What became of each tensor.
    pub plan: Plan,
    /// What the user should know, one line each.
    pub notes: Vec<String>,
    /// The file, or its parts.
    pub paths: Vec<PathBuf>,
}

/// Writes the checkpoint in `folder` as a GGUF file at `path`. `progress` is told the bytes that are done, and of how many.
///
/// The bytes do not depend on the number of threads. The file appears under its name when it is whole and on the disk.
///
/// With [`OutType::Auto`], weights that are too large for F16 make it a BF16 file, unless it goes to a pipe.
///
/// # Errors
/// Where the checkpoint is damaged or of a kind that cannot be converted, a weight is not finite or too large for its type, a file is in the way
/// (and `force` is not given), the disk is full, or it was cancelled. Nothing is left behind then.
pub fn convert(
    folder: &Path,
    path: &Path,
    options: &ConvertOptions,
    threads: &Threads,
    cancel: &Cancel,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Converted, ConvertError> {
    let checkpoint = Checkpoint::open(folder, options.mistral_format)?;
    Conversion::new(&checkpoint, options)?.write(path, options, threads, cancel, progress)
}
