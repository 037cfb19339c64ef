//! One model in several files, and several files as one model: the tensors stay what they are.
//!
//! Names, keys, their order and the bytes are those of llama.cpp's `llama-gguf-split`.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use bise_models::atomic_file::{AtomicFile, commit_all, is_same_file, remove_left_over};
use bise_models::gguf::{FileRanges, GgufFile, GgufWriter, Metadata, TensorInfo, WriteError};

use super::error::QuantizeError;
use crate::Cancel;

/// Which file it is, from 0.
const NO: &str = "split.no";
/// Tensors of all files.
const N_TENSORS: &str = "split.tensors.count";
/// How many files there are; 0 in one that was merged.
const COUNT: &str = "split.count";

/// The most files that a model can be in: they are counted in 16 bits.
const MAX_PARTS: usize = u16::MAX as usize;

/// Bytes that are copied at a time, about.
const PIECE: usize = 8 << 20;

/// The alignment of the data that sizes are counted with.
const ALIGNMENT: usize = 32;

/// Where a file ends and the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitLimit {
    /// Tensors in a file.
    Tensors(usize),
    /// Bytes of the tensors in a file, padding included, without metadata. A tensor that is larger has a file of its own.
    Bytes(u64),
}

/// A file to write.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DividedPart {
    /// Its metadata.
    pub metadata: Metadata,
    /// Its tensors, as they are in the source.
    pub tensors: Vec<TensorInfo>,
}

impl DividedPart {
    /// Bytes of the file, as llama-gguf-split counts them: without the padding between tensors.
    ///
    /// # Errors
    /// Where the header cannot be written.
    pub fn n_bytes(&self) -> Result<u64, WriteError> {
        let mut n_header = Counter(0);
        self.header()?.start(&mut n_header)?;
        Ok(n_header.0 + self.tensors.iter().map(|tensor| tensor.n_bytes as u64).sum::<u64>())
    }

    fn header(&self) -> Result<GgufWriter, WriteError> {
        let mut header = GgufWriter::new();
        *header.metadata_mut() = self.metadata.clone();
        for tensor in &self.tensors {
            // ggml counts no sizes of 1 at the end.
            let n_dims = tensor.shape.iter().rposition(|&size| size > 1).map_or(1, |last| last + 1);
            header.add_tensor(&tensor.name, &tensor.shape[..n_dims], tensor.tensor_type)?;
        }
        Ok(header)
    }
}

/// The files that a model is to be in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Division {
    /// One or more.
    pub parts: Vec<DividedPart>,
    /// What the user should know, one line each.
    pub notes: Vec<String>,
    is_merged: bool,
}

impl Division {
    /// Divides `file` anew. With `metadata_alone`, the first file has no tensors.
    ///
    /// # Errors
    /// Where there would be more files than can be counted.
    ///
    /// # Panics
    /// If the limit is 0.
    pub fn split(
        file: &GgufFile,
        limit: SplitLimit,
        metadata_alone: bool,
    ) -> Result<Division, QuantizeError> {
        assert!(!matches!(limit, SplitLimit::Tensors(0) | SplitLimit::Bytes(0)), "a limit of 0");
        let mut notes = Vec::new();
        let mut parts: Vec<Vec<TensorInfo>> = vec![Vec::new()];
        if metadata_alone {
            parts.push(Vec::new());
        }
        let mut n_bytes = 0;
        for (i, tensor) in file.tensors().enumerate() {
            let size = tensor.n_bytes.next_multiple_of(ALIGNMENT) as u64;
            let is_full = match limit {
                SplitLimit::Tensors(n) => i > 0 && i.is_multiple_of(n),
                SplitLimit::Bytes(n) => n_bytes > 0 && n_bytes + size > n,
            };
            if matches!(limit, SplitLimit::Bytes(n) if size > n) {
                notes.push(format!(
                    "tensor '{}' alone has {size} bytes: its file is larger than was asked for",
                    tensor.name
                ));
            }
            if is_full {
                parts.push(Vec::new());
                n_bytes = 0;
            }
            n_bytes += size;
            parts.last_mut().expect("there is one").push(tensor.clone());
        }
        let n_parts = parts.len();
        if n_parts > MAX_PARTS {
            let (found, expected) = (n_parts.to_string(), format!("at most {MAX_PARTS}: a larger limit"));
            return Err(QuantizeError::Parts {
                path: PathBuf::from(file.name()),
                found: format!("{found} files"),
                expected,
            });
        }
        let n_tensors = i32::try_from(file.tensors().len()).unwrap_or(i32::MAX);
        let parts = parts.into_iter().enumerate().map(|(no, tensors)| {
            let mut metadata = Metadata::new("new file");
            if no == 0 {
                copy_metadata(file, &mut metadata, &[NO, N_TENSORS, COUNT]);
            }
            metadata.set(NO, no as u16);
            metadata.set(N_TENSORS, n_tensors);
            metadata.set(COUNT, n_parts as u16);
            DividedPart { metadata, tensors }
        });
        Ok(Division { parts: parts.collect(), notes, is_merged: false })
    }

    /// Makes one file of `file`, the first of several and those that go with it.
    ///
    /// # Errors
    /// Where it is none of several.
    pub fn merge(file: &GgufFile) -> Result<Division, QuantizeError> {
        if file.metadata().get_as::<u32>(COUNT)?.unwrap_or(0) == 0 {
            return Err(QuantizeError::Parts {
                path: PathBuf::from(file.name()),
                found: "a model in one file".into(),
                expected: "the first file of a split model, NAME-00001-of-…".into(),
            });
        }
        let mut metadata = Metadata::new("new file");
        copy_metadata(file, &mut metadata, &[COUNT]);
        metadata.set(COUNT, 0_u16);
        let tensors = file.tensors().cloned().collect();
        let parts = vec![DividedPart { metadata, tensors }];
        Ok(Division { parts, notes: foreign_part(file).into_iter().collect(), is_merged: true })
    }

    /// The files that [`write`](Division::write) writes: `PREFIX-00001-of-00003.gguf` and so on, or `path` itself where files are merged.
    pub fn paths(&self, path: &Path) -> Vec<PathBuf> {
        if self.is_merged {
            return vec![path.to_owned()];
        }
        let n_parts = self.parts.len();
        let path_of = |no: usize| {
            let mut path = path.as_os_str().to_owned();
            path.push(format!("-{:05}-of-{n_parts:05}.gguf", no + 1));
            PathBuf::from(path)
        };
        (0..n_parts).map(path_of).collect()
    }

    /// Bytes of all tensors.
    pub fn tensor_bytes(&self) -> u64 {
        self.parts.iter().flat_map(|part| &part.tensors).map(|tensor| tensor.n_bytes as u64).sum()
    }

    /// Writes the files, whose tensors are those of `file`. They appear under their names when all are whole and on the disk. `progress` is
    /// called with the number of bytes of tensors that are done.
    ///
    /// # Errors
    /// Where the source or another file is in the way (unless `force` allows to replace it), the disk is full, or it was cancelled. Nothing is
    /// left behind then, and what was there before stays.
    pub fn write(
        &self,
        file: &GgufFile,
        path: &Path,
        cancel: &Cancel,
        force: bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), QuantizeError> {
        let paths = self.paths(path);
        check_free(&paths, &file.paths().collect::<Vec<_>>(), force)?;
        let mut done = 0;
        let mut whole = Vec::with_capacity(paths.len());
        for (part, path) in self.parts.iter().zip(&paths) {
            whole.push(write_part(file, part, path, cancel, force, &mut |n| {
                done += n as u64;
                progress(done);
            })?);
        }
        file.check_unchanged()?;
        commit_all(whole).map_err(|(i, error)| not_in_place(&paths[i], error))
    }
}

/// What to say where most weights of a part have a type that no other part has in its layers. Nothing else tells a part of another quantization:
/// only the first has metadata.
fn foreign_part(file: &GgufFile) -> Option<String> {
    let mut parts: Vec<BTreeMap<&'static str, usize>> = vec![BTreeMap::new(); file.n_parts()];
    for tensor in file.tensors().filter(|t| t.name.starts_with("blk.") && t.shape.len() > 1) {
        *parts[tensor.part].entry(tensor.tensor_type.name()).or_default() += tensor.n_elements();
    }
    let with_layers = parts.iter().filter(|part| !part.is_empty()).count();
    let is_foreign = |(no, most): &(usize, &str)| {
        let mut others = parts.iter().enumerate().filter(|(other, _)| other != no);
        with_layers > 1 && others.all(|(_, part)| !part.contains_key(most))
    };
    let most =
        |part: &BTreeMap<&'static str, usize>| part.iter().max_by_key(|(_, n)| **n).map(|(name, _)| *name);
    // Of two files that have nothing in common, the second is named.
    let (no, most) =
        parts.iter().enumerate().rev().filter_map(|(no, part)| Some((no, most(part)?))).find(is_foreign)?;
    let path = file.paths().nth(no).map_or_else(String::new, |path| path.display().to_string());
    Some(format!(
        "{path}: found most weights in {most}, which no other of the files has in its layers: it may be of another quantization of the model"
    ))
}

/// Refuses to write over sources, and over other files unless `force` allows it. Removes what killed runs left beside the files.
pub(super) fn check_free(paths: &[PathBuf], sources: &[&Path], force: bool) -> Result<(), QuantizeError> {
    for path in paths {
        if sources.iter().any(|source| is_same_file(source, path)) {
            return Err(QuantizeError::SameFile { path: path.clone() });
        }
        if !force && std::fs::metadata(path).is_ok_and(|found| found.is_file()) {
            return Err(QuantizeError::Exists { path: path.clone() });
        }
    }
    for path in paths {
        remove_left_over(path);
    }
    Ok(())
}

/// Begins the file at `path`, which is not to be replaced unless `force` allows it, even if it appears meanwhile.
pub(super) fn begin(path: &Path, force: bool) -> Result<AtomicFile, QuantizeError> {
    let created = if force { AtomicFile::create(path) } else { AtomicFile::create_new(path) };
    created.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => QuantizeError::Exists { path: path.to_owned() },
        _ => QuantizeError::File { path: path.to_owned(), action: "create the file", error },
    })
}

/// The error of a file that is whole and cannot get its name.
pub(super) fn not_in_place(path: &Path, error: io::Error) -> QuantizeError {
    match error.kind() {
        ErrorKind::AlreadyExists => QuantizeError::Exists { path: path.to_owned() },
        _ => QuantizeError::File { path: path.to_owned(), action: "put the file in place", error },
    }
}

fn write_part(
    file: &GgufFile,
    part: &DividedPart,
    path: &Path,
    cancel: &Cancel,
    force: bool,
    progress: &mut dyn FnMut(usize),
) -> Result<AtomicFile, QuantizeError> {
    let failed = |error: WriteError| QuantizeError::Write { path: path.to_owned(), error };
    let file_error = |action| move |error| QuantizeError::File { path: path.to_owned(), action, error };
    let header = part.header().map_err(failed)?;
    let aside = begin(path, force)?;
    let mut writer = header.start(BufWriter::with_capacity(1 << 20, aside)).map_err(failed)?;
    for tensor in &part.tensors {
        let bytes = file.bytes(tensor);
        let block_bytes = tensor.tensor_type.block_bytes();
        let step = (PIECE / block_bytes).max(1) * block_bytes;
        let piece_from = |start: usize| bytes.slice(start.min(bytes.len())..(start + step).min(bytes.len()));
        for start in (0..bytes.len()).step_by(step) {
            if cancel.is_cancelled() {
                return Err(QuantizeError::Cancelled);
            }
            FileRanges::of([piece_from(start + step)]).ask_for();
            let piece = piece_from(start);
            writer.write(&piece).map_err(failed)?;
            progress(piece.len());
            FileRanges::of([piece]).leave();
        }
    }
    let buffer = writer.finish().map_err(failed)?;
    buffer.into_inner().map_err(|error| file_error("write the file")(error.into_error()))
}

fn copy_metadata(file: &GgufFile, to: &mut Metadata, without: &[&str]) {
    for (key, value) in file.metadata().iter().filter(|(key, _)| !without.contains(key)) {
        to.set(key, value.clone());
    }
}

/// Counts what is written.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
