//! What a folder holds, for people.

use std::path::Path;

use bise_models::printable::printable;

use super::folder::Folder;
use crate::adapter::error::AdapterFileError;
use crate::adapter::summary::{AdapterSummary, PartSummary};

impl AdapterSummary {
    /// Of the adapter in `folder`; the numbers are not read.
    ///
    /// # Errors
    /// As [`PeftAdapter::open`](super::PeftAdapter::open), but for what only the base model can tell.
    pub(in crate::adapter) fn of_folder(folder: &Path) -> Result<AdapterSummary, AdapterFileError> {
        let folder = Folder::open(folder)?;
        let modules = folder.modules()?;
        let (mut notes, mut scales) = (modules.notes(), folder.scales()?);
        let mut parts = Vec::with_capacity(modules.pairs.len());
        for (module, [a, b]) in &modules.pairs {
            let ([rows, k], [n_rows, columns]) = (a.sizes()?, b.sizes()?);
            let is_fused =
                module.contains(".experts") && module.trim_end_matches(".base_layer").ends_with(".experts");
            let name = match is_fused {
                false => (*module).to_owned(),
                // Which of the two parameters it is, their patterns' names tell: by the shape that is longer.
                true if n_rows > k => format!("{}.gate_up_proj", module.trim_end_matches(".base_layer")),
                true => format!("{}.down_proj", module.trim_end_matches(".base_layer")),
            };
            let (rank, scale) = scales.of_module(&name);
            if (rows, columns) != (rank, rank) && !is_fused {
                let expected = format!("{rank}, as \"r\" or \"rank_pattern\" says");
                return Err(b.wrong(format!("a rank of {rows} in A and of {columns} in B"), &expected));
            }
            parts.push(PartSummary {
                name: printable(name.as_bytes()),
                rank,
                scale,
                n_rows,
                k,
                n_parameters: (rows * k + n_rows * columns) as u64,
                n_bytes: (a.tensor.bytes.len() + b.tensor.bytes.len()) as u64,
                types: [a.tensor.dtype.name(), b.tensor.dtype.name()],
            });
        }
        notes.extend(scales.unused());
        let notes = folder.named(notes);
        let config = &folder.config;
        Ok(AdapterSummary {
            format: "peft",
            architecture: None,
            name: None,
            base_model: config.base_model.clone(),
            rank: Some(config.rank),
            alpha: config.alpha,
            use_rslora: config.use_rslora,
            parts,
            paths: folder.paths(),
            notes,
        })
    }
}
