//! A constraint that begins somewhere in a text.

use bise_models::tokenizer::Tokenizer;

use super::spelling::Spelling;
use super::{Constraint, TokenMask};

/// Where a [`Lazy`] constraint begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Behind this token.
    Token(u32),
    /// Behind this text.
    Text(String),
}

/// Allows everything up to a trigger, and behind it what another constraint does.
///
/// The text may end before the trigger comes. Tokens that would go on behind a text that triggers are not allowed, so that the other
/// constraint begins with a token.
pub struct Lazy<C> {
    inner: C,
    state: State,
}

enum State {
    Token(u32),
    Text(TextTrigger),
    /// The trigger has come.
    Inner,
}

impl<C: Constraint> Lazy<C> {
    /// A constraint that waits for its trigger.
    pub fn new(tokenizer: &Tokenizer, trigger: Trigger, inner: C) -> Self {
        let state = match trigger {
            Trigger::Token(token) => State::Token(token),
            Trigger::Text(text) if text.is_empty() => State::Inner,
            Trigger::Text(text) => State::Text(TextTrigger::new(tokenizer, text)),
        };
        Self { inner, state }
    }

    /// Whether the trigger has come.
    pub fn has_begun(&self) -> bool {
        matches!(self.state, State::Inner)
    }
}

impl<C: Constraint> Constraint for Lazy<C> {
    fn mask(&mut self, allowed: &mut TokenMask) {
        match &self.state {
            State::Token(_) => allowed.fill(),
            State::Text(trigger) => trigger.mask(allowed),
            State::Inner => self.inner.mask(allowed),
        }
    }

    fn accept(&mut self, token: u32) {
        match &mut self.state {
            State::Token(trigger) if *trigger == token => self.state = State::Inner,
            State::Token(_) => {}
            State::Text(trigger) => {
                if trigger.accept(token) {
                    self.state = State::Inner;
                }
            }
            State::Inner => self.inner.accept(token),
        }
    }

    fn can_end(&self) -> bool {
        !self.has_begun() || self.inner.can_end()
    }

    fn fault(&self) -> Option<&str> {
        self.inner.fault()
    }
}

/// Looks for a text in what tokens spell.
struct TextTrigger {
    spelling: Spelling,
    text: Vec<u8>,
    /// For each number of bytes of `text` that were met, how many remain met where the next byte differs (Knuth, Morris and Pratt).
    borders: Vec<usize>,
    n_met: usize,
}

impl TextTrigger {
    fn new(tokenizer: &Tokenizer, text: String) -> Self {
        let text = text.into_bytes();
        let mut borders = vec![0; text.len() + 1];
        for n in 1..text.len() {
            let mut k = borders[n];
            while k > 0 && text[k] != text[n] {
                k = borders[k];
            }
            borders[n + 1] = k + usize::from(text[k] == text[n]);
        }
        Self { spelling: Spelling::new(tokenizer), text, borders, n_met: 0 }
    }

    /// How many bytes of the text are met behind another byte, at most all.
    fn step(&self, mut n_met: usize, byte: u8) -> usize {
        while n_met > 0 && self.text[n_met] != byte {
            n_met = self.borders[n_met];
        }
        n_met + usize::from(self.text[n_met] == byte)
    }

    /// Whether the text ends within these bytes, before their last.
    fn ends_within(&self, bytes: &[u8]) -> bool {
        let mut n_met = self.n_met;
        for (i, byte) in bytes.iter().enumerate() {
            n_met = self.step(n_met, *byte);
            if n_met == self.text.len() {
                return i + 1 < bytes.len();
            }
        }
        false
    }

    fn mask(&self, allowed: &mut TokenMask) {
        allowed.fill();
        // A token that the text ends within holds its last byte before others.
        let last = self.text[self.text.len() - 1];
        self.spelling.each(&mut |token, bytes| {
            let holds_last = bytes.len() > 1 && bytes[..bytes.len() - 1].contains(&last);
            if holds_last && self.ends_within(bytes) {
                allowed.remove(token);
            }
        });
    }

    /// Whether the text has come.
    fn accept(&mut self, token: u32) -> bool {
        for byte in self.spelling.piece(token) {
            self.n_met = self.step(self.n_met, *byte);
            if self.n_met == self.text.len() {
                return true;
            }
        }
        false
    }
}
