//! The templates known by name, and the names of templates met in files.

/// A template by name: its source, and whether a space must follow its control tokens for a tokenizer that does not
/// put one there itself (SentencePiece vocabularies).
pub(super) struct Named {
    pub name: &'static str,
    pub source: &'static str,
    pub sentence_piece: bool,
}

const V1: &str = include_str!("templates/mistral-v1.jinja");
const V3: &str = include_str!("templates/mistral-v3.jinja");
const V7: &str = include_str!("templates/mistral-v7.jinja");

/// The names are llama.cpp's.
pub(super) const NAMED: [Named; 9] = [
    Named { name: "mistral-v1", source: V1, sentence_piece: true },
    Named { name: "mistral-v3", source: V3, sentence_piece: true },
    Named { name: "mistral-v3-tekken", source: V3, sentence_piece: false },
    Named { name: "mistral-v7", source: V7, sentence_piece: true },
    Named { name: "mistral-v7-tekken", source: V7, sentence_piece: false },
    Named { name: "chatml", source: include_str!("templates/chatml.jinja"), sentence_piece: false },
    Named { name: "llama2", source: include_str!("templates/llama2.jinja"), sentence_piece: false },
    Named { name: "llama3", source: include_str!("templates/llama3.jinja"), sentence_piece: false },
    Named { name: "zephyr", source: include_str!("templates/zephyr.jinja"), sentence_piece: false },
];

/// Which of the named templates a template from a file looks like; for people to read, since the file's own is run.
pub fn detect(source: &str) -> Option<&'static str> {
    let has = |text: &str| source.contains(text);
    if has("<|im_start|>") {
        Some("chatml")
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
