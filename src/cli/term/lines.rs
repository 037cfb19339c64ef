//! Lines from the user: edited on a terminal, plain from a pipe.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, Result};

use super::editor::Editor;
use super::line::Line;
use crate::cli::text;

/// Where lines come from.
pub struct Lines {
    editor: Option<Box<Editor>>,
    /// Plain lines, typed on a terminal.
    typed: bool,
}

/// How lines become one text.
#[derive(Clone, Copy, Debug)]
pub struct Joining {
    /// Every line continues, until one that ends in `\` or `/`. Otherwise only a line that ends in `\` continues.
    pub multiline: bool,
    /// Whether a first line is complete as it stands: a command, which `multiline` must not wait for the rest of.
    pub is_command: fn(&str) -> bool,
    /// A line that begins with `"""`, or a command that does after its words, continues until another `"""`.
    pub triple_quotes: bool,
}

impl Joining {
    /// Lines among which there are no commands.
    pub fn without_commands(multiline: bool) -> Self {
        Self { multiline, is_command: |_| false, triple_quotes: false }
    }
}

impl Lines {
    /// Lines from standard input, with an editor where both it and standard output are terminals.
    ///
    /// # Errors
    /// If the terminal cannot be used.
    pub fn edited(keep_history: bool) -> Result<Self> {
        let typed = io::stdin().is_terminal();
        if !typed || !io::stdout().is_terminal() {
            return Ok(Self::plain());
        }
        Ok(Self { editor: Editor::new(keep_history)?.map(Box::new), typed })
    }

    /// Lines from standard input as the terminal or the pipe delivers them.
    pub fn plain() -> Self {
        Self { editor: None, typed: io::stdin().is_terminal() }
    }

    /// Whether somebody is typing.
    pub fn is_typed(&self) -> bool {
        self.typed
    }

    /// Reads one text of one or more lines. The prompt is shown only to somebody who types.
    ///
    /// # Errors
    /// Input that cannot be read or is not UTF-8.
    pub fn read(&mut self, prompt: &str, joining: Joining) -> Result<Line> {
        let mut text = String::new();
        // Not whether `text` is empty: its first lines may be.
        let mut continues = false;
        let mut quoted = false;
        let continuation = if joining.triple_quotes { "... " } else { ". " };
        loop {
            let line =
                match self.read_one(if continues && !prompt.is_empty() { continuation } else { prompt })? {
                    Line::Text(line) => line,
                    // What was typed before the end counts; Ctrl-C discards it.
                    Line::End if continues => return Ok(Line::Text(text)),
                    Line::Interrupted if continues => {
                        text.clear();
                        continues = false;
                        quoted = false;
                        continue;
                    }
                    other => return Ok(other),
                };
            if joining.triple_quotes && (quoted || opens_quotes(&line)) {
                quoted ^= line.matches(QUOTES).count() % 2 == 1;
                text.push_str(&line);
                if !quoted {
                    return Ok(Line::Text(text));
                }
                text.push('\n');
                continues = true;
                continue;
            }
            if !continues && (joining.is_command)(&line) {
                return Ok(Line::Text(line));
            }
            let (line, more) = match (line.strip_suffix('\\'), line.strip_suffix('/')) {
                (Some(line), _) => (line, !joining.multiline),
                (None, Some(line)) if joining.multiline => (line, false),
                _ => (line.as_str(), joining.multiline),
            };
            text.push_str(line);
            if !more {
                return Ok(Line::Text(text));
            }
            text.push('\n');
            continues = true;
        }
    }

    fn read_one(&mut self, prompt: &str) -> Result<Line> {
        if let Some(editor) = &mut self.editor {
            return editor.read(prompt);
        }
        if self.typed && !prompt.is_empty() {
            let mut out = io::stdout().lock();
            out.write_all(prompt.as_bytes()).and_then(|()| out.flush())?;
        }
        read_plain(&mut io::stdin().lock())
    }
}

const QUOTES: &str = "\"\"\"";

/// Whether a line begins a text in quotation marks: at its beginning, or after the words of a command.
fn opens_quotes(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with(QUOTES) || (line.starts_with('/') && line.contains(QUOTES))
}

fn read_plain(input: &mut impl BufRead) -> Result<Line> {
    let mut bytes = Vec::new();
    if input.read_until(b'\n', &mut bytes).context("standard input")? == 0 {
        return Ok(Line::End);
    }
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    text::from_bytes("standard input", bytes).map(Line::Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_end_at_a_newline_or_the_end() {
        let mut input = &b"one\r\ntwo\n\nlast"[..];
        for want in ["one", "two", "", "last"] {
            assert_eq!(read_plain(&mut input).unwrap(), Line::Text(want.into()));
        }
        assert_eq!(read_plain(&mut input).unwrap(), Line::End);
        assert!(read_plain(&mut &b"\xff\n"[..]).is_err());
    }
}
