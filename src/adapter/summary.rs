//! What a file of an adapter holds, for people: nothing is known of its model.

use std::path::{Path, PathBuf};

use bise_models::GgufAdapterTensors;
use bise_models::gguf::GgufFile;
use bise_models::printable::printable;

use super::error::AdapterFileError;
use super::load::folder_of;

/// An adapter as its file describes it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AdapterSummary {
    /// `peft` or `gguf`.
    pub format: &'static str,
    /// The base model's architecture, where the file says it.
    pub architecture: Option<String>,
    /// What it is called.
    pub name: Option<String>,
    /// The model it was trained for.
    pub base_model: Option<String>,
    /// The rank of modules that no pattern names, where the file says it.
    pub rank: Option<usize>,
    /// The alpha of modules that no pattern names.
    pub alpha: f64,
    /// Whether alpha is divided by the root of the rank.
    pub use_rslora: bool,
    /// One for each pair of tensors.
    pub parts: Vec<PartSummary>,
    /// Its files.
    pub paths: Vec<PathBuf>,
    /// What the user should know, one line each.
    pub notes: Vec<String>,
}

/// The adapter of a matrix.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PartSummary {
    /// The module in PEFT's names, or the base model's tensor in GGUF's.
    pub name: String,
    /// Rows of A.
    pub rank: usize,
    /// What the product is multiplied by.
    pub scale: f32,
    /// Rows of B.
    pub n_rows: usize,
    /// Columns of A.
    pub k: usize,
    /// Numbers of both.
    pub n_parameters: u64,
    /// Bytes of both.
    pub n_bytes: u64,
    /// The types of A and B.
    pub types: [&'static str; 2],
}

impl AdapterSummary {
    /// Of the adapter at `path`, a GGUF file or a folder of PEFT. The numbers are not read.
    ///
    /// # Errors
    /// For files that are missing or damaged, and adapters of a kind that is not supported.
    pub fn of(path: &Path) -> Result<AdapterSummary, AdapterFileError> {
        match folder_of(path)? {
            Some(folder) => AdapterSummary::of_folder(folder),
            None => of_gguf(&GgufFile::open(path)?),
        }
    }

    /// Numbers of all parts.
    pub fn n_parameters(&self) -> u64 {
        self.parts.iter().map(|part| part.n_parameters).sum()
    }

    /// Bytes of all parts.
    pub fn n_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.n_bytes).sum()
    }
}

fn of_gguf(file: &GgufFile) -> Result<AdapterSummary, AdapterFileError> {
    let meta = file.metadata();
    let text = |key: &str| Ok::<_, AdapterFileError>(meta.str(key)?.map(|text| printable(text.as_bytes())));
    let read = GgufAdapterTensors::of(file)?;
    let alpha = read.alpha;
    let mut parts = Vec::new();
    for (base, [a, b]) in read.pairs {
        let n_rows = b.shape.get(1).copied().unwrap_or(1);
        // Rows of the embedding's A are looked up: it lies transposed.
        let rank = b.shape[0];
        let k = if base == "token_embd.weight" { a.shape.get(1).copied().unwrap_or(1) } else { a.shape[0] };
        parts.push(PartSummary {
            name: printable(base.as_bytes()),
            rank,
            scale: if alpha == 0.0 { 1.0 } else { alpha / rank as f32 },
            n_rows,
            k,
            n_parameters: (a.n_elements() + b.n_elements()) as u64,
            n_bytes: (a.n_bytes + b.n_bytes) as u64,
            types: [a.tensor_type.name(), b.tensor_type.name()],
        });
    }
    Ok(AdapterSummary {
        format: "gguf",
        architecture: text("general.architecture")?,
        name: text("general.name")?,
        base_model: text("general.base_model.0.name")?,
        rank: None,
        alpha: f64::from(alpha),
        use_rslora: false,
        parts,
        paths: file.paths().map(Path::to_owned).collect(),
        notes: file.warnings().to_vec(),
    })
}
