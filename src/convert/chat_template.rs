//! The chat templates of a checkpoint as keys of a GGUF file.
//!
//! A Hugging Face checkpoint has its own. Mistral's have none up to v13: they get the Jinja that writes conversations as `mistral_common` does, where
//! llama.cpp's converter puts a bare name that other programs do not know.

use std::path::PathBuf;

use bise_models::gguf::{Array, Metadata, StrArray};
use serde_json::Value;

use super::ConvertError;
use super::layout::Layout;
use super::vocabulary::files::{Folder, Json, kind, quoted};
use super::vocabulary::version::{Native, Version};
use crate::chat::ChatTemplate;

const KEY: &str = "tokenizer.chat_template";

/// Sets the templates of a Hugging Face checkpoint, if it has any: `chat_template` of `tokenizer_config.json`, else `chat_template.jinja` with
/// `additional_chat_templates/`, else `chat_template.json`. Returns whether there is a default one.
///
/// # Errors
/// If one of these files cannot be read.
pub(super) fn set_hugging_face(
    folder: Folder<'_>,
    metadata: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<bool, ConvertError> {
    let config = folder.json("tokenizer_config.json")?;
    let templates = match config.as_ref().and_then(|config| Some((config, config.get(&["chat_template"])?))) {
        Some((config, template)) => of_value(config, template, notes),
        None => match folder.text("chat_template.jinja")? {
            Some(text) => {
                let mut templates = vec![("default".to_owned(), text)];
                templates.extend(additional(folder)?);
                templates
            }
            None => match folder.json("chat_template.json")? {
                Some(json) => {
                    json.get(&["chat_template"]).map_or_else(Vec::new, |value| of_value(&json, value, notes))
                }
                None => Vec::new(),
            },
        },
    };
    Ok(set(templates, metadata, notes))
}

/// Sets the template of a checkpoint with one of Mistral's tokenizers: its own `chat_template.jinja` if it has one, else that of its version.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn set_native(
    folder: Folder<'_>,
    layout: Layout,
    native: Native,
    metadata: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<(), ConvertError> {
    let has_own = match layout {
        Layout::HuggingFace => set_hugging_face(folder, metadata, notes)?,
        Layout::Mistral => match folder.text("chat_template.jinja")? {
            Some(text) => set(vec![("default".to_owned(), text)], metadata, notes),
            None => false,
        },
    };
    if !has_own {
        match native.template() {
            Some(template) => metadata.set(KEY, template.as_str()),
            None => notes.push(format!(
                "there is no chat template for tokenizers of {} without a chat_template.jinja: the model gets none",
                native.version.name()
            )),
        }
    }
    Ok(())
}

impl Native {
    /// The Jinja that writes conversations as `mistral_common` does for this version.
    pub fn template(self) -> Option<String> {
        const CONVERSATION: &str = include_str!("chat_templates/conversation.jinja");
        const USER_FIRST: &str = include_str!("chat_templates/user_first.jinja");
        const ANY_FIRST: &str = "{%- set turns = ns.turns -%}\n";
        const PLACES: &str = include_str!("chat_templates/last_user.jinja");
        const V1: &str = include_str!("chat_templates/v1.jinja");
        const V3: &str = include_str!("chat_templates/v3.jinja");
        const V7: &str = include_str!("chat_templates/v7.jinja");
        const V11: &str = include_str!("chat_templates/v11.jinja");
        const TOOLS: &str = include_str!("chat_templates/tools.jinja");
        const WITH_IDS: &str = include_str!("chat_templates/with_ids.jinja");
        const WITHOUT_IDS: &str = include_str!("chat_templates/without_ids.jinja");
        let parts: &[&str] = match self.version {
            Version::V1 => &[CONVERSATION, USER_FIRST, V1],
            Version::V2 | Version::V3 => &[TOOLS, CONVERSATION, USER_FIRST, PLACES, V3],
            Version::V7 => &[TOOLS, CONVERSATION, ANY_FIRST, PLACES, V7],
            Version::V11 => &[TOOLS, CONVERSATION, ANY_FIRST, PLACES, WITH_IDS, V11],
            Version::V13 => &[TOOLS, CONVERSATION, ANY_FIRST, PLACES, WITHOUT_IDS, V11],
            Version::V15 => return None,
        };
        // Programs that look at a template to see which it is find the spelling that tells.
        let kind = match (self.version, self.is_tekken) {
            (Version::V1, _) => "",
            (_, true) => ": tekken, which puts no space behind \"[INST]\"",
            (_, false) => ": SentencePiece, which reads \"[INST]x\" as \"[INST] x\"",
        };
        let version = self.version.name();
        Some(format!("{{#- Conversations of Mistral's tokenizers {version}{kind}. -#}}\n{}", parts.concat()))
    }
}

/// The templates in a configuration: one, or several with names.
fn of_value(json: &Json, value: &Value, notes: &mut Vec<String>) -> Vec<(String, String)> {
    let mut bad = |found: &str| {
        let name = json.path.file_name().unwrap_or_default().to_string_lossy();
        notes.push(format!(
            "\"chat_template\" of {name} is left out: it is {found}, no text and no array of named ones"
        ));
    };
    let mut templates = Vec::new();
    match value {
        Value::String(text) => templates.push(("default".to_owned(), text.clone())),
        Value::Array(choices) => {
            for choice in choices {
                match (
                    choice.get("name").and_then(Value::as_str),
                    choice.get("template").and_then(Value::as_str),
                ) {
                    (Some(name), Some(text)) => templates.push((name.to_owned(), text.to_owned())),
                    _ => bad("an array with something else"),
                }
            }
        }
        other => bad(kind(other)),
    }
    templates
}

/// The templates in `additional_chat_templates/`, in order of their names.
fn additional(folder: Folder<'_>) -> Result<Vec<(String, String)>, ConvertError> {
    let path: PathBuf = folder.path("additional_chat_templates");
    let failed = |error| ConvertError::File { path: path.clone(), action: "list", error };
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut templates = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if let Some(stem) = name.strip_suffix(".jinja")
            && let Some(text) = Folder(&path).text(&name)?
        {
            templates.push((stem.to_owned(), text));
        }
    }
    templates.sort();
    Ok(templates)
}

/// Sets the keys of templates with names. Returns whether there is a default one.
fn set(templates: Vec<(String, String)>, metadata: &mut Metadata, notes: &mut Vec<String>) -> bool {
    let mut names = StrArray::default();
    let mut has_default = false;
    for (name, text) in templates {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if name.is_empty() {
            continue;
        }
        if let Err(error) = ChatTemplate::from_source(&text) {
            notes.push(format!(
                "the chat template {} is kept, but cannot be used here: {error}",
                quoted(&name)
            ));
        }
        if name == "default" {
            has_default = true;
            metadata.set(KEY, text.as_str());
        } else {
            let key = format!("{KEY}.{name}");
            if metadata.get(&key).is_none() {
                names.push(name.as_bytes());
            }
            metadata.set(&key, text.as_str());
        }
    }
    if !names.is_empty() {
        metadata.set("tokenizer.chat_templates", Array::Str(names));
    }
    has_default
}
