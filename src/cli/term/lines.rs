//! Lines from the user: edited on a terminal, plain from a pipe.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use rustyline::error::ReadlineError;
use rustyline::{
    Cmd, ConditionalEventHandler, DefaultEditor, Event, EventContext, EventHandler, KeyEvent, Movement,
    RepeatCount,
};

use crate::cli::text;

/// Where lines come from.
pub struct Lines {
    editor: Option<Box<Edited>>,
    /// Plain lines, typed on a terminal.
    typed: bool,
}

struct Edited {
    editor: DefaultEditor,
    /// Whether Ctrl-C ended the line.
    interrupted: Arc<AtomicBool>,
    history: Option<PathBuf>,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, or several joined by newlines.
    Text(String),
    /// Ctrl-C on an empty line.
    Interrupted,
    /// Ctrl-D, or the end of the pipe.
    End,
}

/// How lines become one text.
#[derive(Clone, Copy, Debug)]
pub struct Joining {
    /// Every line continues, until one that ends in `\` or `/`. Otherwise only a line that ends in `\` continues.
    pub multiline: bool,
    /// Whether a first line is complete as it stands: a command, which `multiline` must not wait for the rest of.
    pub is_command: fn(&str) -> bool,
}

impl Joining {
    /// Lines among which there are no commands.
    pub fn without_commands(multiline: bool) -> Self {
        Self { multiline, is_command: |_| false }
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
        let config = rustyline::Config::builder().auto_add_history(true).build();
        let mut editor = DefaultEditor::with_config(config).context("the terminal")?;
        let interrupted = Arc::new(AtomicBool::new(false));
        let handler = Box::new(CtrlC { interrupted: interrupted.clone() });
        editor.bind_sequence(KeyEvent::ctrl('c'), EventHandler::Conditional(handler));
        let history = if keep_history { history_file() } else { None };
        if let Some(path) = &history {
            // There is none the first time.
            let _ = editor.load_history(path);
        }
        Ok(Self { editor: Some(Box::new(Edited { editor, interrupted, history })), typed })
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
        loop {
            let line = match self.read_one(if continues && !prompt.is_empty() { ". " } else { prompt })? {
                Line::Text(line) => line,
                // What was typed before the end counts; Ctrl-C discards it.
                Line::End if continues => return Ok(Line::Text(text)),
                Line::Interrupted if continues => {
                    text.clear();
                    continues = false;
                    continue;
                }
                other => return Ok(other),
            };
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
        let Some(edited) = &mut self.editor else {
            if self.typed && !prompt.is_empty() {
                let mut out = io::stdout().lock();
                out.write_all(prompt.as_bytes()).and_then(|()| out.flush())?;
            }
            return read_plain(&mut io::stdin().lock());
        };
        match edited.editor.readline(prompt) {
            Ok(_) if edited.interrupted.swap(false, Ordering::Relaxed) => Ok(Line::Interrupted),
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
    /// Keeps the history. A conversation does not stop for want of it.
    fn save(&mut self) {
        if let Some(path) = &self.history {
            let _ = self.editor.append_history(path);
        }
    }
}

/// Ctrl-C clears the line where something is typed, as in a shell, and otherwise ends it.
struct CtrlC {
    interrupted: Arc<AtomicBool>,
}

impl ConditionalEventHandler for CtrlC {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        if !context.line().is_empty() {
            return Some(Cmd::Kill(Movement::WholeBuffer));
        }
        // Not `Cmd::Interrupt`, with which the editor would drop what was typed after Ctrl-C.
        self.interrupted.store(true, Ordering::Relaxed);
        Some(Cmd::AcceptLine)
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

/// `$XDG_STATE_HOME/bise/history`, by default in `~/.local/state`; creates its folder.
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
