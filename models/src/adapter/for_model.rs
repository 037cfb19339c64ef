//! Adapters for a model at hand.

use super::error::AdapterError;
use super::from_gguf::{EMBEDDING, GgufAdapter};
use super::low_rank::LowRank;
use super::packed::Adapter;
use crate::gguf::GgufFile;
use crate::mistral::Mistral;
use crate::site::Site;

impl Adapter {
    /// The adapter of `parts`. Messages call it `name`.
    ///
    /// # Errors
    /// For a matrix that `model` does not have or that has two parts, for shapes that do not fit, a rank of 0 or above [`LowRank::max_rank`],
    /// numbers that are not finite, and no parts at all; and where there is no memory.
    pub fn new(
        name: String,
        model: &Mistral,
        parts: impl IntoIterator<Item = (Site, LowRank)>,
    ) -> Result<Adapter, AdapterError> {
        Adapter::pack(name, model.config(), parts)
    }

    /// The adapter in a GGUF file, for `model`.
    ///
    /// Tensors `NAME.lora_a [k, rank]` and `NAME.lora_b [rank, n_rows]` (GGUF's order of sizes) belong to the model's matrix `NAME`, and may
    /// have any type that weights have. Of a matrix that holds all experts, they have one more size.
    ///
    /// # Errors
    /// For a file that is no adapter, or one for another architecture or other shapes; for tensors without their counterpart, and for what is
    /// not supported: adapters of the embedding and of norms, and activated LoRA.
    pub fn from_gguf(file: &GgufFile, model: &Mistral) -> Result<Adapter, AdapterError> {
        let read = GgufAdapter::read(file, model.config())?;
        if read.embedding.is_some() {
            let info = file.require_tensor(&format!("{EMBEDDING}.lora_a"))?;
            let expected = "adapters of the model's projections: those of other tensors are not supported";
            return Err(file.tensor_error(info, format!("an adapter of '{EMBEDDING}'"), expected).into());
        }
        let mut adapter = Adapter::new(file.name().to_owned(), model, read.parts)?;
        adapter.warn(file.warnings().iter().cloned());
        Ok(adapter)
    }
}
