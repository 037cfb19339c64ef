//! What comes of asking for a line.

/// What was read from the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, or several joined by newlines.
    Text(String),
    /// Ctrl-C on an empty line.
    #[cfg_attr(target_family = "wasm", expect(dead_code, reason = "no editor reads keys there"))]
    Interrupted,
    /// Ctrl-D, or the end of the pipe.
    End,
}
