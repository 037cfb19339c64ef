//! An opened model file: metadata, tensor descriptions and the bytes of the tensors.

use std::collections::HashMap;
use std::path::Path;

use super::error::GgufError;
use super::layout;
use super::metadata::Metadata;
use super::mmap::{Part, Storage, TensorBytes};
use super::reader::{Header, read_header};
use super::split::Split;
use super::tensor::TensorInfo;
use crate::printable::{Printable, printable};

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOptions {
    /// Map the file (the default), or read all of it into memory.
    ///
    /// A mapped file costs no memory of its own and opens at once, but it must stay as it is while it is in use.
    /// [`GgufFile::check_unchanged`] notices a file that was changed in place (replacing it by renaming another
    /// over it is no change). What it cannot notice:
    ///
    /// - A file cut short after the check, in the middle of a forward pass. Touching the pages that are gone raises
    ///   SIGBUS on Unix, which ends the process unless it has a handler; so does a disk or network that fails while a
    ///   page is read.
    /// - Bytes changed without a new modification time: through another process's mapping, which updates the time
    ///   late, within the clock tick of the check (some milliseconds), with the time set back, or on a network file
    ///   system that caches it.
    ///
    /// A process that cannot accept this reads the file: `mmap: false` takes memory of the file's size and time to
    /// read it all, and then nothing that happens to the file matters. Reading fails with an error if the memory is
    /// not there or the file changes meanwhile.
    pub mmap: bool,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions { mmap: true }
    }
}

/// A GGUF model, version 2 or 3, in one file or several. Everything but the weights has been checked.
///
/// The weights are used in place, in the mapped file or the program's own data. Only big-endian files are copied and
/// swapped, which [`warnings`](GgufFile::warnings) mentions.
///
/// ```
/// use bise_models::gguf::{GgufFile, GgufWriter, TensorType};
///
/// let mut writer = GgufWriter::new();
/// writer.metadata_mut().set("general.architecture", "llama");
/// writer.add_tensor("output_norm.weight", &[2], TensorType::F32)?;
/// let mut bytes = Vec::new();
/// writer.write_all(&mut bytes, &[&[0, 0, 128, 63, 0, 0, 0, 64]])?;
///
/// let file = GgufFile::from_bytes(bytes, "example")?;
/// assert_eq!(file.metadata().require::<&str>("general.architecture")?, "llama");
/// let norm = file.require_tensor("output_norm.weight")?;
/// assert_eq!(norm.shape, [2]);
/// assert_eq!(file.bytes(norm)[..4], 1.0_f32.to_le_bytes());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct GgufFile {
    parts: Vec<Part>,
    version: u32,
    alignment: usize,
    /// Which parts are.
    big_endian: Vec<bool>,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
    warnings: Vec<String>,
}

impl GgufFile {
    /// Opens and maps `path`. For a split model that is the first part; the others are found beside it, or beside the
    /// file that `path` is a symbolic link to.
    ///
    /// # Errors
    /// If a file cannot be read, or is not a sound GGUF; see [`GgufError`].
    pub fn open(path: impl AsRef<Path>) -> Result<GgufFile, GgufError> {
        GgufFile::open_with(path, OpenOptions::default())
    }

    /// [`open`](Self::open) with options.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, options: OpenOptions) -> Result<GgufFile, GgufError> {
        let mut file = GgufFile::open_as_stored(path, options)?;
        file.swap_to_little_endian()?;
        Ok(file)
    }

    /// [`open_with`](Self::open_with) for looking at a file before its tensors are used: those of a big-endian file are not copied, and
    /// [`bytes`](Self::bytes) gives them as they are stored.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_as_stored(path: impl AsRef<Path>, options: OpenOptions) -> Result<GgufFile, GgufError> {
        let path = path.as_ref();
        let (mut file, split) = GgufFile::from_first(Part::open(path, options.mmap)?)?;
        for (i, path) in split.other_paths(path, &file.parts[0].name)?.iter().enumerate() {
            file.add_part(path, i + 1, &split, options)?;
        }
        split.check_n_tensors(file.tensors.len(), &file.metadata)?;
        file.warnings.extend(unfinished_download(path));
        Ok(file)
    }

    /// A model built into the program, used in place. Messages call it `name`.
    ///
    /// # Errors
    /// If `bytes` are not a sound GGUF in one part.
    pub fn from_static(bytes: &'static [u8], name: &str) -> Result<GgufFile, GgufError> {
        GgufFile::from_one(Part::in_memory(Storage::Static(bytes), name))
    }

    /// A model in memory. Messages call it `name`.
    ///
    /// # Errors
    /// If `bytes` are not a sound GGUF in one part.
    pub fn from_bytes(bytes: Vec<u8>, name: &str) -> Result<GgufFile, GgufError> {
        GgufFile::from_one(Part::in_memory(Storage::Owned(bytes), name))
    }

    fn from_one(part: Part) -> Result<GgufFile, GgufError> {
        let (mut file, split) = GgufFile::from_first(part)?;
        if split.count > 1 {
            return Err(GgufError::Header {
                file: file.parts[0].name.clone(),
                what: "split model".into(),
                found: format!("one of {} parts", split.count),
                expected: "a whole model, since it is in memory".into(),
            });
        }
        file.swap_to_little_endian()?;
        Ok(file)
    }

    fn from_first(part: Part) -> Result<(GgufFile, Split), GgufError> {
        let header = read_header(&part.storage, &part.name, 0)?;
        let split = Split::from_metadata(&header.metadata)?;
        split.check_not_joined(&part.storage, header.end, &part.name)?;
        check_order(&part, &header)?;
        let mut file = GgufFile {
            parts: vec![part],
            version: header.version,
            alignment: header.alignment,
            big_endian: vec![header.big_endian],
            metadata: header.metadata,
            tensors: Vec::new(),
            index: HashMap::new(),
            warnings: Vec::new(),
        };
        file.add_tensors(header.tensors)?;
        Ok((file, split))
    }

    fn add_part(
        &mut self,
        path: &Path,
        no: usize,
        split: &Split,
        options: OpenOptions,
    ) -> Result<(), GgufError> {
        let part = Part::open(path, options.mmap).map_err(|error| match error {
            GgufError::Io { file, error, .. } if error.kind() == std::io::ErrorKind::NotFound => {
                split.missing(no, file, &self.parts[0].name)
            }
            error => error,
        })?;
        let header = read_header(&part.storage, &part.name, no)?;
        split.check_part(no, &header.metadata)?;
        check_order(&part, &header)?;
        self.parts.push(part);
        self.big_endian.push(header.big_endian);
        self.add_tensors(header.tensors)
    }

    /// Adds the tensors of the last part.
    fn add_tensors(&mut self, tensors: Vec<TensorInfo>) -> Result<(), GgufError> {
        for info in tensors {
            if let Some(first) = self.index.insert(info.name.clone(), self.tensors.len()) {
                return Err(GgufError::Tensor {
                    file: self.parts[info.part].name.clone(),
                    tensor: printable(info.name.as_bytes()),
                    found: "it again".into(),
                    expected: format!("it only in {}", self.parts[self.tensors[first].part].name),
                });
            }
            self.tensors.push(info);
        }
        Ok(())
    }

    /// The name of the (first) file, as in error messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.parts[0].name
    }

    /// Where the files were opened; those that were passed in memory have no path.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().filter_map(|part| part.path.as_deref())
    }

    /// The version of the format: 2 or 3.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The alignment of tensor data in the (first) file, in bytes.
    #[must_use]
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// Whether the (first) file is big-endian. [`bytes`](Self::bytes) are little-endian in any case.
    #[must_use]
    pub fn is_big_endian(&self) -> bool {
        self.big_endian[0]
    }

    /// Bytes of those files that are big-endian: opening them takes as much memory.
    #[must_use]
    pub fn n_big_endian_bytes(&self) -> u64 {
        let parts = self.parts.iter().zip(&self.big_endian);
        parts.filter(|(_, big_endian)| **big_endian).map(|(part, _)| part.storage.len() as u64).sum()
    }

    /// Swaps the tensors of big-endian parts into memory, with a warning.
    fn swap_to_little_endian(&mut self) -> Result<(), GgufError> {
        for i in 0..self.parts.len() {
            if !self.big_endian[i] {
                continue;
            }
            let (part, tensors) = (&mut self.parts[i], &self.tensors);
            self.warnings.push(format!(
                "{}: the file is big-endian: its {} bytes are swapped into memory instead of being used in place",
                part.name,
                part.storage.len()
            ));
            part.rewrite(|bytes| {
                for info in tensors.iter().filter(|info| info.part == i) {
                    layout::swap_byte_order(
                        info.tensor_type,
                        &mut bytes[info.offset..info.offset + info.n_bytes],
                    );
                }
            })?;
        }
        Ok(())
    }

    /// Number of files.
    #[must_use]
    pub fn n_parts(&self) -> usize {
        self.parts.len()
    }

    /// Size of all files together, in bytes.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.storage.len() as u64).sum()
    }

    /// What the user should know about the file, one line each, for the caller to show.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The metadata; of a split model, those of the first part.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The metadata, for overriding values.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    /// The tensor called `name`, if there is one.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// If there is none.
    pub fn require_tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.tensor(name).ok_or_else(|| GgufError::MissingTensor {
            file: self.parts[0].name.clone(),
            tensor: printable(name.as_bytes()),
        })
    }

    /// The tensors in file order, part by part.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.iter()
    }

    /// The data of `info`, little-endian unless the file was [opened as stored](Self::open_as_stored). Nothing is copied.
    ///
    /// # Panics
    /// If `info` is from another file and reaches beyond this one.
    #[must_use]
    pub fn bytes(&self, info: &TensorInfo) -> TensorBytes {
        TensorBytes::new(self.parts[info.part].storage.clone(), info.offset..info.offset + info.n_bytes)
    }

    /// [`bytes`](Self::bytes), borrowed.
    ///
    /// # Panics
    /// If `info` is from another file and reaches beyond this one.
    #[must_use]
    pub fn stored(&self, info: &TensorInfo) -> &[u8] {
        &self.parts[info.part].storage[info.offset..info.offset + info.n_bytes]
    }

    /// An error about `info`, for a caller that finds more wrong with a tensor than the reader does.
    pub fn tensor_error(
        &self,
        info: &TensorInfo,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> GgufError {
        GgufError::Tensor {
            file: self.parts[info.part].name.clone(),
            tensor: printable(info.name.as_bytes()),
            found: Printable::<String>(found.into()).to_string(),
            expected: Printable::<String>(expected.into()).to_string(),
        }
    }

    /// Checks that no mapped file was changed in place, by size and modification time. One system call a file: cheap
    /// enough for every forward pass. Before a pass it prevents a bus error; after it, it tells whether the pass
    /// computed with the weights that were opened. What it cannot tell is in [`OpenOptions::mmap`].
    ///
    /// # Errors
    /// If one was changed. The file has to be opened again.
    pub fn check_unchanged(&self) -> Result<(), GgufError> {
        self.parts.iter().try_for_each(Part::check_unchanged)
    }

    /// Bytes of files that were copied into memory, as they are with [`OpenOptions::mmap`] off and in big-endian order.
    #[must_use]
    pub fn n_copied_bytes(&self) -> usize {
        self.parts.iter().map(Part::n_copied_bytes).sum()
    }

    /// Bytes of files that stay in memory whether or not they are used: copied, or locked by [`mlock`](Self::mlock).
    #[must_use]
    pub fn n_resident_bytes(&self) -> usize {
        self.parts.iter().map(Part::n_resident_bytes).sum()
    }

    /// Bytes before and between the tensors: metadata and tensor descriptions, most of all.
    #[must_use]
    pub fn n_header_bytes(&self) -> usize {
        let tensors: usize = self.tensors.iter().map(|tensor| tensor.n_bytes).sum();
        self.parts.iter().map(|part| part.storage.len()).sum::<usize>().saturating_sub(tensors)
    }

    /// Asks the system to read the mapped files ahead of use.
    pub fn prefetch(&self) {
        self.parts.iter().for_each(Part::prefetch);
    }

    /// Locks the files, mapped or read, in memory, so that they are never paged out. A model that was opened from the
    /// caller's bytes is left alone.
    ///
    /// # Errors
    /// If the system refuses, usually because `ulimit -l` is too low.
    pub fn mlock(&self) -> Result<(), GgufError> {
        self.parts.iter().try_for_each(Part::mlock)
    }
}

impl std::fmt::Debug for GgufFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GgufFile")
            .field("name", &self.parts[0].name)
            .field("version", &self.version)
            .field("n_parts", &self.parts.len())
            .field("n_tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

/// A line about the file that aria2 keeps beside a download until all of it is there. The model may be full of holes,
/// which look like weights.
fn unfinished_download(path: &Path) -> Option<String> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".aria2");
    let name = super::mmap::name_of(Path::new(&beside));
    Path::new(&beside).exists().then(|| format!("{name} says that the download of the model is not finished"))
}

/// Refuses a big-endian part with a type whose bytes nobody knows how to swap.
fn check_order(part: &Part, header: &Header) -> Result<(), GgufError> {
    let unknown = |info: &&TensorInfo| layout::fields(info.tensor_type).is_none();
    match header.tensors.iter().find(unknown).filter(|_| header.big_endian) {
        None => Ok(()),
        Some(info) => Err(GgufError::Tensor {
            file: part.name.clone(),
            tensor: printable(info.name.as_bytes()),
            found: format!("type {} in a big-endian file", info.tensor_type),
            expected: "a little-endian file for this type".into(),
        }),
    }
}
