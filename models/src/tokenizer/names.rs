//! Tokens known by their text, for files that do not give their ids or types. Facts from llama.cpp's
//! `llama-vocab.cpp` and the tokenizers of Mistral.

use crate::gguf::StrArray;
use std::collections::HashMap;

/// Tokens at which generation stops: they end a turn or a text.
pub(super) const END: &[&str] = &[
    "</s>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<eos>",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<fim_pad>",
    "<fim-pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<fim-repo>",
    "<|repo_name|>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// Tokens that end a turn, in order of preference.
pub(super) const END_OF_TURN: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
];

/// Tokens that end a message which calls a tool.
pub(super) const END_OF_MESSAGE: &[&str] = &["<|eom_id|>"];

/// Mistral's own prefix token; their models want the suffix first.
pub(super) const MISTRAL_PREFIX: &str = "[PREFIX]";

/// Fill in the middle: tokens before the prefix.
pub(super) const INFILL_PREFIX: &[&str] = &[
    MISTRAL_PREFIX,
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
];

/// Fill in the middle: tokens before the suffix.
pub(super) const INFILL_SUFFIX: &[&str] = &[
    "[SUFFIX]",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
];

/// Fill in the middle: tokens before the answer.
pub(super) const INFILL_MIDDLE: &[&str] = &[
    "[MIDDLE]",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
];

/// Structure that is known by its text alone, apart from `<|…|>`.
const STRUCTURE: &[&str] = &[
    "<s>",
    "<unk>",
    "<pad>",
    "<bos>",
    "<start_of_turn>",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CONTENT]",
    "[CALL_ID]",
    "[ARGS]",
    "[THINK]",
    "[/THINK]",
    "[IMG]",
    "[IMG_BREAK]",
    "[IMG_END]",
];

/// Added tokens that are part of what a model says.
const SHOWN: &[&str] =
    &["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"];

/// Whether a token with this text was added to a vocabulary rather than learned, whatever its type says.
pub(super) fn looks_added(token: &[u8]) -> bool {
    let piped = || {
        let name = token.strip_prefix(b"<|").and_then(|rest| rest.strip_suffix(b"|>"));
        name.is_some_and(|name| !name.is_empty() && !name.iter().any(u8::is_ascii_whitespace))
    };
    is_bracketed(token) && (piped() || has(STRUCTURE, token) || is_shown(token))
}

/// Whether a token that was added is part of what a model says.
pub(super) fn is_shown(token: &[u8]) -> bool {
    has(SHOWN, token)
}

/// Whether a user-defined token is one that Mistral's SentencePiece models were trained with, rather than an added one:
/// to them it is a part of the text around it, and no space goes behind it.
pub(super) fn is_inline(token: &[u8]) -> bool {
    token.starts_with(b"[REFERENCE_DOC_") || has(&["[REF]", "[/REF]"], token)
}

/// Whether a token is `<…>` or `[…]`.
pub(super) fn is_bracketed(token: &[u8]) -> bool {
    matches!(token, [b'<', _, .., b'>'] | [b'[', _, .., b']'])
}

fn has(names: &[&str], token: &[u8]) -> bool {
    names.iter().any(|name| name.as_bytes() == token)
}

/// The tokens of a vocabulary that have one of the names above.
#[derive(Debug)]
pub(super) struct Named {
    ids: HashMap<&'static str, u32>,
}

impl Named {
    /// Looks for the names in a vocabulary.
    pub(super) fn find(tokens: &StrArray) -> Self {
        let names =
            || [END, END_OF_TURN, END_OF_MESSAGE, INFILL_PREFIX, INFILL_SUFFIX, INFILL_MIDDLE].concat();
        let longest = names().iter().map(|name| name.len()).max().unwrap_or(0);
        let names: HashMap<&[u8], &'static str> =
            names().iter().map(|&name| (name.as_bytes(), name)).collect();
        let named = |(id, token): (u32, &[u8])| {
            // Most tokens are ruled out by their last byte.
            let candidate = token.len() <= longest && matches!(token.last(), Some(b'>' | b']'));
            candidate.then(|| names.get(token)).flatten().map(|&name| (name, id))
        };
        Self { ids: (0..).zip(tokens.iter()).filter_map(named).collect() }
    }

    /// The token with the first of these names that the vocabulary has.
    pub(super) fn first(&self, names: &[&str]) -> Option<u32> {
        names.iter().find_map(|name| self.ids.get(name).copied())
    }

    /// The tokens with any of these names.
    pub(super) fn all(&self, names: &[&str]) -> impl Iterator<Item = u32> {
        names.iter().filter_map(|name| self.ids.get(name).copied())
    }

    /// Every token that was found.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.ids.values().copied()
    }
}
