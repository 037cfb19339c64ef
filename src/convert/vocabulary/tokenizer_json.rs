//! `tokenizer.json`: the files of Hugging Face's tokenizers.

use std::collections::HashMap;

use bise_models::gguf::StrArray;
use serde_json::Value;

use super::files::{Folder, Json, content, kind, quoted};
use super::tokens::Tokens;
use crate::convert::ConvertError;

/// A token that was added to a vocabulary.
#[derive(Debug, Clone)]
pub(super) struct AddedToken {
    pub text: String,
    pub is_special: bool,
}

/// A `tokenizer.json` of the type BPE.
#[derive(Debug)]
pub(super) struct TokenizerJson {
    pub json: Json,
    /// The text of each token, `None` where no token has the id. Added tokens too.
    pub texts: Vec<Option<String>>,
    /// Added tokens by id; some of them may be in the vocabulary already.
    pub added: HashMap<u32, AddedToken>,
}

/// Ids beyond any vocabulary's.
const MAX_ID: u32 = 1 << 22;

impl TokenizerJson {
    /// Reads `tokenizer.json`, if there is one, with the tokens that `tokenizer_config.json` adds.
    ///
    /// # Errors
    /// If one of them cannot be read, the model is not BPE, or ids or tokens are doubled or do not fit together.
    pub fn read(folder: Folder<'_>) -> Result<Option<TokenizerJson>, ConvertError> {
        let Some(json) = folder.json("tokenizer.json")? else { return Ok(None) };
        let model = json.require(&["model"], "an object")?;
        // Old files do not say.
        let model_type = model.get("type").and_then(Value::as_str).unwrap_or("BPE");
        if model_type != "BPE" {
            return Err(ConvertError::Unsupported {
                path: json.path.clone(),
                what: format!("a tokenizer of the type {}", quoted(model_type)),
                reason: "models of Mistral's family have BPE".to_owned(),
            });
        }
        let Some(vocab) = model.get("vocab").and_then(Value::as_object) else {
            return Err(json.invalid("\"model.vocab\"", "no object", "an object of ids by token"));
        };
        let mut by_id: HashMap<u32, &str> = HashMap::with_capacity(vocab.len());
        for (text, id) in vocab {
            let id = checked_id(&json, id, &format!("the id of {}", quoted(text)))?;
            if let Some(other) = by_id.insert(id, text) {
                let what = format!("id {id} of \"model.vocab\"");
                return Err(json.invalid(
                    &what,
                    format!("{} and {}", quoted(other), quoted(text)),
                    "one token",
                ));
            }
        }
        let mut texts = vec![None; by_id.keys().max().map_or(0, |&last| last as usize + 1)];
        for (id, text) in by_id {
            texts[id as usize] = Some(text.to_owned());
        }
        let mut tokenizer = TokenizerJson { texts, added: HashMap::new(), json };
        let added = tokenizer.json.fields.get("added_tokens").and_then(Value::as_array).cloned();
        for (at, token) in added.into_iter().flatten().enumerate() {
            let what = format!("token {at} of \"added_tokens\"");
            let id = checked_id(&tokenizer.json, token.get("id").unwrap_or(&Value::Null), &what)?;
            tokenizer.add(id, &token, &what, None)?;
        }
        if let Some(config) = folder.json("tokenizer_config.json")?
            && let Some(decoder) = config.get(&["added_tokens_decoder"]).and_then(Value::as_object)
        {
            for (key, token) in decoder {
                let what = format!("{} of \"added_tokens_decoder\"", quoted(key));
                let Some(id) = key.trim().parse::<u32>().ok().filter(|&id| id < MAX_ID) else {
                    return Err(config.invalid(&what, quoted(key), format!("an id below {MAX_ID}")));
                };
                // The tokenizer itself is right where the two differ.
                if !tokenizer.added.contains_key(&id)
                    && tokenizer.id_of(content(token).unwrap_or_default()).is_none()
                {
                    tokenizer.add(id, token, &what, Some(&config))?;
                }
            }
        }
        Ok(Some(tokenizer))
    }

    /// Adds a token that `file` or else `tokenizer.json` describes.
    fn add(&mut self, id: u32, token: &Value, what: &str, file: Option<&Json>) -> Result<(), ConvertError> {
        let file = file.unwrap_or(&self.json);
        let Some(text) = content(token) else {
            return Err(file.invalid(what, "no \"content\"", "the text of a token"));
        };
        let at = id as usize;
        if at >= self.texts.len() {
            self.texts.resize(at + 1, None);
        }
        match &self.texts[at] {
            Some(other) if other != text => {
                let found = format!("{} with the id {id}, which is {}'s", quoted(text), quoted(other));
                return Err(file.invalid(what, found, "an id of its own"));
            }
            Some(_) => {}
            None => self.texts[at] = Some(text.to_owned()),
        }
        let is_special = token.get("special").is_some_and(|special| special == true);
        self.added.insert(id, AddedToken { text: text.to_owned(), is_special });
        Ok(())
    }

    /// Drops the last added tokens while there are more tokens than rows in the embedding (`n_rows`), and notes which: some checkpoints add tokens to
    /// the tokenizer without resizing the model.
    pub fn drop_unembedded(&self, tokens: &mut Tokens, n_rows: usize, notes: &mut Vec<String>) {
        let vocab = self.json.get(&["model", "vocab"]);
        let is_added = |id: usize, text: &str| {
            self.added.contains_key(&(id as u32)) && vocab.is_some_and(|vocab| vocab.get(text).is_none())
        };
        let mut dropped = Vec::new();
        while tokens.len() > n_rows {
            // Ids that no token has are filled up.
            match self.texts.get(tokens.len() - 1) {
                Some(Some(text)) if is_added(tokens.len() - 1, text) => dropped.extend(tokens.pop()),
                Some(Some(_)) => break,
                Some(None) | None => drop(tokens.pop()),
            }
        }
        if let Some(first) = dropped.last() {
            notes.push(format!(
                "{} added tokens, from {} on, have ids beyond the {n_rows} rows of the embedding and are left out",
                dropped.len(),
                quoted(first)
            ));
        }
    }

    /// The id of an added token.
    pub fn id_of(&self, text: &str) -> Option<u32> {
        self.added.iter().find(|(_, token)| token.text == text).map(|(&id, _)| id)
    }

    /// A truth value of the model.
    pub fn flag(&self, name: &str) -> bool {
        self.json.get(&["model", name]).is_some_and(|value| value == true)
    }

    /// Ids by token.
    pub fn ids(&self) -> HashMap<&str, u32> {
        (0..).zip(&self.texts).filter_map(|(id, text)| Some((text.as_deref()?, id))).collect()
    }

    /// The merges in the form `left right`, as GGUF files have them.
    ///
    /// # Errors
    /// If there are none, or one is not made of two tokens that together are a third.
    pub fn merges(&self) -> Result<StrArray, ConvertError> {
        let mut merges = StrArray::default();
        self.for_each_merge(|left, right, _| {
            // Spaces inside a token stand as in the alphabet of bytes.
            merges.push(format!("{} {}", left.replace(' ', "Ġ"), right.replace(' ', "Ġ")).as_bytes());
        })?;
        Ok(merges)
    }

    /// Calls `each` with the halves of every merge and the id of what they make, in order.
    ///
    /// # Errors
    /// As for [`Self::merges`].
    pub fn for_each_merge(&self, mut each: impl FnMut(&str, &str, u32)) -> Result<(), ConvertError> {
        const WHAT: &str = "\"model.merges\"";
        let Some(merges) = self.json.get(&["model", "merges"]).and_then(Value::as_array) else {
            return Err(self.json.invalid(WHAT, "no array", "an array of pairs of tokens"));
        };
        let ids = self.ids();
        let mut whole = String::new();
        for (at, merge) in merges.iter().enumerate() {
            let what = format!("merge {at} of {WHAT}");
            let pair = match merge {
                Value::String(text) => text.split_once(' ').filter(|(_, right)| !right.contains(' ')),
                Value::Array(pair) => match pair.as_slice() {
                    [Value::String(left), Value::String(right)] => Some((left.as_str(), right.as_str())),
                    _ => None,
                },
                _ => None,
            };
            let Some((left, right)) = pair else {
                let found = merge.as_str().map_or_else(|| kind(merge).to_owned(), quoted);
                return Err(self.json.invalid(&what, found, "two tokens"));
            };
            whole.clear();
            whole.push_str(left);
            whole.push_str(right);
            for text in [left, right, &whole] {
                if !ids.contains_key(text) {
                    let found = format!("{}, which is not in \"model.vocab\"", quoted(text));
                    return Err(self.json.invalid(&what, found, "tokens of the vocabulary"));
                }
            }
            each(left, right, ids[whole.as_str()]);
        }
        match merges.is_empty() {
            true => Err(self.json.invalid(WHAT, "an empty array", "pairs of tokens")),
            false => Ok(()),
        }
    }
}

fn checked_id(json: &Json, id: &Value, what: &str) -> Result<u32, ConvertError> {
    let id = json.as_u32(id, what)?;
    match id < MAX_ID {
        true => Ok(id),
        false => Err(json.invalid(what, id.to_string(), format!("an id below {MAX_ID}"))),
    }
}
