//! Token ids from `.npy` files and from lists.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bise::tokenizer::Tokenizer;

use super::npy;

/// A list of ids as typed, `1,2,3`.
#[derive(Clone, Debug)]
pub struct IdList(pub Vec<u32>);

impl std::str::FromStr for IdList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let inside = text.trim().trim_start_matches('[').trim_end_matches(']');
        let id =
            |id: &str| id.trim().parse().map_err(|_| format!("found '{id}', expected token ids as in 1,2,3"));
        inside.split(',').map(id).collect::<Result<_, _>>().map(Self)
    }
}

/// Reads token ids from a `.npy` file.
///
/// # Errors
/// The file is not a list of token ids of this vocabulary.
pub fn from_npy(path: &Path, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let ids = npy::read_ids(path)?;
    check(&ids, tokenizer).with_context(|| path.display().to_string())?;
    Ok(ids)
}

/// Checks that the list is not empty and every id is in the vocabulary.
///
/// # Errors
/// It is empty, or an id is not.
pub fn check(ids: &[u32], tokenizer: &Tokenizer) -> Result<()> {
    ensure!(!ids.is_empty(), "found no token, expected at least one");
    let n_vocab = tokenizer.n_vocab();
    let outside = ids.iter().enumerate().find(|(_, id)| **id as usize >= n_vocab);
    if let Some((at, id)) = outside {
        anyhow::bail!(
            "found token {id} at index {at}, expected ids below {n_vocab}, the size of the vocabulary"
        );
    }
    Ok(())
}
