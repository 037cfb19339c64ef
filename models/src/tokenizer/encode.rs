//! From text to tokens.

use super::handle::{Inner, Tokenizer};
use super::special::overlaps;
use super::token_type::TokenType;
use std::borrow::Cow;
use std::ops::Range;

/// How to treat the control tokens of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Begin with BOS where the file says so. A BOS that the text itself starts with (and that is parsed) is not
    /// doubled. EOS is never added, even where the file says so ([`Tokenizer::adds_eos`]).
    pub add_special: bool,
    /// Text like `[INST]` becomes the control token; otherwise it is text like any other. User-defined tokens are
    /// found in both cases, as in llama.cpp.
    pub parse_special: bool,
}

/// A part of a prompt, by who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment<'a> {
    /// Written by the template: control and user-defined tokens are parsed.
    Template(&'a str),
    /// Written by somebody else: never becomes a control or user-defined token, whatever it holds. User-defined white
    /// space (runs of spaces or line breaks, as in Gemma) is still found: it marks no structure, and the model was
    /// trained on messages with these tokens.
    Content(&'a str),
}

impl Tokenizer {
    /// The tokens of `text`.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Vec<u32> {
        let EncodeOptions { add_special, parse_special } = options;
        let user_defined = |id| self.token_type(id) == Some(TokenType::UserDefined);
        self.encode_cut(text, |id, _| parse_special || user_defined(id), add_special)
    }

    /// The tokens of a prompt made of parts: one continuous text, in which no control token begins, ends or lies in a
    /// [`Segment::Content`]. With `add_special`, BOS as in [`EncodeOptions::add_special`].
    pub fn encode_segments(&self, segments: &[Segment<'_>], add_special: bool) -> Vec<u32> {
        let mut text = String::new();
        let mut content: Vec<Range<usize>> = Vec::new();
        for segment in segments {
            match segment {
                Segment::Template(part) => text.push_str(part),
                Segment::Content(part) => {
                    content.push(text.len()..text.len() + part.len());
                    text.push_str(part);
                }
            }
        }
        content.retain(|range| !range.is_empty());
        self.encode_cut(&text, |id, range| !overlaps(&content, range) || self.is_white_space(id), add_special)
    }

    /// Encodes a text that is cut at the special tokens that `allowed` lets through, by id and place.
    fn encode_cut(
        &self,
        text: &str,
        allowed: impl Fn(u32, &Range<usize>) -> bool,
        add_special: bool,
    ) -> Vec<u32> {
        let Inner { special, bpe, ids, inline, .. } = &*self.inner;
        let mut tokens = Vec::with_capacity(text.len() / 4 + 2);
        let mut done = 0;
        if add_special && self.inner.add_bos {
            tokens.extend(ids.bos);
        }
        let mut after_inline = false;
        while let Some((range, id)) = special.find(text, done, bpe.lexicon(), &allowed) {
            let is_inline = inline.binary_search(&id).is_ok();
            let space = if after_inline {
                Space::Never
            } else if is_inline {
                Space::Always
            } else {
                Space::BeforeText
            };
            self.encode_text(&text[done..range.start], space, &mut tokens);
            let doubled = range.start == 0 && Some(id) == ids.bos;
            if !(doubled && tokens.len() == 1) {
                tokens.push(id);
            }
            after_inline = is_inline;
            done = range.end;
        }
        let space = if after_inline { Space::Never } else { Space::BeforeText };
        self.encode_text(&text[done..], space, &mut tokens);
        tokens
    }

    /// Encodes text between special tokens, or between them and an end.
    fn encode_text(&self, text: &str, space: Space, tokens: &mut Vec<u32>) {
        let mut text = Cow::Borrowed(text);
        if self.inner.remove_extra_whitespaces {
            let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
            text = Cow::Owned(words.join(" "));
        }
        let has_space = match space {
            Space::Never => false,
            Space::BeforeText => !text.is_empty(),
            Space::Always => true,
        };
        if has_space && self.inner.add_space_prefix {
            text = Cow::Owned(format!(" {text}"));
        }
        self.inner.bpe.encode(&text, tokens);
    }
}

/// Whether a stretch of text gets SentencePiece's space in front.
#[derive(Clone, Copy)]
enum Space {
    /// No: it continues after an inline token.
    Never,
    /// Yes, unless it is empty.
    BeforeText,
    /// Yes, even if it is empty: an inline token follows, which counts as text.
    Always,
}
