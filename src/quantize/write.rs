//! The new file.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use bise_kernels::KernelTable;
use bise_models::atomic_file::{AtomicFile, commit_all};
use bise_models::gguf::{GgufDataWriter, GgufWriter, Metadata, WriteError};

use super::division::{begin, check_free, not_in_place};
use super::error::QuantizeError;
use super::plan::{Plan, part_path};
use super::slabs::for_each_slab;
use super::source::Source;
use crate::{Cancel, Threads};

type DataWriter = GgufDataWriter<BufWriter<AtomicFile>>;

impl Plan {
    /// The files that [`write`](Plan::write) writes for `path`.
    pub fn paths(&self, path: &Path) -> Vec<PathBuf> {
        (0..self.n_parts).map(|part| part_path(path, part, self.n_parts)).collect()
    }

    /// Whether [`write`](Plan::write) may write to `path`.
    ///
    /// # Errors
    /// Where the source or another file is in the way (unless `force` allows to replace it).
    pub fn check_destination(
        &self,
        source: &dyn Source,
        path: &Path,
        force: bool,
    ) -> Result<(), QuantizeError> {
        let (paths, sources) = (self.paths(path), source.paths());
        check_free(&paths, &sources.iter().map(PathBuf::as_path).collect::<Vec<_>>(), force)
    }

    /// Writes the new file, or the files, of `source`, which the plan was made for. They appear under their names when all are whole and on the
    /// disk. What killed runs left beside them is removed. `progress` is called with the number of bytes of the source that are done.
    ///
    /// The bytes do not depend on the number of threads.
    ///
    /// # Errors
    /// Where the source or another file is in the way (unless `force` allows to replace it), a weight is not finite, the disk is full, or it was
    /// cancelled. Nothing is left behind then, and what was there before stays.
    pub fn write(
        &self,
        source: &dyn Source,
        path: &Path,
        threads: &Threads,
        cancel: &Cancel,
        force: bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), QuantizeError> {
        self.check_destination(source, path, force)?;
        let paths = self.paths(path);
        let mut whole = Vec::with_capacity(paths.len());
        let mut done = 0;
        for (part, path) in paths.iter().enumerate() {
            whole.push(self.write_part(
                source,
                part,
                (path, begin(path, force)?),
                threads,
                cancel,
                &mut |n| {
                    done += n as u64;
                    progress(done);
                },
            )?);
        }
        source.check_unchanged()?;
        commit_all(whole).map_err(|(i, error)| not_in_place(&paths[i], error))
    }

    fn write_part(
        &self,
        source: &dyn Source,
        part: usize,
        (path, aside): (&Path, AtomicFile),
        threads: &Threads,
        cancel: &Cancel,
        progress: &mut dyn FnMut(usize),
    ) -> Result<AtomicFile, QuantizeError> {
        let failed = |error: WriteError| QuantizeError::Write { path: path.to_owned(), error };
        let tensors = || self.tensors.iter().filter(|tensor| self.n_parts == 1 || tensor.source.part == part);
        let mut header = GgufWriter::new();
        *header.metadata_mut() = self.part_metadata(part);
        for tensor in tensors() {
            header.add_tensor(&tensor.name, &tensor.source.shape, tensor.tensor_type).map_err(failed)?;
        }
        let mut writer: DataWriter =
            header.start(BufWriter::with_capacity(1 << 20, aside)).map_err(failed)?;
        let (team, kernels) = (threads.team(), KernelTable::detect());
        let mut out = Vec::new();
        for tensor in tensors() {
            for_each_slab(team, kernels, tensor, source, &mut out, |made, n_read| {
                if cancel.is_cancelled() {
                    return Err(QuantizeError::Cancelled);
                }
                writer.write(made).map_err(failed)?;
                progress(n_read);
                Ok(())
            })?;
        }
        let buffer = writer.finish().map_err(failed)?;
        let action = "write the file";
        buffer.into_inner().map_err(|e| QuantizeError::File {
            path: path.to_owned(),
            action,
            error: e.into_error(),
        })
    }

    fn part_metadata(&self, part: usize) -> Metadata {
        let mut metadata = if part == 0 { self.metadata.clone() } else { Metadata::new("new file") };
        if self.n_parts > 1 {
            metadata.set("split.no", part as u16);
            metadata.set("split.count", self.n_parts as u16);
            metadata.set("split.tensors.count", i32::try_from(self.tensors.len()).unwrap_or(i32::MAX));
        }
        metadata
    }
}
