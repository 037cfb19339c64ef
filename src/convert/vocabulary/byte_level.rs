//! `tokenizer.json` of a byte-level vocabulary: tekken, Llama 3, SmolLM.

use bise_models::tokenizer::TokenType;
use serde_json::Value;

use super::tokenizer_json::TokenizerJson;
use super::tokens::{Tokens, looks_special};
use crate::convert::ConvertError;

impl TokenizerJson {
    /// The tokens of a byte-level vocabulary.
    ///
    /// # Errors
    /// If the decoder is not byte-level.
    pub fn byte_level_tokens(&self) -> Result<Tokens, ConvertError> {
        let decoder = self.json.get(&["decoder", "type"]).and_then(Value::as_str);
        if decoder != Some("ByteLevel") {
            let found = decoder.map_or_else(|| "nothing".to_owned(), super::files::quoted);
            let expected = "\"ByteLevel\", or \"Sequence\" in a vocabulary with \"byte_fallback\"";
            return Err(self.json.invalid("\"decoder.type\"", found, expected));
        }
        let mut tokens = Tokens::default();
        for (id, text) in (0_u32..).zip(&self.texts) {
            match (text, self.added.get(&id)) {
                (None, _) => tokens.push(format!("[PAD{id}]"), TokenType::Unused),
                (Some(text), None) => tokens.push(text.clone(), TokenType::Normal),
                (Some(text), Some(token)) if token.is_special || looks_special(text) => {
                    tokens.push(text.clone(), TokenType::Control);
                }
                (Some(text), Some(_)) => tokens.push(text.replace('▁', " "), TokenType::UserDefined),
            }
        }
        Ok(tokens)
    }
}
