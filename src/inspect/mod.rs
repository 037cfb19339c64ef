//! Looking into model files: hashes of their tensors, whether weights are sound, how two files differ, and how large scales are.
//!
//! Everything goes through a file once, some megabytes at a time on all threads, and leaves none of it in memory.

mod difference;
mod hash;
mod histogram;
mod manifest;
mod verify;
mod walk;

pub use difference::{Difference, KeyDifference, TensorDifference, WeightError, difference};
pub use hash::{HashKind, TensorHash, hash};
pub use histogram::{Histogram, histogram};
pub use manifest::{Found, Manifest, ManifestError};
pub use verify::{Fault, Verified, verify};
