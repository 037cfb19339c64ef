//! Tokens known by their text, for files that do not give their ids. Facts from llama.cpp's `llama-vocab.cpp`.

use crate::gguf::StrArray;
use std::collections::HashMap;

/// End a turn or a text: generation stops at them.
pub(super) const END: &[&str] = &[
    "</s>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<eos>",
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

/// End a turn, in order of preference.
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
];

/// End a message that awaits a tool.
pub(super) const END_OF_MESSAGE: &[&str] = &["<|eom_id|>"];

/// Mistral's own, whose order is suffix first.
pub(super) const MISTRAL_PREFIX: &str = "[PREFIX]";

/// Fill in the middle: before the prefix.
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

/// Fill in the middle: before the suffix.
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

/// Fill in the middle: before the answer.
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

/// The tokens of a vocabulary that have one of the names above.
#[derive(Debug)]
pub(super) struct Named {
    ids: HashMap<&'static str, u32>,
}

impl Named {
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

    /// The token with the first of these names that exists.
    pub(super) fn first(&self, names: &[&str]) -> Option<u32> {
        names.iter().find_map(|name| self.ids.get(name).copied())
    }

    /// The tokens with any of these names.
    pub(super) fn all(&self, names: &[&str]) -> impl Iterator<Item = u32> {
        names.iter().filter_map(|name| self.ids.get(name).copied())
    }

    /// All of them.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.ids.values().copied()
    }
}
