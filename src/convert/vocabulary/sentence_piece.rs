//! `tokenizer.model`: SentencePiece's own files.
//!
//! The fields are those of `sentencepiece_model.proto`; what is not needed is skipped.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bise_models::tokenizer::TokenType;
use prost::Message;

use super::files::{Folder, invalid, quoted};
use super::tokens::{ADDED_SCORE, Tokens, looks_special};
use crate::convert::ConvertError;
use crate::convert::json_file::is_lfs_pointer;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<PieceProto>,
    #[prost(message, optional, tag = "2")]
    trainer_spec: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer_spec: Option<NormalizerSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct PieceProto {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3", default = "1")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    #[prost(int32, optional, tag = "3", default = "1")]
    model_type: Option<i32>,
    #[prost(string, optional, tag = "45", default = "<unk>")]
    unk_piece: Option<String>,
    #[prost(string, optional, tag = "46", default = "<s>")]
    bos_piece: Option<String>,
    #[prost(string, optional, tag = "47", default = "</s>")]
    eos_piece: Option<String>,
    #[prost(string, optional, tag = "48", default = "<pad>")]
    pad_piece: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct NormalizerSpec {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3", default = "true")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4", default = "true")]
    remove_extra_whitespaces: Option<bool>,
}

/// A SentencePiece model.
#[derive(Debug)]
pub(super) struct Model {
    path: PathBuf,
    proto: ModelProto,
}

impl Model {
    /// Reads the file called `name`, if there is one.
    ///
    /// # Errors
    /// If it cannot be read, is not a SentencePiece model, or has a piece without a text or of an unknown kind, a score that is not finite, or two
    /// pieces with the same text.
    pub fn read(folder: Folder<'_>, name: &str) -> Result<Option<Model>, ConvertError> {
        let Some(bytes) = folder.bytes(name)? else { return Ok(None) };
        let path = folder.path(name);
        if is_lfs_pointer(&bytes) {
            let expected = "a SentencePiece model: fetch the file itself, as with git lfs pull";
            return Err(invalid(&path, "the file", "a pointer of Git LFS", expected));
        }
        let proto = ModelProto::decode(bytes.as_slice())
            .map_err(|error| invalid(&path, "the file", error.to_string(), "a SentencePiece model"))?;
        let model = Model { path, proto };
        model.check()?;
        Ok(Some(model))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check(&self) -> Result<(), ConvertError> {
        let pieces = &self.proto.pieces;
        if pieces.is_empty() {
            return Err(self.invalid("the file", "no pieces", "a SentencePiece model"));
        }
        let mut ids = HashMap::with_capacity(pieces.len());
        for (id, piece) in pieces.iter().enumerate() {
            let what = format!("piece {id}");
            if piece.piece().is_empty() {
                return Err(self.invalid(&what, "no text", "a text"));
            }
            if !piece.score().is_finite() {
                return Err(self.invalid(&what, format!("the score {}", piece.score()), "a finite number"));
            }
            if !(1..=6).contains(&piece.kind()) {
                return Err(self.invalid(&what, format!("kind {}", piece.kind()), "a kind from 1 to 6"));
            }
            if let Some(other) = ids.insert(piece.piece(), id) {
                let found = format!("{}, as piece {other}", quoted(piece.piece()));
                return Err(self.invalid(&what, found, "pieces that differ"));
            }
        }
        Ok(())
    }

    fn invalid(&self, what: &str, found: impl Into<String>, expected: impl Into<String>) -> ConvertError {
        invalid(&self.path, what, found, expected)
    }

    /// What the model does that a GGUF file cannot say, a line for each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let model_type = self.trainer().model_type();
        if model_type != 2 {
            let kind = ["unigram", "BPE", "word", "char"].get(model_type.wrapping_sub(1) as usize);
            notes.push(format!(
                "{name}: a SentencePiece model of the type {} is used as BPE: some texts get other tokens",
                kind.map_or_else(|| model_type.to_string(), |kind| (*kind).to_owned())
            ));
        }
        let normalizer = self.normalizer();
        if !normalizer.precompiled_charsmap().is_empty() {
            notes.push(format!(
                "{name}: the normalization {} of text is left out: texts that it changes get other tokens",
                quoted(normalizer.name())
            ));
        }
        notes
    }

    fn trainer(&self) -> TrainerSpec {
        self.proto.trainer_spec.clone().unwrap_or_default()
    }

    fn normalizer(&self) -> NormalizerSpec {
        self.proto.normalizer_spec.clone().unwrap_or_default()
    }

    /// Whether a space goes before text.
    pub fn adds_space_prefix(&self) -> bool {
        self.normalizer().add_dummy_prefix()
    }

    /// Whether runs of spaces become one.
    pub fn removes_extra_whitespaces(&self) -> bool {
        self.normalizer().remove_extra_whitespaces()
    }

    /// Beginning of text, end of text, unknown, padding: where the model has a piece for each.
    pub fn special_ids(&self) -> SpecialIds {
        let trainer = self.trainer();
        let find = |text: &str, kind| {
            let is_it = |piece: &PieceProto| piece.piece() == text && piece.kind() == kind as i32;
            Some(self.proto.pieces.iter().position(is_it)? as u32)
        };
        SpecialIds {
            bos: find(trainer.bos_piece(), TokenType::Control),
            eos: find(trainer.eos_piece(), TokenType::Control),
            unk: find(trainer.unk_piece(), TokenType::Unknown),
            pad: find(trainer.pad_piece(), TokenType::Control),
        }
    }

    /// The pieces as Mistral's own checkpoints have them: nothing is added.
    pub fn tokens(&self) -> Tokens {
        let mut tokens = Tokens::default();
        for piece in &self.proto.pieces {
            tokens.push(piece.piece().to_owned(), token_type(piece));
            tokens.scores.push(piece.score());
        }
        tokens
    }

    /// The pieces with what a Hugging Face checkpoint adds in `added_tokens.json` and in the `added_tokens_decoder` of `tokenizer_config.json`:
    /// `n_rows` tokens.
    ///
    /// # Errors
    /// If these files are invalid.
    pub fn tokens_with_added(
        &self,
        folder: Folder<'_>,
        n_rows: usize,
        notes: &mut Vec<String>,
    ) -> Result<Tokens, ConvertError> {
        let mut tokens = Tokens::padding(n_rows, &self.path)?;
        for (id, piece) in self.proto.pieces.iter().enumerate().take(n_rows) {
            tokens.replace(id, piece.piece(), token_type(piece), piece.score());
        }
        let mut n_left_out = self.proto.pieces.len().saturating_sub(n_rows);
        if let Some(added) = folder.json("added_tokens.json")? {
            for (text, id) in &added.fields {
                let id = added.as_u32(id, &format!("the id of {}", quoted(text)))? as usize;
                match id < n_rows {
                    true => tokens.replace(id, text, TokenType::UserDefined, ADDED_SCORE),
                    false => n_left_out += 1,
                }
            }
        }
        if let Some(config) = folder.json("tokenizer_config.json")?
            && let Some(decoder) = config.get(&["added_tokens_decoder"])
        {
            let what = "\"added_tokens_decoder\"";
            let Some(decoder) = decoder.as_object() else {
                return Err(config.invalid(what, super::files::kind(decoder), "an object of tokens by id"));
            };
            let mut replaced = Vec::new();
            for (key, token) in decoder {
                let Ok(id) = key.trim().parse::<u32>() else {
                    return Err(config.invalid(what, quoted(key), "ids as keys"));
                };
                let what = format!("\"added_tokens_decoder.{id}\"");
                let Some(text) = token.get("content").and_then(|text| text.as_str()) else {
                    return Err(config.invalid(&what, "no \"content\"", "the text of a token"));
                };
                let id = id as usize;
                if let Some(piece) = self.proto.pieces.get(id)
                    && piece.piece() != text
                {
                    replaced.push(format!("{} becomes {} (token {id})", quoted(piece.piece()), quoted(text)));
                }
                if id >= n_rows {
                    n_left_out += 1;
                } else if token.get("special").is_some_and(|special| special == true) || looks_special(text) {
                    tokens.replace(id, text, TokenType::Control, ADDED_SCORE);
                } else {
                    tokens.replace(id, &text.replace('▁', " "), TokenType::UserDefined, ADDED_SCORE);
                }
            }
            if let Some(first) = replaced.first() {
                notes.push(format!(
                    "tokenizer_config.json: \"added_tokens_decoder\" replaces {} pieces of the vocabulary: {first}{}",
                    replaced.len(),
                    if replaced.len() > 1 { " and so on" } else { "" }
                ));
            }
        }
        let mut ids = HashMap::with_capacity(tokens.len());
        let mut doubled = Vec::new();
        for (id, text) in tokens.texts.iter().enumerate() {
            if let Some(first) = ids.insert(text.as_str(), id) {
                doubled.push(format!("{} is token {first} and token {id}", quoted(text)));
            }
        }
        if let Some(first) = doubled.first() {
            notes.push(format!("{} added tokens are there already: {first}", doubled.len()));
        }
        if n_left_out > 0 {
            notes.push(format!(
                "{n_left_out} tokens have ids beyond the {n_rows} rows of the embedding and are left out"
            ));
        }
        Ok(tokens)
    }
}

/// Ids with a role.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct SpecialIds {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unk: Option<u32>,
    pub pad: Option<u32>,
}

/// The type of a piece. The pieces that a model was trained with at the user's wish are ordinary ones to converters, and
/// so to every GGUF file of these models; what Mistral's own vocabularies call so is known by name when a file is read.
fn token_type(piece: &PieceProto) -> TokenType {
    match piece.kind() {
        2 => TokenType::Unknown,
        3 => TokenType::Control,
        5 => TokenType::Unused,
        6 => TokenType::Byte,
        _ => TokenType::Normal,
    }
}
