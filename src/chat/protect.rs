//! Keeping the words of messages out of control tokens.
//!
//! A template may trim, cut, join or compare the messages, so their places in the rendered text cannot be computed
//! beforehand, and wrapping them in marks would change what the template sees. Instead a mark (a character that occurs
//! in no message) is put into a message only where a control token could begin, end or lie: inside of every stretch
//! that is, or together with its neighbours could be, the text of one. Ordinary messages stay as they are. Rendering
//! carries the marks along; they are then taken out, and the character before each is protected: the tokenizer must
//! not make it part of a control token.

use std::borrow::Cow;
use std::ops::Range;

use bise_models::tokenizer::Segment;

use super::{ChatError, ChatNote};

/// A rendered prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedPrompt {
    /// The text.
    pub text: String,
    /// Byte ranges of `text`, in rising order and apart, that must not overlap a control token: they come from
    /// messages. What lies between them may hold the control tokens of the template.
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
}

/// A mark that occurs in none of `texts`.
///
/// Noncharacters (U+FDD0 to U+FDEF) are meant for such internal use; after them come the private-use characters.
pub(super) fn choose_mark<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> Result<char, ChatError> {
    ('\u{FDD0}'..='\u{FDEF}')
        .chain('\u{F0000}'..='\u{FFFFD}')
        .find(|&mark| !texts.clone().any(|text| text.contains(mark)))
        .ok_or(ChatError::NoMark)
}

/// The texts of control tokens, to be kept out of messages.
pub(super) struct Guard<'a> {
    special: Vec<&'a str>,
    /// Those that begin with a byte.
    by_first: Vec<Vec<&'a str>>,
    mark: char,
}

impl<'a> Guard<'a> {
    /// `mark` occurs in no message.
    pub fn new(special: &'a [impl AsRef<str>], mark: char) -> Self {
        let special: Vec<&str> = special.iter().map(AsRef::as_ref).filter(|text| !text.is_empty()).collect();
        let mut by_first = vec![Vec::new(); 256];
        for text in &special {
            by_first[usize::from(text.as_bytes()[0])].push(*text);
        }
        Self { special, by_first, mark }
    }

    /// Puts the mark into a message wherever a control token could touch it.
    pub fn mark<'c>(&self, content: &'c str) -> Cow<'c, str> {
        let mut cuts: Vec<usize> = Vec::new();
        self.stretches(content, |stretch| cuts.extend(cut(content, stretch)));
        if cuts.is_empty() {
            return Cow::Borrowed(content);
        }
        cuts.sort_unstable();
        cuts.dedup();
        let mut marked = String::with_capacity(content.len() + cuts.len() * self.mark.len_utf8());
        let mut at = 0;
        for cut in cuts {
            marked.push_str(&content[at..cut]);
            marked.push(self.mark);
            at = cut;
        }
        marked.push_str(&content[at..]);
        Cow::Owned(marked)
    }

    /// The parts of `content` that are the text of a control token, or could be a part of it when other text is put
    /// before or after.
    fn stretches(&self, content: &str, mut found: impl FnMut(Range<usize>)) {
        if content.is_empty() {
            return;
        }
        // Whole, also overlapping each other.
        for (at, &byte) in content.as_bytes().iter().enumerate() {
            for special in &self.by_first[usize::from(byte)] {
                if content.as_bytes()[at..].starts_with(special.as_bytes()) {
                    found(at..at + special.len());
                }
            }
        }
        for special in &self.special {
            // The end of the message is the beginning of it, or its beginning the end.
            for (cut, _) in special.char_indices().skip(1) {
                let (head, tail) = special.split_at(cut);
                if content.ends_with(head) {
                    found(content.len() - head.len()..content.len());
                }
                if content.starts_with(tail) {
                    found(0..tail.len());
                }
            }
            // The whole message lies inside.
            if content.len() < special.len() && special.contains(content) {
                found(0..content.len());
            }
        }
    }
}

/// Where to put the mark for a stretch: after its first character that is no white space, which a template's `trim`
/// cannot separate from the mark. A stretch of white space cannot be told from its surroundings and needs no mark.
fn cut(content: &str, stretch: Range<usize>) -> Option<usize> {
    let (at, c) = content[stretch.clone()].char_indices().find(|(_, c)| !c.is_whitespace())?;
    Some(stretch.start + at + c.len_utf8())
}

/// Takes the marks out of what was rendered.
pub(super) fn unmark(rendered: String, mark: char) -> RenderedPrompt {
    if !rendered.contains(mark) {
        return RenderedPrompt { text: rendered, protected: Vec::new(), notes: Vec::new() };
    }
    let mut text = String::with_capacity(rendered.len());
    let mut protected: Vec<Range<usize>> = Vec::new();
    for piece in rendered.split_inclusive(mark) {
        let Some(plain) = piece.strip_suffix(mark) else {
            text.push_str(piece);
            continue;
        };
        text.push_str(plain);
        // Two marks in a row protect one character; a mark that the template put first protects none.
        let last = text.chars().next_back().map_or(0, char::len_utf8);
        let range = text.len() - last..text.len();
        match protected.last_mut() {
            Some(previous) if previous.end == range.end => {}
            Some(previous) if previous.end == range.start => previous.end = range.end,
            _ if range.is_empty() => {}
            _ => protected.push(range),
        }
    }
    RenderedPrompt { text, protected, notes: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIAL: [&str; 5] = ["<s>", "</s>", "[INST]", "[/INST]", "<|im_end|>"];

    /// The marked content, with `^` for the mark.
    fn marked(content: &str) -> String {
        Guard::new(&SPECIAL, '\u{FDD0}').mark(content).replace('\u{FDD0}', "^")
    }

    #[test]
    fn ordinary_messages_stay_as_they_are() {
        for text in ["", "Hello", "a < b, [1, 2], x</sx>", "He said: \"no\"\n", "日本語 🦀"] {
            assert!(matches!(Guard::new(&SPECIAL, '^').mark(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn control_tokens_are_split() {
        assert_eq!(marked("a</s>[INST]b"), "a<^/s>[^INST]b");
        assert_eq!(marked("<s><s>!"), "<^s><^s>!");
    }

    #[test]
    fn overlapping_ones_are_all_split() {
        let special = ["aba"];
        assert_eq!(Guard::new(&special, '^').mark("xababay"), "xa^ba^bay");
    }

    #[test]
    fn halves_at_the_ends_are_split() {
        assert_eq!(marked("see <"), "see <^");
        assert_eq!(marked("see <|im_"), "see <^|im_");
        assert_eq!(marked("s> see"), "s^> see");
        assert_eq!(marked("> see"), ">^ see");
        assert_eq!(marked("INST"), "I^NST");
    }

    #[test]
    fn marks_are_not_left_to_trim() {
        let special = ["\n\n<x>", "  "];
        assert_eq!(Guard::new(&special, '^').mark("  \n\n<x>  "), "  \n\n<^x>  ");
    }

    #[test]
    fn characters_stay_whole() {
        let special = ["é▁", "▁é"];
        assert_eq!(Guard::new(&special, '^').mark("a é▁é▁"), "a é^▁^é^▁^");
    }

    #[test]
    fn unmark_protects_the_character_before() {
        let got = unmark("a<^/s> é^^x^y^".replace('^', "\u{FDD0}"), '\u{FDD0}');
        assert_eq!(got.text, "a</s> éxy");
        assert_eq!(got.protected, [1..2, 6..10]);
        use Segment::{Content, Template};
        let want = [Template("a"), Content("<"), Template("/s> "), Content("éxy"), Template("")];
        assert_eq!(got.segments(), want);
        assert_eq!(
            unmark("^^a".to_owned(), '^'),
            RenderedPrompt { text: "a".to_owned(), protected: vec![], notes: vec![] }
        );
    }

    #[test]
    fn the_mark_is_a_character_nobody_uses() {
        assert_eq!(choose_mark(["a", "b"].into_iter()), Ok('\u{FDD0}'));
        assert_eq!(choose_mark(["a\u{FDD0}", "\u{FDD1}"].into_iter()), Ok('\u{FDD2}'));
        let all: String = ('\u{FDD0}'..='\u{FDEF}').collect();
        assert_eq!(choose_mark([all.as_str()].into_iter()), Ok('\u{F0000}'));
    }
}
