//! Models in several files: `NAME-00001-of-00003.gguf` and so on, as llama.cpp's gguf-split writes them.
//!
//! The first part has the metadata. Each part has tensors of its own and says which part it is, of how many.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::GgufError;
use super::metadata::Metadata;
use super::reader::MAGIC;
use crate::symlinks::links;

const NO_KEY: &str = "split.no";
const COUNT_KEY: &str = "split.count";
const TENSORS_KEY: &str = "split.tensors.count";

/// The format counts parts in 16 bits.
const MAX_PARTS: usize = 0xffff;

/// A file's position in a split model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Split {
    /// Which part the file is, from 0.
    no: usize,
    /// Number of parts; 1 for a model in a single file.
    pub count: usize,
    /// Number of tensors in all parts, if the file gives it.
    n_tensors: Option<usize>,
}

impl Split {
    /// Reads the `split.*` keys. A file without them is a whole model.
    pub fn from_metadata(metadata: &Metadata) -> Result<Split, GgufError> {
        let count = metadata.get_as::<u32>(COUNT_KEY)?.unwrap_or(1).max(1) as usize;
        if count > MAX_PARTS {
            return Err(metadata.error(COUNT_KEY, count.to_string(), format!("at most {MAX_PARTS} parts")));
        }
        let no = metadata.get_as::<u32>(NO_KEY)?.unwrap_or(0) as usize;
        let n_tensors = metadata.get_as::<usize>(TENSORS_KEY)?;
        if no >= count {
            return Err(metadata.error(
                NO_KEY,
                no.to_string(),
                format!("less than {COUNT_KEY}, which is {count}"),
            ));
        }
        Ok(Split { no, count, n_tensors })
    }

    /// The paths of the other parts, given that of the first.
    ///
    /// # Errors
    /// If `path` is not the first part or not named like one.
    pub fn other_paths(&self, path: &Path, file: &Arc<str>) -> Result<Vec<PathBuf>, GgufError> {
        let wrong = |found: String, expected: String| {
            Err(GgufError::Header { file: file.clone(), what: "split model".into(), found, expected })
        };
        if self.count == 1 {
            return Ok(Vec::new());
        }
        let suffix = suffix(self.no, self.count);
        if self.no != 0 {
            let first = match prefix_of(path, &suffix) {
                Some(prefix) => format!("the first part, {prefix}{}", self::suffix(0, self.count)),
                None => "the first part".to_owned(),
            };
            return wrong(format!("part {} of {}", self.no + 1, self.count), first);
        }
        let mut named = links(path).into_iter().filter_map(|path| {
            let prefix = prefix_of(&path, &suffix)?;
            let name = |no| format!("{prefix}{}", self::suffix(no, self.count));
            Some((1..self.count).map(|no| path.with_file_name(name(no))).collect::<Vec<_>>())
        });
        // The name that was given counts; where no part is beside it, that of the file it is a link to.
        let Some(given) = named.next() else {
            return wrong(
                format!("the first of {} parts under another name", self.count),
                format!("a name that ends in {suffix}, by which the other parts are found"),
            );
        };
        if given.iter().any(|path| path.exists()) {
            return Ok(given);
        }
        Ok(named.find(|paths| paths.iter().any(|path| path.exists())).unwrap_or(given))
    }

    /// The error for a missing part `no` (from 0) of the model that begins with `first`.
    pub fn missing(&self, no: usize, file: Arc<str>, first: &str) -> GgufError {
        GgufError::Header {
            file,
            what: "split model".into(),
            found: "no such file".into(),
            expected: format!("part {} of {}, beside {first}: download all parts", no + 1, self.count),
        }
    }

    /// Refuses a first part that is followed by the second in the same file, as after `cat`. `end` is where the first ends.
    pub fn check_not_joined(&self, bytes: &[u8], end: usize, file: &Arc<str>) -> Result<(), GgufError> {
        /// A part may be padded to its alignment, which is never larger than this in practice.
        const MAX_PADDING: usize = 4096;
        let after = bytes.get(end..).unwrap_or_default();
        let window = &after[..after.len().min(MAX_PADDING + MAGIC.len())];
        if self.count == 1 || !window.windows(MAGIC.len()).any(|w| w == MAGIC) {
            return Ok(());
        }
        Err(GgufError::NotAModel {
            file: file.clone(),
            found: format!("the {} parts of a split model joined into one file", self.count),
            advice:
                "parts are not joined with cat: give the first part with the others beside it, or join them \
                     with `bise merge FIRST OUT`"
                    .into(),
        })
    }

    /// Checks that `part`, the metadata of the file named as part `no`, is that part of this model.
    pub fn check_part(&self, no: usize, part: &Metadata) -> Result<(), GgufError> {
        let found = Split::from_metadata(part)?;
        if found.no != no {
            return Err(part.error(
                NO_KEY,
                found.no.to_string(),
                format!("{no}, as in the name of the file"),
            ));
        }
        if found.count != self.count {
            return Err(part.error(
                COUNT_KEY,
                found.count.to_string(),
                format!("{}, as in the first part", self.count),
            ));
        }
        Ok(())
    }

    /// Checks the number of tensors in all parts against `metadata`, that of the first part.
    pub fn check_n_tensors(&self, n_tensors: usize, metadata: &Metadata) -> Result<(), GgufError> {
        match self.n_tensors {
            Some(said) if said != n_tensors && self.count > 1 => Err(metadata.error(
                TENSORS_KEY,
                said.to_string(),
                format!("{n_tensors}, the tensors of all parts"),
            )),
            _ => Ok(()),
        }
    }
}

/// The name of `path` without `suffix`, if it ends so.
fn prefix_of(path: &Path, suffix: &str) -> Option<String> {
    let name = path.file_name()?.to_string_lossy();
    name.strip_suffix(suffix).map(str::to_owned)
}

/// The end of the file name of part `no` (from 0) of `count`.
fn suffix(no: usize, count: usize) -> String {
    format!("-{:05}-of-{count:05}.gguf", no + 1)
}
