//! From a row to tokens, and which of them count.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::left_out::left_out;
use super::row::{Fault, Row};
use crate::chat::{ChatInput, ChatTemplate, Message, RenderedPrompt, SpecialTokens};
use crate::tokenizer::{EncodeOptions, Tokenizer};

/// How rows become tokens.
#[derive(Clone, Debug)]
pub struct DataOptions {
    /// The model's chat template, for rows that are conversations.
    pub template: Option<ChatTemplate>,
    /// More variables for the template.
    pub arguments: Map<String, Value>,
    /// Whether the last message alone counts, as with `mlx_lm.lora --mask-prompt`; otherwise every token does.
    pub mask_prompt: bool,
    /// Tokens of a row at most; longer ones are cut.
    pub max_seq_length: usize,
}

pub(super) struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    options: &'a DataOptions,
    special: SpecialTokens,
}

pub(super) struct Encoded {
    pub tokens: Vec<u32>,
    /// The place of the first token that counts, from 1.
    pub first_label: usize,
    /// What the template did to the conversation.
    pub note: Option<String>,
    /// What of the conversation the template does not write, by name.
    pub left_out: BTreeSet<String>,
}

/// A conversation as the template writes it.
struct Rendered {
    text: String,
    tokens: Vec<u32>,
    note: Option<String>,
}

impl<'a> Encoder<'a> {
    pub fn new(tokenizer: &'a Tokenizer, options: &'a DataOptions) -> Self {
        Encoder { tokenizer, options, special: SpecialTokens::of(tokenizer) }
    }

    pub fn encode(&self, row: Row) -> Result<Encoded, Fault> {
        let encoded = match row {
            Row::Text(_) if self.options.mask_prompt => {
                let expected =
                    "\"messages\" or \"prompt\" and \"completion\": --mask-prompt needs a prompt to mask";
                return Err(Fault::new("", "\"text\"", expected));
            }
            Row::Text(text) => self.text(&text),
            Row::Chat { messages, tools } => self.chat(&messages, &tools)?,
        };
        if encoded.first_label >= encoded.tokens.len() {
            let expected = match self.options.mask_prompt {
                true => "an answer: the mask hides every token of this row",
                false => "at least two tokens: there is nothing to predict in this row",
            };
            return Err(Fault::new("", format!("{} tokens", encoded.tokens.len()), expected));
        }
        Ok(encoded)
    }

    /// BOS where the file of the model says so, and EOS in any case. Control tokens that the text spells out are such.
    fn text(&self, text: &str) -> Encoded {
        let options = EncodeOptions { add_special: true, parse_special: true };
        let mut tokens = self.tokenizer.encode(text, options);
        if let Some(eos) = self.tokenizer.eos().filter(|eos| tokens.last() != Some(eos)) {
            tokens.push(eos);
        }
        Encoded { tokens, first_label: 1, note: None, left_out: BTreeSet::new() }
    }

    fn chat(&self, messages: &[Message], tools: &[Value]) -> Result<Encoded, Fault> {
        let whole = self.render(messages, tools, false)?;
        let mut first_label = 1;
        if self.options.mask_prompt {
            let (last, before) = messages.split_last().expect("a row has messages");
            if last.role() != "assistant" {
                let found = match messages.iter().any(|message| message.role() == "assistant") {
                    true => format!("\"{}\" as the last role", last.role()),
                    false => "no message with the role \"assistant\"".to_owned(),
                };
                let expected = "\"assistant\" as the last role: --mask-prompt counts the last message alone";
                return Err(Fault::new("messages", found, expected));
            }
            // Without a prompt there is nothing to hide but BOS, which is never predicted.
            if !before.is_empty() {
                let prompt = self.render(before, tools, true)?;
                if !whole.text.starts_with(&prompt.text) {
                    let expected = "a chat template that writes the prompt in the same way with and without an answer (leave out --mask-prompt)";
                    return Err(Fault::new("messages", "a prompt that the answer changes", expected));
                }
                // A token that reaches over the end of the prompt belongs to the answer.
                let both = whole.tokens.iter().zip(&prompt.tokens);
                first_label = both.take_while(|(a, b)| a == b).count().max(1);
            }
        }
        let again = |messages: &[Message], tools: &[Value]| {
            self.prompt(messages, tools, false).ok().map(|prompt| prompt.text)
        };
        let left_out = left_out(messages, tools, &whole.text, again);
        Ok(Encoded { tokens: whole.tokens, first_label, note: whole.note, left_out })
    }

    fn render(
        &self,
        messages: &[Message],
        tools: &[Value],
        add_generation_prompt: bool,
    ) -> Result<Rendered, Fault> {
        let prompt = self.prompt(messages, tools, add_generation_prompt)?;
        // As it is done where the model is used.
        let tokens = self.tokenizer.encode_segments(&prompt.segments(), true);
        let note = prompt.notes.first().map(ToString::to_string);
        Ok(Rendered { text: prompt.text, tokens, note })
    }

    fn prompt(
        &self,
        messages: &[Message],
        tools: &[Value],
        add_generation_prompt: bool,
    ) -> Result<RenderedPrompt, Fault> {
        let Some(template) = &self.options.template else {
            let expected = "\"text\" rows, or --chat-template NAME: the model has no chat template";
            return Err(Fault::new("", "a conversation", expected));
        };
        let input = ChatInput {
            tools,
            arguments: Some(&self.options.arguments),
            add_generation_prompt,
            ..ChatInput::new(messages)
        };
        template.render(&input, &self.special).map_err(Fault::Template)
    }
}
