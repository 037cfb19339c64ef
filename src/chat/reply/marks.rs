//! The control tokens that a reply is structured by.

use bise_models::tokenizer::Tokenizer;

/// A control token of Mistral's replies, or the same spelled as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    ToolCalls,
    CallId,
    Args,
    Think,
    EndThink,
}

impl Mark {
    pub const ALL: [Self; 5] = [Self::ToolCalls, Self::CallId, Self::Args, Self::Think, Self::EndThink];

    /// How the vocabulary spells it.
    pub fn text(self) -> &'static str {
        match self {
            Self::ToolCalls => "[TOOL_CALLS]",
            Self::CallId => "[CALL_ID]",
            Self::Args => "[ARGS]",
            Self::Think => "[THINK]",
            Self::EndThink => "[/THINK]",
        }
    }
}

/// Which marks are control tokens of a vocabulary. The others can only come as text.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    tokens: [Option<u32>; Mark::ALL.len()],
}

impl Marks {
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let token = |mark: Mark| tokenizer.id(mark.text()).filter(|&id| tokenizer.is_control(id));
        Self { tokens: Mark::ALL.map(token) }
    }

    /// The mark that a token is.
    pub fn find(&self, token: u32) -> Option<Mark> {
        Mark::ALL.into_iter().find(|&mark| self.tokens[mark as usize] == Some(token))
    }

    /// Whether the mark is written as text, since no token stands for it.
    pub fn is_text(&self, mark: Mark) -> bool {
        self.tokens[mark as usize].is_none()
    }
}

/// The first of `texts` in `text`: where, and which one.
pub fn find_text(text: &str, texts: &[&'static str]) -> Option<(usize, &'static str)> {
    texts.iter().filter_map(|mark| Some((text.find(mark)?, *mark))).min()
}

/// How many bytes at the end of `text` may be the beginning of one of `texts`.
pub fn n_held_back(text: &str, texts: &[&'static str]) -> usize {
    let begins = |mark: &&'static str| {
        let longest = text.len().min(mark.len() - 1);
        (1..=longest).rev().find(|&n| text.as_bytes().ends_with(&mark.as_bytes()[..n]))
    };
    texts.iter().filter_map(begins).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_in_text_are_found_and_their_beginnings_held_back() {
        let marks = ["[TOOL_CALLS]", "<think>"];
        assert_eq!(find_text("a[TOOL_CALLS]<think>", &marks), Some((1, "[TOOL_CALLS]")));
        assert_eq!(find_text("a[TOOL_CALLS", &marks), None);
        assert_eq!(n_held_back("a[TOOL_CALLS", &marks), 11);
        assert_eq!(n_held_back("a[", &marks), 1);
        assert_eq!(n_held_back("<thin<", &marks), 1);
        assert_eq!(n_held_back("é", &marks), 0);
        assert_eq!(n_held_back("", &marks), 0);
    }
}
