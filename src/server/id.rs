//! Ids of responses.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A new id: the prefix, and 32 hexadecimal digits.
pub fn new_id(prefix: &str) -> String {
    // Hashers with random keys are random numbers.
    let random = || RandomState::new().build_hasher().finish();
    format!("{prefix}{:016x}{:016x}", random(), random())
}
