//! The line editor of a conversation, with its history.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use rustyline::error::ReadlineError;
use rustyline::{
    Cmd, ConditionalEventHandler, DefaultEditor, Event, EventContext, EventHandler, KeyEvent, Movement,
    RepeatCount,
};

use super::line::Line;

/// Edits one line at a time.
pub struct Editor {
    editor: DefaultEditor,
    /// Whether Ctrl-C ended the line.
    interrupted: Arc<AtomicBool>,
    history: Option<PathBuf>,
}

impl Editor {
    /// An editor for the terminal that standard input and output are; `None` on systems that have none.
    ///
    /// # Errors
    /// If the terminal cannot be used.
    pub fn new(keep_history: bool) -> Result<Option<Self>> {
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
        Ok(Some(Self { editor, interrupted, history }))
    }

    /// Reads one line, without its end.
    ///
    /// # Errors
    /// If the terminal cannot be used.
    pub fn read(&mut self, prompt: &str) -> Result<Line> {
        match self.editor.readline(prompt) {
            Ok(_) if self.interrupted.swap(false, Ordering::Relaxed) => Ok(Line::Interrupted),
            Ok(line) => {
                self.save();
                Ok(Line::Text(line))
            }
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(error) => Err(error).context("the terminal"),
        }
    }

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

/// `$XDG_STATE_HOME/bise/history`, by default in `~/.local/state`, on Windows in `%LOCALAPPDATA%`; creates its folder.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let default = || match cfg!(windows) {
        true => absolute("LOCALAPPDATA"),
        false => Some(absolute("HOME")?.join(".local/state")),
    };
    let folder = absolute("XDG_STATE_HOME").or_else(default)?.join("bise");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}
