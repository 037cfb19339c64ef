//! Models in several files: `NAME-00001-of-00003.gguf` and so on, as llama.cpp's gguf-split writes them.
//!
//! The metadata are in the first part; each part has its own tensors and says which part it is, of how many.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::GgufError;
use super::metadata::Metadata;

const NO_KEY: &str = "split.no";
const COUNT_KEY: &str = "split.count";
const TENSORS_KEY: &str = "split.tensors.count";

/// What a file says about its place in a split model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Split {
    /// Which part the file is, from 0.
    no: usize,
    /// How many parts there are: 1 for a file that is whole.
    pub count: usize,
    /// How many tensors all parts hold together, if the file says so.
    n_tensors: Option<usize>,
}

impl Split {
    /// Reads the `split.*` keys; a file without them is whole.
    pub fn from_metadata(metadata: &Metadata) -> Result<Split, GgufError> {
        let count = metadata.get_as::<u32>(COUNT_KEY)?.unwrap_or(1).max(1) as usize;
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

    /// The paths of the parts after the first one, which is at `path`.
    ///
    /// # Errors
    /// If `path` is not the first part, or is not named like one.
    pub fn other_paths(&self, path: &Path, file: &Arc<str>) -> Result<Vec<PathBuf>, GgufError> {
        let wrong = |found: String, expected: String| {
            Err(GgufError::Header { file: file.clone(), what: "split model".into(), found, expected })
        };
        if self.count == 1 {
            return Ok(Vec::new());
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let suffix = suffix(self.no, self.count);
        let prefix = name.strip_suffix(&suffix);
        if self.no != 0 {
            let first = match prefix {
                Some(prefix) => format!("the first part, {prefix}{}", self::suffix(0, self.count)),
                None => "the first part".to_owned(),
            };
            return wrong(format!("part {} of {}", self.no + 1, self.count), first);
        }
        let Some(prefix) = prefix else {
            return wrong(
                format!("the first of {} parts under another name", self.count),
                format!("a name that ends in {suffix}, by which the other parts are found"),
            );
        };
        Ok((1..self.count)
            .map(|no| path.with_file_name(format!("{prefix}{}", self::suffix(no, self.count))))
            .collect())
    }

    /// Checks that `part`, the metadata of the file found as part `no`, belongs to this model at that place.
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

    /// Checks the number of tensors of all parts together, against what the first part, `metadata`, says.
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

/// How the name of part `no` (from 0) of `count` ends.
fn suffix(no: usize, count: usize) -> String {
    format!("-{:05}-of-{count:05}.gguf", no + 1)
}
