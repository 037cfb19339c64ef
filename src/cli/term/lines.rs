//! Lines from the user: edited on a terminal, plain from a pipe.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::cli::text;

/// Where lines come from.
pub struct Lines {
    editor: Option<Box<Edited>>,
    /// Plain, but somebody is typing.
    typed: bool,
}

struct Edited {
    editor: DefaultEditor,
    history: Option<PathBuf>,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, or several joined by newlines.
    Text(String),
    /// Ctrl-C while typing.
    Interrupted,
    /// Ctrl-D, or the end of the pipe.
    End,
}

impl Lines {
    /// Lines of standard input: with editing and a history where it and the output are a terminal, unless `simple`.
    ///
    /// # Errors
    /// If the terminal cannot be used.
    pub fn new(simple: bool) -> Result<Self> {
        let typed = io::stdin().is_terminal();
        if simple || !typed || !io::stdout().is_terminal() {
            return Ok(Self { editor: None, typed });
        }
        let config = rustyline::Config::builder().auto_add_history(true).build();
        let mut editor = DefaultEditor::with_config(config).context("the terminal")?;
        let history = history_file();
        if let Some(path) = &history {
            // The first time there is none.
            let _ = editor.load_history(path);
        }
        Ok(Self { editor: Some(Box::new(Edited { editor, history })), typed })
    }

    /// Whether somebody is typing.
    pub fn is_typed(&self) -> bool {
        self.typed
    }

    /// Reads a line; one that ends in `\` goes on in the next. With `multiline` every line does, until one that ends in `\`
    /// or `/`. The prompt is only shown to who types.
    ///
    /// # Errors
    /// Input that cannot be read or is not UTF-8.
    pub fn read(&mut self, prompt: &str, multiline: bool) -> Result<Line> {
        let mut text = String::new();
        let mut prompt = prompt;
        loop {
            match self.read_one(prompt)? {
                Line::Text(line) => {
                    let (line, more) = match (line.strip_suffix('\\'), line.strip_suffix('/')) {
                        (Some(line), _) => (line, !multiline),
                        (None, Some(line)) if multiline => (line, false),
                        _ => (line.as_str(), multiline),
                    };
                    text.push_str(line);
                    if !more {
                        return Ok(Line::Text(text));
                    }
                    text.push('\n');
                }
                // What was typed before the end counts.
                Line::End if !text.is_empty() => return Ok(Line::Text(text)),
                other => return Ok(other),
            }
            prompt = if prompt.is_empty() { "" } else { ". " };
        }
    }

    fn read_one(&mut self, prompt: &str) -> Result<Line> {
        let Some(edited) = &mut self.editor else {
            if self.typed && !prompt.is_empty() {
                let mut out = io::stdout().lock();
                out.write_all(prompt.as_bytes()).and_then(|()| out.flush())?;
            }
            return read_plain(&mut io::stdin().lock());
        };
        match edited.editor.readline(prompt) {
            Ok(line) => {
                edited.save();
                Ok(Line::Text(line))
            }
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(error) => Err(error).context("the terminal"),
        }
    }
}

impl Edited {
    /// Keeps the history; losing it is no reason to stop a conversation.
    fn save(&mut self) {
        if let Some(path) = &self.history {
            let _ = self.editor.append_history(path);
        }
    }
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

/// `$XDG_STATE_HOME/bise/history`, in `~/.local/state` by default, its folder made.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let folder = state.join("bise");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
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
