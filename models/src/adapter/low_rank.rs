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
    /// The most bytes that adapters take at a time while they are read, and laid out by [`Adapter::new`](super::Adapter::new). Each has a
    /// number of numbers, a rank, and whether the file has them in 16 bits.
    ///
    /// They are all there in f32 when they are laid out, with B's rows filled up to 16; the numbers of one are copied once more when they are
    /// put in order.
    #[must_use]
    pub fn loading_bytes(parts: impl IntoIterator<Item = (usize, usize, bool)>) -> usize {
        let (mut sum, mut most) = (0_usize, 0);
        for (n, rank, in_16_bits) in parts {
            let kept = if in_16_bits { 2 } else { 4 };
            let bytes = n.saturating_mul(4 + kept).saturating_add(rank.saturating_mul(16 * kept));
            sum = sum.saturating_add(bytes);
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
