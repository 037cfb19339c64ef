//! The templates known by name, and the names of templates met in files.

use serde_json::Value;

use super::mistral::{self, Flavour};
use super::{ChatError, ChatInput, Message};

/// A template by name.
#[derive(Debug)]
pub(super) struct Named {
    pub name: &'static str,
    pub source: &'static str,
    /// Whether a space must follow its control tokens for a tokenizer that does not put one there itself (SentencePiece vocabularies).
    pub sentence_piece: bool,
    /// How it takes conversations, if it is one of Mistral's.
    mistral: Option<Flavour>,
}

const V1: &str = include_str!("templates/mistral-v1.jinja");
const V3: &str = include_str!("templates/mistral-v3.jinja");
const V7: &str = include_str!("templates/mistral-v7.jinja");
const V11: &str = include_str!("templates/mistral-v11.jinja");
const V13: &str = include_str!("templates/mistral-v13.jinja");

const EARLY: Option<Flavour> =
    Some(Flavour { has_system_message: false, says_and_calls: false, sorts_results: false });
const LATER: Option<Flavour> =
    Some(Flavour { has_system_message: true, says_and_calls: true, sorts_results: false });
const SORTED: Option<Flavour> =
    Some(Flavour { has_system_message: true, says_and_calls: true, sorts_results: true });

/// The names are llama.cpp's, and for later versions of Mistral's templates alike.
pub(super) const NAMED: [Named; 11] = [
    Named { name: "mistral-v1", source: V1, sentence_piece: true, mistral: EARLY },
    Named { name: "mistral-v3", source: V3, sentence_piece: true, mistral: EARLY },
    Named { name: "mistral-v3-tekken", source: V3, sentence_piece: false, mistral: EARLY },
    Named { name: "mistral-v7", source: V7, sentence_piece: true, mistral: LATER },
    Named { name: "mistral-v7-tekken", source: V7, sentence_piece: false, mistral: LATER },
    Named { name: "mistral-v11-tekken", source: V11, sentence_piece: false, mistral: SORTED },
    Named { name: "mistral-v13-tekken", source: V13, sentence_piece: false, mistral: SORTED },
    other("chatml", include_str!("templates/chatml.jinja")),
    other("llama2", include_str!("templates/llama2.jinja")),
    other("llama3", include_str!("templates/llama3.jinja")),
    other("zephyr", include_str!("templates/zephyr.jinja")),
];

const fn other(name: &'static str, source: &'static str) -> Named {
    Named { name, source, sentence_piece: false, mistral: None }
}

impl Named {
    /// Messages and tools as the template takes them.
    pub fn prepare(&self, input: &ChatInput<'_>) -> Result<(Vec<Message>, Vec<Value>), ChatError> {
        match self.mistral {
            Some(flavour) => {
                Ok((mistral::conversation(input.messages, flavour)?, mistral::tools(input.tools)?))
            }
            None if !input.tools.is_empty() => {
                Err(ChatError::Refused(format!("the template {} has no tools", self.name)))
            }
            None => Ok((input.messages.iter().map(Message::joined).collect::<Result<_, _>>()?, Vec::new())),
        }
    }
}

/// Which of the named templates a template from a file looks like; for people to read, since the file's own is run.
pub fn detect(source: &str) -> Option<&'static str> {
    let has = |text: &str| source.contains(text);
    if has("<|im_start|>") {
        Some("chatml")
    } else if has("[SYSTEM_PROMPT]") && has("[ARGS]") {
        Some(if has("[CALL_ID]") { "mistral-v11-tekken" } else { "mistral-v13-tekken" })
    } else if has("[SYSTEM_PROMPT]") {
        Some(if has("[SYSTEM_PROMPT] ") || has("[INST] ") { "mistral-v7" } else { "mistral-v7-tekken" })
    } else if has("[INST]") && has("<<SYS>>") {
        Some("llama2")
    } else if has("[AVAILABLE_TOOLS]") && !has(" [INST]") {
        Some(if has("\"[INST]\"") { "mistral-v3-tekken" } else { "mistral-v3" })
    } else if has("[INST]") {
        Some("mistral-v1")
    } else if has("<|start_header_id|>") {
        Some("llama3")
    } else if has("<|user|>") || has("'<|' + message['role'] + '|>'") {
        Some("zephyr")
    } else {
        None
    }
}
