//! What people see: notes on stderr, the text on stdout, progress and colours where there is a terminal.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::signals;
use bise_models::printable::Printable;

/// Notes for people, on stderr. What cannot be written there is lost, never an error.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    pub level: Level,
}

/// What is written. Errors always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Errors,
    Warnings,
    Notes,
}

impl Log {
    /// Writes one line, whole: lines of several programs on one terminal or pipe do not mix.
    pub fn note(self, line: impl fmt::Display) {
        if self.level >= Level::Notes {
            write_line(line);
        }
    }

    /// Warns in one line.
    pub fn warn(self, line: impl fmt::Display) {
        if self.level >= Level::Warnings {
            write_line(format_args!("bise: warning: {line}"));
        }
    }

    /// A bar of `len` steps on a terminal; nothing elsewhere. It goes away when it is dropped.
    pub fn progress(self, what: &'static str, len: usize) -> Progress {
        let shown = self.level >= Level::Notes && io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(len as u64), target).with_message(what);
        let template = "{msg} {bar:30} {pos}/{len} {eta}";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
        // Shown at once: the first step may take seconds.
        bar.tick();
        Progress(bar)
    }

    /// A bar of `total` bytes of `file` on a terminal; `None` elsewhere.
    #[cfg(feature = "hub")]
    pub fn transfer(self, what: &'static str, file: &str, total: Option<u64>) -> Option<Transfer> {
        if self.level < Level::Notes || !io::stderr().is_terminal() {
            return None;
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let file = Printable(file.rsplit('/').next().unwrap_or(file)).to_string();
        let template = match total {
            Some(_) => {
                "{prefix} {msg} {bar:24} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}"
            }
            None => "{prefix} {msg} {spinner} {decimal_bytes} {decimal_bytes_per_sec}",
        };
        bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
        bar.set_prefix(what);
        bar.set_message(file);
        Some(Transfer(bar))
    }
}

/// A bar for bytes that arrive or are read, on stderr.
#[cfg(feature = "hub")]
pub struct Transfer(ProgressBar);

#[cfg(feature = "hub")]
impl Transfer {
    /// Sets how many bytes are done.
    pub fn set(&self, done: u64) {
        self.0.set_position(done);
    }
}

#[cfg(feature = "hub")]
impl Drop for Transfer {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Writes a line to stderr in one write. What a file or a template put into it cannot drive the terminal.
pub fn write_line(line: impl fmt::Display) {
    // Formatted first: stderr has no buffer and would write each part by itself.
    let _ = io::stderr().write_all(format!("{}\n", Printable(line)).as_bytes());
}

/// A progress bar on stderr.
pub struct Progress(ProgressBar);

impl Progress {
    /// Sets how many steps are done.
    pub fn set(&self, done: usize) {
        self.0.set_position(done as u64);
    }

    /// Sets how many steps there are.
    #[cfg(feature = "convert")]
    pub fn set_len(&self, len: usize) {
        self.0.set_length(len as u64);
    }

    /// Takes the bar away while `write` writes lines.
    #[cfg(feature = "train")]
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }

    /// Turns by itself while something of unknown length happens.
    pub fn spin(&self) {
        self.0
            .set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is well formed"));
        // It takes a thread.
        #[cfg(not(target_family = "wasm"))]
        self.0.enable_steady_tick(std::time::Duration::from_millis(100));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Standard output with the colours of llama.cpp: what the user gives is yellow (a prompt) or green (what is typed).
pub struct Screen {
    out: io::StdoutLock<'static>,
    colours: bool,
    colour: Colour,
}

/// When to print in colour.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always
    On,
    /// Never
    Off,
    /// On a terminal, unless NO_COLOR is set
    Auto,
}

/// What is being printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// The model's words.
    Plain,
    /// The prompt.
    Prompt,
    /// What the user types.
    Input,
}

impl Screen {
    /// Takes hold of standard output.
    pub fn new(colours: When) -> Self {
        let out = io::stdout().lock();
        let colours = colours == When::On || (colours == When::Auto && wants_colours(&out));
        Self { colours, out, colour: Colour::Plain }
    }

    /// Changes the colour of what follows.
    ///
    /// # Errors
    /// If nobody reads any more.
    pub fn set_colour(&mut self, colour: Colour) -> io::Result<()> {
        if !self.colours || self.colour == colour {
            return Ok(());
        }
        self.colour = colour;
        signals::set_coloured(colour != Colour::Plain);
        self.print(match colour {
            Colour::Plain => "\x1b[0m",
            Colour::Prompt => "\x1b[33m",
            Colour::Input => "\x1b[1m\x1b[32m",
        })
    }

    /// Prints a piece of text and shows it at once.
    ///
    /// # Errors
    /// If nobody reads any more.
    pub fn print(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.set_colour(Colour::Plain);
    }
}

/// Whether a stream is a terminal that wants colours.
pub fn wants_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && understands_colours()
}

/// Whether a terminal takes escape sequences, once it has been asked to.
fn understands_colours() -> bool {
    #[cfg(windows)]
    return anstyle_query::windows::enable_ansi_colors().unwrap_or(false);
    #[cfg(not(windows))]
    true
}

/// Whether an error is that nobody reads standard output any more, which is no error at all.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|e| e.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
