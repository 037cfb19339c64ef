//! An adapter of one matrix.

use super::error::AdapterError;
use crate::config::MistralConfig;
use crate::site::Site;

/// LoRA beside one matrix `W [n_rows, k]`: `y = x·Wᵀ + scale · (x·Aᵀ)·Bᵀ`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Rows of A and columns of B, 1 or more.
    pub rank: usize,
    /// `alpha / rank`, or `alpha / √rank` for adapters with stabilised ranks (rslora).
    pub scale: f32,
    /// `[rank, k]`, row-major.
    pub a: Vec<f32>,
    /// `[n_rows, rank]`, row-major; rows in the order of the GGUF file, which permutes those of queries and keys.
    pub b: Vec<f32>,
}

impl LowRank {
    /// The highest rank beside a matrix `[n_rows, k]`: 4096, or four times its smaller side. From that side on, a higher one adds nothing but
    /// memory; small matrices, such as the router of experts, have the rank of large ones all the same.
    #[must_use]
    pub fn max_rank(n_rows: usize, k: usize) -> usize {
        n_rows.min(k).saturating_mul(4).max(4096)
    }

    /// The bytes that adapters take in the end, at most: those of [`Adapter::n_bytes`](super::Adapter::n_bytes). Each has a number of numbers, a
    /// rank, and whether the file has them in 16 bits.
    ///
    /// B's rows are filled up to 16, and numbers of other types than those of 16 bits are kept in f32.
    #[must_use]
    pub fn kept_bytes(parts: impl IntoIterator<Item = (usize, usize, bool)>) -> usize {
        let bytes = |(n, rank, in_16_bits): (usize, usize, bool)| {
            let kept = if in_16_bits { 2 } else { 4 };
            n.saturating_mul(kept).saturating_add(rank.saturating_mul(16 * kept))
        };
        parts.into_iter().map(bytes).fold(0, usize::saturating_add)
    }

    /// The most bytes that adapters take at a time while they are read, and laid out by [`Adapter::new`](super::Adapter::new). Each has a
    /// number of numbers, a rank, and whether the file has them in 16 bits.
    ///
    /// They are all there in f32 when they are laid out; the numbers of one are copied once more when they are put in order.
    #[must_use]
    pub fn loading_bytes(parts: impl IntoIterator<Item = (usize, usize, bool)>) -> usize {
        let (mut sum, mut most) = (0_usize, 0);
        for part in parts {
            let n = part.0;
            sum = sum.saturating_add(n.saturating_mul(4)).saturating_add(LowRank::kept_bytes([part]));
            most = most.max(n);
        }
        sum.saturating_add(most.saturating_mul(4))
    }

    /// Checks that it fits the matrix at `site` of models of this configuration.
    pub(super) fn check(
        &self,
        adapter: &str,
        site: Site,
        config: &MistralConfig,
    ) -> Result<(), AdapterError> {
        let name = |which: &str| format!("{site}.weight.{which}");
        let Some([n_rows, k]) = site.shape(config) else {
            let expected = "a matrix that the model has: is it for another model?";
            return Err(AdapterError::tensor(adapter, format!("{site}.weight"), "adapters of it", expected));
        };
        if self.rank == 0 {
            return Err(AdapterError::tensor(adapter, name("lora_a"), "rank 0", "a rank of 1 or more"));
        }
        let most = LowRank::max_rank(n_rows, k);
        if self.rank > most {
            let expected = format!("{most} at most beside a matrix of {n_rows} rows and {k} columns");
            return Err(AdapterError::tensor(
                adapter,
                name("lora_a"),
                format!("rank {}", self.rank),
                expected,
            ));
        }
        for (which, values, [rows, columns]) in
            [("lora_a", &self.a, [self.rank, k]), ("lora_b", &self.b, [n_rows, self.rank])]
        {
            if rows.checked_mul(columns) != Some(values.len()) {
                let expected = format!("{rows} rows of {columns}, as the model's '{site}.weight' has it");
                let found = format!("{} numbers", values.len());
                return Err(AdapterError::tensor(adapter, name(which), found, expected));
            }
            if let Some(i) = values.iter().position(|value| !value.is_finite()) {
                let found = format!("{} in row {}", values[i], i / columns);
                return Err(AdapterError::tensor(adapter, name(which), found, "finite numbers"));
            }
        }
        if !self.scale.is_finite() {
            let found = format!("a scale of {}", self.scale);
            return Err(AdapterError::tensor(adapter, format!("{site}.weight"), found, "a finite one"));
        }
        Ok(())
    }
}
