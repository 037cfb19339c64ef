//! Models are compared token by token, so their vocabularies must be one.

use std::path::PathBuf;

use anyhow::{Result, bail};
use bise::EngineOptions;
use bise::gguf::GgufFile;
use bise::tokenizer::Tokenizer;
use bise_models::printable::{Printable, printable};

use crate::cli::load;

/// Errs where the vocabulary of a file is not that of the first; `None` is the built-in model. Returns the files of all models, parts of split
/// ones included.
///
/// # Errors
/// That, and files that cannot be read.
pub fn check(paths: &[Option<PathBuf>]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut first: Option<(String, Tokenizer)> = None;
    for path in paths {
        let (name, tokenizer) = match path {
            Some(path) => {
                let file = GgufFile::open(path)?;
                files.extend(file.paths().map(PathBuf::from));
                (file.name().to_owned(), Tokenizer::from_metadata(file.metadata())?)
            }
            None => {
                let engine = load::builtin(&EngineOptions::default())?;
                (engine.file().name().to_owned(), Tokenizer::from_metadata(engine.file().metadata())?)
            }
        };
        match &first {
            None => first = Some((name, tokenizer)),
            Some((first_name, expected)) => {
                if let Some((what, found, expected)) = difference(&tokenizer, expected) {
                    bail!(
                        "{name}: {what}: found {found}, expected {expected} as in {first_name}: models of different vocabularies \
                         cannot be compared token by token"
                    );
                }
            }
        }
    }
    Ok(files)
}

/// What the first difference is, and both sides of it.
fn difference(found: &Tokenizer, expected: &Tokenizer) -> Option<(String, String, String)> {
    let (n_found, n_expected) = (found.n_vocab(), expected.n_vocab());
    if n_found != n_expected {
        return Some(("tokens of the vocabulary".into(), n_found.to_string(), n_expected.to_string()));
    }
    let n_vocab = u32::try_from(n_found).unwrap_or(u32::MAX);
    if let Some(id) = (0..n_vocab).find(|&id| found.piece(id) != expected.piece(id)) {
        let quoted = |piece: &[u8]| format!("'{}'", printable(piece));
        return Some((format!("token {id}"), quoted(found.piece(id)), quoted(expected.piece(id))));
    }
    let begins = |tokenizer: &Tokenizer| match tokenizer.bos().filter(|_| tokenizer.adds_bos()) {
        Some(id) => format!("the token {id}"),
        None => "none".to_owned(),
    };
    let (found, expected) = (begins(found), begins(expected));
    let what = "token before a text (tokenizer.ggml.add_bos_token, bos_token_id)";
    (found != expected).then(|| (what.to_owned(), Printable(found).to_string(), expected))
}
