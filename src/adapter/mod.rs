//! Files of adapters (LoRA): folders of PEFT and GGUF files, read, written and turned into each other.
//!
//! [`load`] reads either for a model that runs. [`peft`] and [`gguf`] read and write them for a model of which only the configuration is known.

#[cfg(feature = "convert")]
mod encode;
pub(crate) mod error;
mod for_engine;
#[cfg(feature = "convert")]
pub mod gguf;
pub(crate) mod list;
pub(crate) mod load;
#[cfg(feature = "convert")]
mod merge;
#[cfg(feature = "convert")]
mod open;
#[cfg(feature = "convert")]
pub mod peft;
#[cfg(feature = "convert")]
mod summary;
mod target;

pub use bise_models::{Adapter, AdapterError, GgufAdapter, LowRank};
pub use error::AdapterFileError;
pub use list::Adapters;
pub use load::{folder_of, load};
#[cfg(feature = "convert")]
pub use merge::{Merge, Merged};
#[cfg(feature = "convert")]
pub use open::{AdapterFile, AdapterFormat, base_config};
#[cfg(feature = "convert")]
pub use summary::{AdapterSummary, PartSummary};
pub use target::Target;
