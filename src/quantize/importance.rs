//! The importance of columns, as quantizing uses it.

use std::collections::BTreeMap;

use crate::imatrix::Imatrix;

/// What an error in each column of each matrix costs, and where that was learnt.
#[derive(Clone, Debug, Default)]
pub struct Importance {
    /// The file it comes from, for the record.
    pub file: String,
    /// The text, for the record.
    pub dataset: Option<String>,
    /// Chunks of text, for the record; 0 where that is not known.
    pub n_chunks: u32,
    /// By the name of the tensor: `[n_experts · k]`.
    pub columns: BTreeMap<String, Vec<f32>>,
}

impl Importance {
    /// The mean squares of an importance matrix. An expert that no token visited gets 1 for each column.
    pub fn of(imatrix: &Imatrix, file: &str) -> Importance {
        let columns = imatrix.entries.iter().map(|(name, entry)| (name.clone(), entry.mean_squares()));
        Importance {
            file: file.to_owned(),
            dataset: imatrix.datasets.first().cloned(),
            n_chunks: imatrix.n_chunks,
            columns: columns.collect(),
        }
    }

    /// Forgets the tensors whose name does not please `keep`.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.columns.retain(|name, _| keep(name));
    }
}
