//! How much memory a model takes: foretold, kept below a ceiling, and as the system counts it.

pub(crate) mod fit;
mod limit;
mod plan;
mod process;

pub use fit::{Change, DoesNotFit, Remedy, format_bytes};
pub use limit::{MemoryLimit, ParseLimitError};
pub use plan::MemoryPlan;
pub(crate) use plan::{HEAP_GROWTH_BYTES, PROGRAM_GROWTH_BYTES, Program, Streamed, WeightsPlan};
#[cfg(feature = "server")]
pub(crate) use process::give_back;
pub(crate) use process::mapped_bytes;
pub use process::{anonymous_bytes, available_bytes, peak_bytes, resident_bytes};
