//! One of several texts.

use bise_models::tokenizer::Tokenizer;

use super::spelling::Spelling;
use super::{Constraint, ConstraintError, TokenMask};

/// Allows the texts of a fixed list, in whatever tokens they can be spelt.
///
/// Texts are compared with what tokens decode to. Where the vocabulary puts a space before a word, ` yes` is what comes after a
/// prompt; see [`Self::new_answer`] for a text of its own.
#[derive(Clone, Debug)]
pub struct Choices {
    spelling: Spelling,
    texts: Vec<Vec<u8>>,
    /// Those of `texts` that begin with what was written.
    open: Vec<usize>,
    /// Bytes written.
    n_bytes: usize,
    /// The text ended, or left the list.
    is_over: bool,
}

impl Choices {
    /// One of these texts, as the continuation of a prompt.
    ///
    /// # Errors
    /// [`ConstraintError::NoChoices`], and [`ConstraintError::Unspeakable`] for a text that no tokens make.
    pub fn new(
        tokenizer: &Tokenizer,
        texts: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, ConstraintError> {
        let spelling = Spelling::new(tokenizer);
        let mut bytes: Vec<Vec<u8>> = Vec::new();
        for text in texts {
            let text: String = text.into();
            if !can_spell(&spelling, text.as_bytes()) {
                return Err(ConstraintError::Unspeakable { text });
            }
            bytes.push(text.into_bytes());
        }
        if bytes.is_empty() {
            return Err(ConstraintError::NoChoices);
        }
        let open = (0..bytes.len()).collect();
        Ok(Self { spelling, texts: bytes, open, n_bytes: 0, is_over: false })
    }

    /// One of these texts, as a text of its own (an answer in a conversation): a space that the vocabulary puts before it may come
    /// first, as it is not shown.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn new_answer(
        tokenizer: &Tokenizer,
        texts: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, ConstraintError> {
        let texts: Vec<String> = texts.into_iter().map(Into::into).collect();
        let mut both = texts.clone();
        if tokenizer.strips_space() {
            // A space of its own would be stripped in place of the one put there.
            both.retain(|text| !text.starts_with(' '));
            both.extend(texts.iter().map(|text| format!(" {text}")));
        }
        Self::new(tokenizer, both)
    }
}

/// Whether some tokens make this text.
fn can_spell(spelling: &Spelling, text: &[u8]) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for start in 0..text.len() {
        if reached[start] {
            spelling.each_prefix(&text[start..], &mut |_, n| reached[start + n] = true);
        }
    }
    reached[text.len()]
}

impl Constraint for Choices {
    fn mask(&mut self, allowed: &mut TokenMask) {
        if self.is_over {
            return;
        }
        for &i in &self.open {
            let rest = &self.texts[i][self.n_bytes..];
            self.spelling.each_prefix(rest, &mut |token, n| {
                // What is left after the token must have tokens, too: nearly always single bytes see to that.
                if n == rest.len() || can_go_on(&self.spelling, &rest[n..]) {
                    allowed.insert(token);
                }
            });
        }
    }

    fn accept(&mut self, token: u32) {
        let piece = self.spelling.piece(token);
        let n = self.n_bytes;
        self.open.retain(|i| !piece.is_empty() && self.texts[*i][n..].starts_with(piece));
        self.n_bytes += piece.len();
        self.is_over |= self.open.is_empty();
    }

    fn can_end(&self) -> bool {
        self.is_over || self.open.iter().any(|i| self.texts[*i].len() == self.n_bytes)
    }
}

/// [`can_spell`], quickly where one token does.
fn can_go_on(spelling: &Spelling, rest: &[u8]) -> bool {
    spelling.has_all_bytes() || can_spell(spelling, rest)
}
