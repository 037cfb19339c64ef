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

/// Importance as the searches for scales can use it.
pub(super) struct Usable {
    /// `[n_matrices · k]`.
    pub columns: Vec<f32>,
    /// Matrices for which nothing is known of any column.
    pub n_zero: usize,
}

/// The least importance of a column, as a part of the mean.
const LEAST: f32 = 1e-10;

/// Multiplies the importance of each matrix by a power of two that brings the mean to between 1 and 2. That changes no bit of what the
/// searches find, but keeps their products in the range of singles. Where all columns have none, each gets 1; no column gets less than a
/// 10¹⁰th of the mean, since a group of weights whose errors cost nothing would come out as zeros.
///
/// # Errors
/// The place of a number that is negative or not finite.
pub(super) fn usable(columns: &[f32], k: usize) -> Result<Usable, usize> {
    if let Some(i) = columns.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
        return Err(i);
    }
    let mut n_zero = 0;
    let mut scaled = Vec::with_capacity(columns.len());
    for matrix in columns.chunks(k) {
        let mean = matrix.iter().map(|w| f64::from(*w)).sum::<f64>() / matrix.len() as f64;
        if mean == 0.0 {
            n_zero += 1;
            scaled.resize(scaled.len() + matrix.len(), 1.0);
        } else {
            let factor = (-mean.log2().floor()).exp2();
            scaled.extend(matrix.iter().map(|w| ((f64::from(*w) * factor) as f32).max(LEAST)));
        }
    }
    Ok(Usable { columns: scaled, n_zero })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn importance_is_brought_to_a_range_that_products_stay_in() {
        let made = usable(&[4.0, 12.0, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0], 4).unwrap();
        assert_eq!((made.columns, made.n_zero), (vec![1.0, 3.0, 1e-10, 2.0, 1.0, 1.0, 1.0, 1.0], 1));
        let huge = usable(&[3e38, 1.0], 2).unwrap().columns;
        assert!((1.0..4.0).contains(&huge[0]) && huge[1] == 1e-10, "{huge:?}");
        let tiny = usable(&[1e-44, 1e-44], 2).unwrap().columns;
        assert!((1.0..2.0).contains(&tiny[0]), "{tiny:?}");
        assert_eq!(usable(&[1.0, f32::NAN], 2).err(), Some(1));
        assert_eq!(usable(&[-1.0, 1.0], 2).err(), Some(0));
        assert_eq!(usable(&[1.0, 1.0, f32::INFINITY, 1.0], 2).err(), Some(2));
    }
}
