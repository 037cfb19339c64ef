//! LoRA (<https://arxiv.org/abs/2106.09685>): small matrices beside those of a model, which stay as they are.

mod error;
mod from_gguf;
mod low_rank;
mod tensor_name;

use std::fmt;

pub use error::AdapterError;
pub use from_gguf::GgufAdapter;
pub use low_rank::LowRank;

use crate::mistral::Mistral;
use crate::site::Site;

/// Adapters beside some of a model's matrices.
///
/// It fits the model that it was checked against, and others of the same shapes.
pub struct Adapter {
    name: String,
    /// In order of their sites.
    parts: Vec<(Site, LowRank)>,
}

impl Adapter {
    /// The adapter of `parts`. Messages call it `name`.
    ///
    /// # Errors
    /// For a matrix that `model` does not have or that has two parts, for shapes that do not fit, a rank of 0, numbers that are not finite,
    /// and no parts at all.
    pub fn new(
        name: String,
        model: &Mistral,
        parts: impl IntoIterator<Item = (Site, LowRank)>,
    ) -> Result<Adapter, AdapterError> {
        let mut parts: Vec<(Site, LowRank)> = parts.into_iter().collect();
        parts.sort_by_key(|(site, _)| *site);
        if parts.is_empty() {
            return Err(AdapterError::Empty { adapter: name.as_str().into() });
        }
        if let Some(pair) = parts.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let what = format!("{}.weight", pair[0].0);
            return Err(AdapterError::tensor(&name, what, "two parts for it", "one"));
        }
        parts.iter().try_for_each(|(site, part)| part.check(&name, *site, model))?;
        Ok(Adapter { name, parts })
    }

    /// What messages call it: its file, most often.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its parts, in order of layers, then projections. Each is a copy.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = (Site, LowRank)> {
        self.parts.iter().map(|(site, part)| (*site, part.clone()))
    }

    /// Where its parts are, with rank and scale, in the same order.
    pub fn sites(&self) -> impl ExactSizeIterator<Item = (Site, usize, f32)> {
        self.parts.iter().map(|(site, part)| (*site, part.rank, part.scale))
    }
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter")
            .field("name", &self.name)
            .field("n_parts", &self.parts.len())
            .finish_non_exhaustive()
    }
}
