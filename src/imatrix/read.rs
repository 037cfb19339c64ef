//! Reading, in either format.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bise_models::gguf::{GgufFile, TensorInfo, TensorType};

use super::error::content;
use super::{Entry, Imatrix, ImatrixError, legacy};

/// The largest number of rows that a sum is over.
const MAX_COUNT: f32 = 1e15;

impl Imatrix {
    /// Reads the file at `path`: GGUF, or the older `.dat`.
    ///
    /// # Errors
    /// Where it cannot be read, is no importance matrix, or has sums that are no sums of squares.
    pub fn open(path: &Path) -> Result<Imatrix, ImatrixError> {
        let mut magic = [0; 4];
        let n = File::open(path)
            .and_then(|mut file| file.read(&mut magic))
            .map_err(|error| ImatrixError::Io { path: path.to_owned(), action: "read it", error })?;
        let imatrix = if magic[..n] == *b"GGUF" { from_gguf(path)? } else { legacy::read(path)? };
        if imatrix.entries.is_empty() {
            return Err(content(
                path,
                "the importance matrix",
                "no entries",
                "one for each matrix of a model",
            ));
        }
        for (name, entry) in &imatrix.entries {
            check(path, name, entry)?;
        }
        Ok(imatrix)
    }
}

fn check(path: &Path, name: &str, entry: &Entry) -> Result<(), ImatrixError> {
    let (n, counts) = (entry.sum_squares.len(), entry.counts.len());
    if n == 0 || counts == 0 || !n.is_multiple_of(counts) {
        return Err(content(
            path,
            name,
            format!("{n} sums and {counts} counts"),
            "as many sums for each count",
        ));
    }
    if !entry.sums.is_empty() && entry.sums.len() != n {
        let found = format!("{} plain sums and {n} of squares", entry.sums.len());
        return Err(content(path, name, found, "as many of either"));
    }
    if let Some(i) = entry.sum_squares.iter().position(|sum| !(sum.is_finite() && *sum >= 0.0)) {
        let found = format!("{} as sum of squares {i}", entry.sum_squares[i]);
        return Err(content(path, name, found, "finite numbers that are not negative"));
    }
    match entry.sums.iter().position(|sum| !sum.is_finite()) {
        Some(i) => Err(content(path, name, format!("{} as sum {i}", entry.sums[i]), "finite numbers")),
        None => Ok(()),
    }
}

fn from_gguf(path: &Path) -> Result<Imatrix, ImatrixError> {
    let file = GgufFile::open(path)?;
    let meta = file.metadata();
    let mut imatrix = Imatrix {
        n_chunks: meta.u32("imatrix.chunk_count")?.unwrap_or(0),
        chunk_len: meta.u32("imatrix.chunk_size")?.unwrap_or(0),
        ..Imatrix::default()
    };
    let is_known = meta.str("general.type").ok().flatten() == Some("imatrix");
    if let Some(datasets) = meta.str_array("imatrix.datasets")? {
        imatrix.datasets = datasets.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    } else if !is_known {
        let found = "neither general.type imatrix nor imatrix.datasets";
        return Err(content(path, "metadata", found, "an importance matrix, as `bise imatrix` writes them"));
    }
    for info in file.tensors() {
        let Some((name, kind)) = info.name.rsplit_once('.') else { continue };
        if !matches!(kind, "in_sum2" | "in_sum" | "counts") {
            continue;
        }
        let values = numbers(path, &file, info)?;
        let entry = imatrix.entries.entry(name.to_owned()).or_default();
        match kind {
            "in_sum2" => entry.sum_squares = values.into_iter().map(f64::from).collect(),
            "in_sum" => entry.sums = values.into_iter().map(f64::from).collect(),
            _ => entry.counts = whole(path, info, &values)?,
        }
    }
    Ok(imatrix)
}

fn numbers(path: &Path, file: &GgufFile, info: &TensorInfo) -> Result<Vec<f32>, ImatrixError> {
    if info.tensor_type != TensorType::F32 {
        return Err(content(path, &info.name, info.tensor_type.name(), "F32"));
    }
    Ok(file.bytes(info).as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

fn whole(path: &Path, info: &TensorInfo, values: &[f32]) -> Result<Vec<u64>, ImatrixError> {
    match values.iter().find(|count| !(0.0..=MAX_COUNT).contains(*count)) {
        Some(count) => Err(content(path, &info.name, count.to_string(), "numbers of rows")),
        None => Ok(values.iter().map(|count| count.round() as u64).collect()),
    }
}
