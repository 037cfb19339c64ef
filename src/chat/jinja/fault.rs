//! What goes wrong in a template.

/// Why a template cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::chat) struct SyntaxError {
    /// From 1.
    pub line: u32,
    pub message: String,
}

/// Why a template stopped, and in which line (from 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::chat) struct Stopped {
    pub line: usize,
    pub fault: Fault,
}

/// Why a template stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::chat) enum Fault {
    /// It called `raise_exception`.
    Refused(String),
    /// It asked for more time or memory than there is.
    Endless,
    /// It did what cannot be done.
    Failed(String),
}

impl Fault {
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    pub fn undefined(name: &str) -> Self {
        Self::Failed(format!("'{name:.60}' is undefined"))
    }
}
