//! Which tokens begin and end a text, and whether they are added: from a Hugging Face checkpoint's configurations, in the order in which gguf-py's
//! `SpecialVocab` asks them.

use std::collections::HashMap;

use bise_models::gguf::Metadata;
use serde_json::Value;

use super::byte_fallback::steps;
use super::files::{Folder, Json, content};
use crate::convert::ConvertError;

/// The roles that a token may have, and the keys of their ids (gguf-py has none for the token `cls`).
const ROLES: [(&str, Option<&str>); 9] = [
    ("bos", Some("tokenizer.ggml.bos_token_id")),
    ("eos", Some("tokenizer.ggml.eos_token_id")),
    ("unk", Some("tokenizer.ggml.unknown_token_id")),
    ("sep", Some("tokenizer.ggml.seperator_token_id")),
    ("pad", Some("tokenizer.ggml.padding_token_id")),
    ("cls", None),
    ("mask", Some("tokenizer.ggml.mask_token_id")),
    ("eot", Some("tokenizer.ggml.eot_token_id")),
    ("eom", Some("tokenizer.ggml.eom_token_id")),
];

/// Sets the ids of special tokens, and whether they are added to a text. `metadata` holds the vocabulary already.
///
/// # Errors
/// If one of the files cannot be read or is no JSON object.
pub(super) fn set(
    folder: Folder<'_>,
    texts: &[String],
    metadata: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<(), ConvertError> {
    let tokenizer = folder.json("tokenizer.json")?;
    let config = folder.json("tokenizer_config.json")?;
    let model_config = folder.json("config.json")?;
    let mut found = Found::new(config.as_ref());
    if let Some(tokenizer) = &tokenizer {
        for normalizer in steps(tokenizer.get(&["normalizer"]), "normalizers") {
            set_normalizer(normalizer, metadata);
        }
        for processor in steps(tokenizer.get(&["post_processor"]), "processors") {
            found.read_processor(processor);
        }
    }
    let no_tokens = Vec::new();
    let added = tokenizer.as_ref().and_then(|tokenizer| tokenizer.get(&["added_tokens"])?.as_array());
    found.read_config(added.unwrap_or(&no_tokens));
    for (role, _) in ROLES {
        if (role == "eot" || role == "eom") && !found.has_role(role) {
            continue;
        }
        let key = format!("{role}_token_id");
        let id = model_config
            .as_ref()
            .and_then(|config| config.get(&[&key]).or(config.get(&["text_config", &key])));
        if let Some(id) = id {
            found.set_first(role, id, "config.json", notes);
        }
    }
    for role in ["bos", "eos"] {
        if !found.ids.contains_key(role)
            && let Some(id) = by_text(folder, role, config.as_ref(), texts)?
        {
            found.ids.insert(role, id);
        }
    }
    let generation = folder.json("generation_config.json")?;
    for role in ["bos", "eos"] {
        if !found.ids.contains_key(role)
            && let Some(id) =
                generation.as_ref().and_then(|config| config.get(&[&format!("{role}_token_id")]))
        {
            found.set_first(role, id, "generation_config.json", notes);
        }
    }
    for (role, key) in ROLES {
        let (Some(key), Some(&id)) = (key, found.ids.get(role)) else { continue };
        match u32::try_from(id) {
            Ok(id) if (id as usize) < texts.len() => metadata.set(key, id),
            _ => notes.push(format!(
                "the configuration gives the {role} token the id {id}, and there are {} tokens: it is left out",
                texts.len()
            )),
        }
    }
    for role in ["bos", "eos", "sep"] {
        if let Some(&adds) = found.adds.get(role) {
            metadata.set(&format!("tokenizer.ggml.add_{role}_token"), adds);
        }
    }
    Ok(())
}

/// An id that `SpecialVocab` does not find: by the token's text among all tokens.
fn by_text(
    folder: Folder<'_>,
    role: &str,
    config: Option<&Json>,
    texts: &[String],
) -> Result<Option<u64>, ConvertError> {
    let map = folder.json("special_tokens_map.json")?;
    let key = format!("{role}_token");
    for json in [config, map.as_ref()].into_iter().flatten() {
        let text = json.get(&[&key]).and_then(content);
        if let Some(id) = text.and_then(|text| texts.iter().position(|token| token == text)) {
            return Ok(Some(id as u64));
        }
    }
    Ok(None)
}

/// The flags of a normalizer that GGUF has keys for.
fn set_normalizer(normalizer: &Value, metadata: &mut Metadata) {
    let mut set = |name: &str, value: bool| metadata.set(&format!("tokenizer.ggml.normalizer.{name}"), value);
    match normalizer.get("type").and_then(Value::as_str) {
        Some("Lowercase") => set("lowercase", true),
        Some("StripAccents") => set("strip_accents", true),
        Some("BertNormalizer") => {
            for name in ["lowercase", "strip_accents"] {
                if let Some(value) = normalizer.get(name).and_then(Value::as_bool) {
                    set(name, value);
                }
            }
        }
        _ => {}
    }
}

/// What was found so far.
struct Found<'a> {
    config: Option<&'a Json>,
    /// The texts of tokens by role, as the configuration has them or the post-processor corrects them.
    tokens: HashMap<&'static str, String>,
    /// Whether a token is added to texts, by role.
    adds: HashMap<&'static str, bool>,
    ids: HashMap<&'static str, u64>,
    /// Roles beyond the usual ones.
    more_roles: Vec<&'static str>,
}

impl<'a> Found<'a> {
    fn new(config: Option<&'a Json>) -> Found<'a> {
        // An empty configuration is none.
        let config = config.filter(|config| !config.fields.is_empty());
        let mut tokens = HashMap::new();
        for (role, _) in ROLES {
            let text = config.and_then(|config| config.get(&[&format!("{role}_token")])).and_then(content);
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                tokens.insert(role, text.to_owned());
            }
        }
        let mut found =
            Found { config, tokens, adds: HashMap::new(), ids: HashMap::new(), more_roles: Vec::new() };
        found.default_to("bos", "cls");
        found.default_to("eos", "sep");
        found
    }

    /// Gives a role that has no token the id in `value`: a number, or the first of an array of them. GGUF files have no key for the others.
    fn set_first(&mut self, role: &'static str, value: &Value, file: &str, notes: &mut Vec<String>) {
        let listed = value.as_array().map_or(&[][..], Vec::as_slice);
        let Some(id) = value.as_u64().or_else(|| listed.first()?.as_u64()) else { return };
        let id = *self.ids.entry(role).or_insert(id);
        let others: Vec<String> =
            listed.iter().filter(|other| other.as_u64() != Some(id)).map(Value::to_string).collect();
        if !others.is_empty() {
            notes.push(format!(
                "{file}: \"{role}_token_id\" has more than one token: {id} is kept, {} left out \
                 (a model that writes it to end its turn needs --override-kv tokenizer.ggml.eot_token_id=int:ID)",
                others.join(", ")
            ));
        }
    }

    fn has_role(&self, role: &str) -> bool {
        !matches!(role, "eot" | "eom") || self.more_roles.contains(&role)
    }

    fn default_to(&mut self, role: &'static str, other: &str) {
        if !self.tokens.contains_key(role)
            && let Some(text) = self.tokens.get(other).cloned()
        {
            self.tokens.insert(role, text);
        }
    }

    fn is(&self, text: &str, roles: [&str; 2]) -> bool {
        roles.iter().any(|role| self.tokens.get(*role).is_some_and(|token| token == text))
    }

    fn read_processor(&mut self, processor: &Value) {
        match processor.get("type").and_then(Value::as_str) {
            Some("ByteLevel") => {
                self.adds.entry("bos").or_insert(false);
                self.adds.entry("eos").or_insert(false);
            }
            Some("RobertaProcessing") => {
                self.adds.extend(["bos", "eos", "sep"].map(|role| (role, true)));
                for (role, other) in [("cls", "bos"), ("sep", "eos")] {
                    let text = processor.get(role).and_then(|pair| pair.get(0)?.as_str()).map(str::to_owned);
                    let text = text.or_else(|| self.tokens.get(other).cloned());
                    if let (Some(text), false) = (text, self.tokens.contains_key(role)) {
                        self.tokens.insert(role, text);
                    }
                }
            }
            Some("TemplateProcessing") => self.read_template(processor),
            _ => {}
        }
    }

    fn read_template(&mut self, processor: &Value) {
        let parts = |name: &str| processor.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let (single, pair) = (parts("single"), parts("pair"));
        let (mut first, mut last) = (None, None);
        if let [before, .., after] = single {
            first = special(before);
            last = special(after);
            if let Some(text) = first {
                self.read_first(text);
            }
            if let Some(text) = last {
                self.read_last(text);
            }
        }
        let mut inner = pair;
        if let ([part, rest @ ..], Some(text)) = (inner, first)
            && special(part) == Some(text)
        {
            inner = rest;
        }
        if let ([rest @ .., part], Some(text)) = (inner, last)
            && special(part) == Some(text)
        {
            inner = rest;
        }
        let sequence = |part: &Value| Some(part.get("Sequence")?.get("id")?.as_str()?.to_owned());
        if let [a, between @ .., b] = inner
            && sequence(a).as_deref() == Some("A")
            && sequence(b).as_deref() == Some("B")
            && !between.is_empty()
        {
            let separates = |part: &Value| special(part).is_some_and(|text| self.is(text, ["sep", "eos"]));
            let adds =
                separates(&between[0]) && last.is_none() || between.len() == 2 && separates(&between[1]);
            self.adds.insert("sep", adds);
            if adds && !self.tokens.contains_key("sep") && self.config.is_some() {
                let eos = self.tokens.get("eos").cloned();
                self.tokens.extend(eos.map(|text| ("sep", text)));
            }
        }
    }

    /// The token that a template puts before a text.
    fn read_first(&mut self, text: &str) {
        if self.config.is_none() {
            self.tokens.insert("bos", text.to_owned());
        } else if !self.is(text, ["bos", "cls"]) {
            self.tokens.entry("bos").or_insert_with(|| text.to_owned());
            self.tokens.entry("cls").or_insert_with(|| text.to_owned());
        }
        self.adds.insert("bos", self.is(text, ["bos", "cls"]));
    }

    /// The token that a template puts behind a text. Where it is not the end of text that the configuration has, that one ends turns.
    fn read_last(&mut self, text: &str) {
        let old = self.tokens.get("eos").cloned();
        if self.config.is_some()
            && old.as_deref() != Some(text)
            && let Some(role) = ["eot", "eom"].into_iter().find(|role| !self.more_roles.contains(role))
        {
            self.more_roles.push(role);
            match old {
                Some(old) => self.tokens.insert(role, old),
                None => self.tokens.remove(role),
            };
        }
        self.tokens.insert("eos", text.to_owned());
        self.adds.insert("eos", true);
    }

    /// What `tokenizer_config.json` says, with ids from `added`.
    fn read_config(&mut self, added: &[Value]) {
        let Some(config) = self.config else { return };
        for (role, _) in ROLES {
            if !self.has_role(role) {
                continue;
            }
            if let Some(adds) = config.get(&[&format!("add_{role}_token")]).and_then(Value::as_bool) {
                self.adds.entry(role).or_insert(adds);
            }
            let Some(text) = self.tokens.get(role) else { continue };
            let token =
                added.iter().find(|token| token.get("content").is_some_and(|content| content == text));
            if let Some(id) = token.and_then(|token| token.get("id")?.as_u64()) {
                self.ids.entry(role).or_insert(id);
            }
        }
    }
}

/// The text of a special token in a template.
fn special(part: &Value) -> Option<&str> {
    part.get("SpecialToken")?.get("id")?.as_str().filter(|text| !text.is_empty())
}
