//! The tokenizer of a checkpoint as keys of a GGUF file.
//!
//! | file | vocabulary |
//! |---|---|
//! | `tokenizer.model` | SentencePiece |
//! | `tokenizer.json` | byte-level, or SentencePiece without scores |
//! | `tekken.json` | byte-level |
//!
//! Keys and values are those of llama.cpp's converter; `docs/convert.md` lists what differs, and why.

mod alphabet;
mod byte_fallback;
mod byte_level;
pub(super) mod files;
mod pre_tokenizer;
mod sentence_piece;
mod special;
mod tekken;
mod tokenizer_json;
mod tokens;
pub(super) mod version;

use std::path::PathBuf;

use bise_models::gguf::{Array, Metadata};
use bise_models::tokenizer::Tokenizer;

use self::files::{Folder, invalid};
use self::sentence_piece::{Model, SpecialIds};
use self::tekken::Tekken;
use self::tokenizer_json::TokenizerJson;
use self::tokens::Tokens;
use self::version::{Native, Version};
use super::ConvertError;
use super::layout::Layout;

/// Where a vocabulary was found.
#[derive(Debug)]
pub(super) struct Found {
    /// The file that has the tokens.
    pub path: PathBuf,
    /// What it is if it is one of Mistral's own files.
    pub native: Option<Native>,
}

/// Sets the `tokenizer.ggml.*` keys of a checkpoint. `n_rows` is the number of rows of the embedding; a line for each thing that differs from the
/// checkpoint's own tokenizer goes to `notes`.
///
/// # Errors
/// If there is no tokenizer, a file of it is invalid or of a kind that `bise` cannot run, or it has more tokens than the embedding has rows.
pub(super) fn set(
    folder: Folder<'_>,
    layout: Layout,
    n_rows: usize,
    metadata: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<Found, ConvertError> {
    let found = match layout {
        Layout::HuggingFace if !folder.has("tekken.json") || folder.has("tokenizer.json") => {
            Found { path: hugging_face(folder, n_rows, metadata, notes)?, native: None }
        }
        _ => native(folder, n_rows, metadata, notes)?,
    };
    // What could not be used is better said now than after hours of conversion.
    match Tokenizer::from_metadata(metadata) {
        Ok(_) => Ok(found),
        Err(error) => Err(invalid(&found.path, "vocabulary", error.to_string(), "one that can be used")),
    }
}

/// The tokenizer of a Hugging Face checkpoint. Returns the file that has it.
fn hugging_face(
    folder: Folder<'_>,
    n_rows: usize,
    metadata: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<PathBuf, ConvertError> {
    let config = folder.json("tokenizer_config.json")?;
    let configured_prefix = config.as_ref().and_then(|config| config.get(&["add_prefix_space"])?.as_bool());
    if let Some(adds) = configured_prefix {
        metadata.set("tokenizer.ggml.add_space_prefix", adds);
    }
    let (path, tokens) = if let Some(model) = Model::read(folder, "tokenizer.model")? {
        // transformers ask the configuration alone about spaces.
        metadata.set("tokenizer.ggml.model", "llama");
        metadata.set("tokenizer.ggml.pre", "default");
        notes.extend(model.notes());
        (model.path().to_owned(), model.tokens_with_added(folder, n_rows, notes)?)
    } else if let Some(json) = TokenizerJson::read(folder)? {
        let path = json.json.path.clone();
        let tokens = match json.is_sentence_piece() {
            true => from_pieces(&json, configured_prefix, n_rows, metadata, notes)?,
            false => from_byte_level(&json, n_rows, metadata, notes)?,
        };
        (path, tokens)
    } else {
        return Err(missing(folder, "tokenizer.model, tokenizer.json or tekken.json"));
    };
    let texts = tokens.texts.clone();
    tokens.set(metadata);
    special::set(folder, &texts, metadata, notes)?;
    // Code Llama's end of an answer that fills a gap.
    if texts.len() == 32016 && texts[32010] == "▁<EOT>" {
        metadata.set("tokenizer.ggml.eot_token_id", 32010_u32);
    }
    if texts.len() == 49152 {
        metadata.set("tokenizer.ggml.add_bos_token", false);
    }
    Ok(path)
}

/// A SentencePiece vocabulary from `tokenizer.json`.
fn from_pieces(
    json: &TokenizerJson,
    prefix: Option<bool>,
    n_rows: usize,
    metadata: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<Tokens, ConvertError> {
    metadata.set("tokenizer.ggml.model", "llama");
    metadata.set("tokenizer.ggml.pre", "default");
    if prefix.is_none() && json.adds_space_prefix() == Some(false) {
        metadata.set("tokenizer.ggml.add_space_prefix", false);
    }
    let mut tokens = json.pieces()?;
    json.drop_unembedded(&mut tokens, n_rows, notes);
    tokens.pad(n_rows, &json.json.path)?;
    Ok(tokens)
}

/// A byte-level vocabulary from `tokenizer.json`.
fn from_byte_level(
    json: &TokenizerJson,
    n_rows: usize,
    metadata: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<Tokens, ConvertError> {
    let pre = json.pre_tokenizer()?;
    let mut tokens = json.byte_level_tokens()?;
    json.drop_unembedded(&mut tokens, n_rows, notes);
    tokens.pad(n_rows, &json.json.path)?;
    metadata.set("tokenizer.ggml.model", "gpt2");
    metadata.set("tokenizer.ggml.pre", pre);
    metadata.set("tokenizer.ggml.merges", Array::Str(json.merges()?));
    if json.json.get(&["normalizer"]).is_some() {
        notes.push(
            "tokenizer.json: its normalization of text is left out: texts that it changes get other tokens"
                .to_owned(),
        );
    }
    // The rule is the same under several names; llama.cpp's converter knows some vocabularies by theirs.
    if pre != "pixtral" {
        let mut shown = metadata.clone();
        Tokens { texts: tokens.texts.clone(), types: tokens.types.clone(), scores: Vec::new() }
            .set(&mut shown);
        if let Some(name) = json.known_name(&shown) {
            metadata.set("tokenizer.ggml.pre", name);
        }
    }
    Ok(tokens)
}

/// The tokenizer of Mistral's own checkpoints.
fn native(
    folder: Folder<'_>,
    n_rows: usize,
    metadata: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<Found, ConvertError> {
    let (path, mut tokens, ids, native) = if let Some(tekken) = Tekken::read(folder)? {
        metadata.set("tokenizer.ggml.model", "gpt2");
        metadata.set("tokenizer.ggml.pre", "tekken");
        metadata.set("tokenizer.ggml.merges", Array::Str(tekken.merges()?));
        let native = Native { version: tekken.version, is_tekken: true };
        (tekken.path().to_owned(), tekken.tokens(), tekken.special_ids(), native)
    } else if let Some((name, version)) = sentence_piece_file(folder)?
        && let Some(model) = Model::read(folder, &name)?
    {
        metadata.set("tokenizer.ggml.model", "llama");
        if !model.adds_space_prefix() {
            metadata.set("tokenizer.ggml.add_space_prefix", false);
        }
        if model.removes_extra_whitespaces() {
            metadata.set("tokenizer.ggml.remove_extra_whitespaces", true);
        }
        notes.extend(model.notes());
        (model.path().to_owned(), model.tokens(), model.special_ids(), Native { version, is_tekken: false })
    } else {
        return Err(missing(folder, "tekken.json or tokenizer.model, with or without a version such as .v3"));
    };
    tokens.pad(n_rows, &path)?;
    if native.is_tekken {
        // Whole numbers, as in llama.cpp's files.
        metadata.set("tokenizer.ggml.scores", Array::I32(vec![0; tokens.len()]));
    }
    tokens.set(metadata);
    let SpecialIds { bos, eos, unk, pad } = ids;
    for (role, id) in [("bos", bos), ("eos", eos), ("unknown", unk), ("padding", pad.or(eos))] {
        if let Some(id) = id {
            metadata.set(&format!("tokenizer.ggml.{role}_token_id"), id);
        }
    }
    metadata.set("tokenizer.ggml.add_bos_token", true);
    metadata.set("tokenizer.ggml.add_eos_token", false);
    Ok(Found { path, native: Some(native) })
}

/// The name of the SentencePiece model in a folder, and its version: the last one in order of names.
fn sentence_piece_file(folder: Folder<'_>) -> Result<Option<(String, Version)>, ConvertError> {
    let failed = |error| ConvertError::File { path: folder.0.to_owned(), action: "list", error };
    let mut last: Option<(String, Version)> = None;
    for entry in std::fs::read_dir(folder.0).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if let Some(version) = Version::of_file(&name)
            && last.as_ref().is_none_or(|(other, _)| *other < name)
        {
            last = Some((name, version));
        }
    }
    Ok(last)
}

fn missing(folder: Folder<'_>, expected: &str) -> ConvertError {
    invalid(folder.0, "tokenizer", "none", expected)
}
