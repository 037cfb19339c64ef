//! The adapters of a text.

use std::fmt;
use std::sync::Arc;

use bise_models::{Adapter, MistralConfig, SpanError};
use twox_hash::XxHash3_128;

/// An adapter with the factor on its scale.
type Scaled = (Arc<Adapter>, f32);

/// The adapters that act on a text, each with a factor on its scale, in the order in which what they add is added. Clones share them.
///
/// Those with a factor of 0 are left out. Two lists are equal if their adapters hold the same and have the same factors, in the same order:
/// keys and values computed with one then serve the other.
#[derive(Clone, Default)]
pub struct Adapters {
    list: Option<Arc<[Scaled]>>,
    /// 0 for none.
    fingerprint: u128,
}

impl Adapters {
    /// No adapters.
    pub fn none() -> Adapters {
        Adapters::default()
    }

    /// A list of adapters with factors on their scales.
    pub fn new(list: impl IntoIterator<Item = (Arc<Adapter>, f32)>) -> Adapters {
        let list: Arc<[_]> = list.into_iter().filter(|(_, factor)| *factor != 0.0).collect();
        if list.is_empty() {
            return Adapters::none();
        }
        let mut hash = XxHash3_128::new();
        for (adapter, factor) in list.iter() {
            hash.write(&adapter.fingerprint().to_le_bytes());
            hash.write(&factor.to_bits().to_le_bytes());
        }
        Adapters { list: Some(list), fingerprint: hash.finish_128().max(1) }
    }

    /// One adapter, as it is.
    pub fn one(adapter: Arc<Adapter>) -> Adapters {
        Adapters::new([(adapter, 1.0)])
    }

    /// The adapters and the factors on their scales.
    pub fn as_slice(&self) -> &[(Arc<Adapter>, f32)] {
        self.list.as_deref().unwrap_or_default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_none()
    }

    /// Tells lists apart that are not equal; 0 for none.
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// Errs where they cannot be used with models of this configuration.
    pub(crate) fn check(&self, config: &MistralConfig) -> Result<(), SpanError> {
        for (adapter, factor) in self.as_slice() {
            let name = || adapter.name().to_owned();
            if !adapter.fits(config) {
                return Err(SpanError::AdapterMisfit { name: name() });
            }
            if !factor.is_finite() {
                return Err(SpanError::AdapterScale { name: name(), scale: factor.to_string() });
            }
        }
        Ok(())
    }
}

impl PartialEq for Adapters {
    fn eq(&self, other: &Adapters) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Adapters {}

impl fmt::Debug for Adapters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.as_slice().iter().map(|(adapter, factor)| (adapter.name(), factor)))
            .finish()
    }
}
