//! What a task asks.

/// A question with its answer.
#[derive(Debug)]
pub struct Question {
    /// Equal for equal rows of a dataset.
    pub identity: u128,
    pub kind: QuestionKind,
}

/// What is compared.
#[derive(Debug)]
pub enum QuestionKind {
    /// One text, continued by each choice.
    Choices { text: String, choices: Vec<String>, gold: usize },
    /// Several texts, continued by the same ending.
    Contexts { contexts: Vec<String>, ending: String, gold: usize },
    /// One text, continued by the model; any of the answers is right.
    Answer { text: String, answers: Vec<String> },
}

impl Question {
    /// The question and its answer, as they are shown for an example.
    pub fn example(&self) -> (&str, &str) {
        match &self.kind {
            QuestionKind::Choices { text, choices, gold } => (text, &choices[*gold]),
            QuestionKind::Contexts { contexts, ending, gold } => (&contexts[*gold], ending),
            QuestionKind::Answer { text, answers } => (text, &answers[0]),
        }
    }

    /// Texts that the model reads for it.
    pub fn n_requests(&self) -> usize {
        match &self.kind {
            QuestionKind::Choices { choices, .. } => choices.len(),
            QuestionKind::Contexts { contexts, .. } => contexts.len(),
            QuestionKind::Answer { .. } => 1,
        }
    }
}
