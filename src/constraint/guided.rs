//! A constraint by a grammar that llguidance follows.

use std::sync::Arc;

use llguidance::{Matcher, TokenParser};

use super::{Constraint, ConstraintError, TokenMask};

/// Follows a grammar of llguidance.
pub struct Guided {
    matcher: Matcher,
    ends: Arc<[u32]>,
    can_end: bool,
    fault: Option<String>,
}

impl Guided {
    /// Follows a parser, with the tokens that end a text.
    pub fn new(ends: Arc<[u32]>, parser: TokenParser) -> Result<Self, ConstraintError> {
        let mut guided = Self { matcher: Matcher::new(Ok(parser)), ends, can_end: false, fault: None };
        guided.look_for_end();
        match guided.fault.take() {
            None => Ok(guided),
            Some(message) => Err(ConstraintError::Schema { at: String::new(), message }),
        }
    }

    fn look_for_end(&mut self) {
        let stopped = self.matcher.is_stopped();
        self.can_end = match self.matcher.is_accepting() {
            Ok(can_end) => can_end || stopped && self.matcher.stop_reason().is_ok(),
            Err(error) => self.fail(&error),
        };
    }

    /// Notes why the grammar cannot be followed any further.
    fn fail(&mut self, error: &dyn std::fmt::Display) -> bool {
        self.fault.get_or_insert_with(|| first_line(&error.to_string()));
        false
    }
}

impl Constraint for Guided {
    fn mask(&mut self, allowed: &mut TokenMask) {
        if self.fault.is_some() || self.matcher.is_stopped() {
            return;
        }
        match self.matcher.compute_mask() {
            Ok(mask) => {
                // Theirs has a bit for each token, too, in words of half the size.
                for (word, pair) in allowed.words_mut().iter_mut().zip(mask.as_slice().chunks(2)) {
                    *word = u64::from(pair[0]) | pair.get(1).map_or(0, |high| u64::from(*high) << 32);
                }
                for &end in &*self.ends {
                    allowed.remove(end);
                }
                allowed.trim();
            }
            Err(_) if self.can_end => {}
            Err(error) => {
                self.fail(&error);
            }
        }
    }

    fn accept(&mut self, token: u32) {
        if self.fault.is_some() || self.ends.contains(&token) || self.matcher.is_stopped() {
            return;
        }
        match self.matcher.consume_token(token) {
            Ok(()) => self.look_for_end(),
            Err(error) => {
                self.can_end = false;
                self.fail(&error);
            }
        }
    }

    fn can_end(&self) -> bool {
        self.can_end
    }

    fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }
}

/// The first line of a message, which is about the grammar; those after it are about the parser.
pub fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.trim_end_matches("<state>").trim().to_owned()
}
