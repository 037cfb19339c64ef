//! Models by name: what the flags say about hubs, and downloads on the terminal.

use std::ops::ControlFlow;

use anyhow::Result;
use bise::Cancel;
use bise::hub::hugging_face::Selection;
use bise::hub::{Hub, Progress, Reference, Settings};

use super::args::source::SourceArgs;
use super::describe;
use super::term::console::{self, Log};
use super::term::signals::{self, Writing};
use super::usage::wrong;

/// A hub that goes by the environment and these flags.
pub fn open(source: &SourceArgs) -> Hub {
    let mut settings = Settings::from_env();
    settings.offline |= source.offline;
    if let Some(token) = &source.hf_token {
        settings.token = Some(token.clone());
    }
    Hub::new(settings)
}

/// The model that the flags name.
///
/// # Errors
/// Two at once.
pub fn reference(source: &SourceArgs) -> Result<Option<Reference>> {
    match (&source.hf_repo, &source.model_url) {
        (Some(_), Some(_)) => Err(wrong("--hf-repo and --model-url both name a model: give one of them")),
        (Some(selection), None) => {
            let file = source.hf_file.clone();
            Ok(Some(Reference::HuggingFace(Selection { file, ..selection.clone() })))
        }
        (None, url) => Ok(url.clone().map(Reference::Url)),
    }
}

/// Shows a download: a bar on a terminal, a line for each file elsewhere. Ctrl-C ends it, and what has arrived is kept.
pub struct Shown {
    log: Log,
    bar: Option<console::Transfer>,
    /// What is being done to which file.
    current: (Doing, String),
    cancel: Cancel,
    _listening: Writing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    Waiting,
    Downloading,
    Retrying,
    Checking,
    Converting,
    WaitingForConversion,
}

impl Shown {
    /// Nothing is shown before something is done.
    pub fn new(log: Log) -> Self {
        let cancel = Cancel::new();
        let listening = signals::writing(cancel.clone());
        Self { log, bar: None, current: (Doing::Nothing, String::new()), cancel, _listening: listening }
    }

    /// Shows a step.
    pub fn watch(&mut self, progress: Progress<'_>) -> ControlFlow<()> {
        match progress {
            Progress::Waiting { file } if self.begins(Doing::Waiting, file) => {
                self.log.note(format_args!("another process downloads {file}: waiting for it"));
            }
            Progress::Downloading { file, done, total, .. } => {
                if self.begins(Doing::Downloading, file) {
                    self.bar = self.log.transfer("downloading", file, total);
                    if self.bar.is_none() {
                        let size =
                            total.map_or(String::new(), |total| format!(", {}", describe::bytes(total)));
                        let kept = match done {
                            0 => String::new(),
                            done => format!(", of which {} are here", describe::bytes(done)),
                        };
                        self.log.note(format_args!("downloading {file}{size}{kept}"));
                    }
                }
                self.set(done);
            }
            // The same failure is told once, not ten times a second.
            Progress::Retrying { why, after } if self.begins(Doing::Retrying, why) => {
                self.log.note(format_args!("{why}; trying again in {:.1} s", after.as_secs_f64()));
            }
            Progress::Checking { file, done, total } => {
                if self.begins(Doing::Checking, file) {
                    self.bar = self.log.transfer("checking", file, Some(total));
                }
                self.set(done);
            }
            Progress::WaitingForConversion { name } if self.begins(Doing::WaitingForConversion, name) => {
                self.log.note(format_args!("another process converts {name}: waiting for it"));
            }
            Progress::Converting { name, done, total } => {
                if self.begins(Doing::Converting, name) {
                    self.bar = self.log.transfer("converting", name, Some(total));
                    if self.bar.is_none() {
                        self.log.note(format_args!("converting {name}, {}", describe::bytes(total)));
                    }
                }
                self.set(done);
            }
            Progress::Done { .. } => self.bar = None,
            Progress::Note { text } => {
                self.bar = None;
                self.log.note(text);
            }
            _ => {}
        }
        match self.cancel.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn set(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set(done);
        }
    }

    /// Whether this is something else than a moment ago.
    fn begins(&mut self, doing: Doing, what: &str) -> bool {
        if self.current.0 == doing && self.current.1 == what {
            return false;
        }
        self.bar = None;
        self.current = (doing, what.to_string());
        true
    }
}
