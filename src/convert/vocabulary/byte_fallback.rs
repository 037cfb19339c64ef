//! `tokenizer.json` of a SentencePiece vocabulary, where the checkpoint has no `tokenizer.model`.

use bise_models::tokenizer::TokenType;
use serde_json::Value;

use super::tokenizer_json::TokenizerJson;
use super::tokens::{ADDED_SCORE, Tokens, looks_special};
use crate::convert::ConvertError;

impl TokenizerJson {
    /// Whether the vocabulary is one of SentencePiece: pieces with `▁` for spaces, and bytes for unknown characters.
    pub fn is_sentence_piece(&self) -> bool {
        self.flag("byte_fallback")
            && self.json.get(&["decoder", "type"]).and_then(Value::as_str) == Some("Sequence")
    }

    /// The pieces of a SentencePiece vocabulary.
    ///
    /// `tokenizer.json` has no scores, but the order of the merges is the order of the scores: the pieces that merges make get 0, −1, −2 and so on.
    ///
    /// # Errors
    /// As for [`Self::for_each_merge`].
    pub fn pieces(&self) -> Result<Tokens, ConvertError> {
        let mut tokens = Tokens::default();
        for (id, text) in (0_u32..).zip(&self.texts) {
            let Some(text) = text else {
                tokens.push(format!("[PAD{id}]"), TokenType::Unused);
                continue;
            };
            let kind = match self.added.get(&id) {
                _ if is_byte(text) => TokenType::Byte,
                Some(token) if token.is_special || looks_special(text) => TokenType::Control,
                Some(_) => TokenType::UserDefined,
                None => TokenType::Normal,
            };
            let is_user_defined = kind == TokenType::UserDefined;
            tokens.push(if is_user_defined { text.replace('▁', " ") } else { text.clone() }, kind);
        }
        tokens.scores = vec![ADDED_SCORE; tokens.len()];
        let mut scored = vec![false; tokens.len()];
        let mut score = 0.0;
        self.for_each_merge(|_, _, id| {
            if !std::mem::replace(&mut scored[id as usize], true) {
                tokens.scores[id as usize] = score;
                score -= 1.0;
            }
        })?;
        Ok(tokens)
    }

    /// Whether a space goes before text, if the file says so in a way known here.
    pub fn adds_space_prefix(&self) -> Option<bool> {
        let (mut says, mut adds) = (false, false);
        for step in steps(self.json.get(&["normalizer"]), "normalizers") {
            says |= step.get("type").is_some_and(|kind| kind == "Replace" || kind == "Prepend");
            adds |= step.get("type").is_some_and(|kind| kind == "Prepend");
        }
        for step in steps(self.json.get(&["pre_tokenizer"]), "pretokenizers") {
            if step.get("type").is_some_and(|kind| kind == "Metaspace") {
                says = true;
                adds |= match step.get("prepend_scheme").and_then(Value::as_str) {
                    Some(scheme) => scheme != "never",
                    None => step.get("add_prefix_space").is_none_or(|add| add == true),
                };
            }
        }
        says.then_some(adds)
    }
}

/// The parts of a normalizer, a pre-tokenizer or the like, which may be a sequence of them.
pub(super) fn steps<'a>(value: Option<&'a Value>, plural: &str) -> Vec<&'a Value> {
    let Some(value) = value else { return Vec::new() };
    match value.get(plural).and_then(Value::as_array) {
        Some(parts) => parts.iter().flat_map(|part| steps(Some(part), plural)).collect(),
        None => vec![value],
    }
}

/// Whether a piece is spelled `<0x0A>`.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
