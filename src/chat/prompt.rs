//! What a template makes of a conversation.

use std::fmt;
use std::ops::Range;

use bise_models::tokenizer::Segment;

/// A rendered prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedPrompt {
    /// The text.
    pub text: String,
    /// Byte ranges of `text`, in rising order and apart, that hold what the conversation says or what the template
    /// made of it. They must not overlap a control token; what lies between them may hold those of the template.
    pub protected: Vec<Range<usize>>,
    /// What was done to the conversation so that the template takes it.
    pub notes: Vec<ChatNote>,
}

impl RenderedPrompt {
    /// The text in parts, in order, for [`bise_models::tokenizer::Tokenizer::encode_segments`].
    pub fn segments(&self) -> Vec<Segment<'_>> {
        let mut segments = Vec::with_capacity(2 * self.protected.len() + 1);
        let mut at = 0;
        for range in &self.protected {
            segments.push(Segment::Template(&self.text[at..range.start]));
            segments.push(Segment::Content(&self.text[range.clone()]));
            at = range.end;
        }
        segments.push(Segment::Template(&self.text[at..]));
        segments
    }

    /// Leaves out what comes after a byte of the text.
    pub(super) fn cut(&mut self, end: usize) {
        self.text.truncate(end);
        self.protected.retain(|range| range.start < end);
        if let Some(last) = self.protected.last_mut() {
            last.end = last.end.min(end);
        }
    }
}

/// What a caller should pass on to the person who runs a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatNote {
    /// The template has no system role, so the system message went before the first user message.
    SystemMerged,
}

impl fmt::Display for ChatNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SystemMerged => f.write_str(
                "the chat template has no system role: the system message goes before the first user message",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_the_text_in_parts() {
        let mut prompt =
            RenderedPrompt { text: "a</s> éxy".to_owned(), protected: vec![1..2, 6..10], notes: vec![] };
        use Segment::{Content, Template};
        let want = [Template("a"), Content("<"), Template("/s> "), Content("éxy"), Template("")];
        assert_eq!(prompt.segments(), want);
        prompt.cut(8);
        assert_eq!((prompt.text.as_str(), &prompt.protected[..]), ("a</s> é", &[1..2, 6..8][..]));
        prompt.cut(1);
        assert_eq!((prompt.text.as_str(), &prompt.protected[..]), ("a", &[][..]));
    }
}
