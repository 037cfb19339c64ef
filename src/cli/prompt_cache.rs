//! `--prompt-cache`: what an earlier run has read, kept in a file.

use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result};
use bise::{Engine, Error, Session, SessionFileError, SessionOptions};

use super::args::prompt_cache::PromptCacheArgs;
use super::term::console::Log;
use super::usage::wrong;

/// The file, and what is to be done with it.
pub struct PromptCache {
    path: PathBuf,
    keeps_all: bool,
    is_read_only: bool,
    /// Tokens that came from the file.
    n_restored: usize,
    /// The first prompt was read.
    is_begun: bool,
    log: Log,
}

/// How much of a prompt a session had read before.
#[derive(Clone, Copy, Debug)]
pub struct Reused {
    /// Tokens that are not read again.
    pub n_kept: usize,
    /// Tokens that prompt and session have in common: one more than are kept, where only the logits after it are missing.
    pub n_common: usize,
    /// Tokens of the prompt.
    pub n_prompt: usize,
}

impl PromptCache {
    /// Opens the file of `--prompt-cache`, and restores the session in it where it fits the model and the options.
    ///
    /// # Errors
    /// A file that is something else than a session, which is not overwritten then, or cannot be read; flags that need `--prompt-cache`.
    pub fn open(
        args: &PromptCacheArgs,
        engine: &Engine,
        options: &SessionOptions,
        log: Log,
    ) -> Result<Option<(PromptCache, Option<Session>)>> {
        let Some(path) = &args.prompt_cache else {
            return match args {
                PromptCacheArgs { prompt_cache_all: true, .. } => {
                    Err(wrong("--prompt-cache-all: found no file, expected --prompt-cache FILE"))
                }
                PromptCacheArgs { prompt_cache_ro: true, .. } => {
                    Err(wrong("--prompt-cache-ro: found no file, expected --prompt-cache FILE"))
                }
                _ => Ok(None),
            };
        };
        if args.prompt_cache_all && args.prompt_cache_ro {
            log.warn("--prompt-cache-all has no effect beside --prompt-cache-ro");
        }
        let is_empty =
            std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0);
        let restored = if is_empty { Ok(None) } else { engine.restore_session(path, options).map(Some) };
        let session = match restored {
            Ok(session) => session,
            Err(Error::SessionFile(SessionFileError::Io { error, .. }))
                if error.kind() == ErrorKind::NotFound =>
            {
                None
            }
            Err(Error::SessionFile(error @ SessionFileError::NotASession { .. })) => {
                return Err(error).context("--prompt-cache");
            }
            Err(Error::SessionFile(error @ SessionFileError::Io { .. })) => {
                return Err(error).context("--prompt-cache");
            }
            // One of ours, of no use here.
            Err(Error::SessionFile(error)) => {
                log.warn(format_args!("{error}: the prompt is read from the start"));
                None
            }
            Err(error) => return Err(error.into()),
        };
        let cache = PromptCache {
            path: path.clone(),
            keeps_all: args.prompt_cache_all && !args.prompt_cache_ro,
            is_read_only: args.prompt_cache_ro,
            n_restored: session.as_ref().map_or(0, Session::position),
            is_begun: false,
            log,
        };
        Ok(Some((cache, session)))
    }

    /// The first prompt was read. Says how much of it came from the file, and saves it where that has not all of it. A failure to save is
    /// only a warning: the text goes on.
    pub fn begin(&mut self, session: &Session, reused: Reused) {
        let Reused { n_common, n_prompt, .. } = reused;
        if std::mem::replace(&mut self.is_begun, true) {
            return;
        }
        let path = self.path.display();
        match self.n_restored {
            0 => self.log.note(format_args!("prompt cache: {path} has nothing for this prompt yet")),
            _ => self.log.note(format_args!(
                "prompt cache: {n_common} of {n_prompt} tokens of the prompt were read before ({path})"
            )),
        }
        if n_common < n_prompt
            && !self.is_read_only
            && let Err(error) = session.save(&self.path)
        {
            self.log.warn(format_args!("--prompt-cache: {error}"));
        }
    }

    /// Whether the generated text is kept.
    pub fn keeps_all(&self) -> bool {
        self.keeps_all && self.is_begun
    }

    /// The text is over: saves all of it with `--prompt-cache-all`.
    ///
    /// # Errors
    /// If it cannot be saved.
    pub fn end(&self, session: &Session) -> Result<()> {
        if self.keeps_all() {
            session.save(&self.path).context("--prompt-cache-all")?;
            let (path, n) = (self.path.display(), session.position());
            self.log.note(format_args!("prompt cache: {n} tokens are kept ({path})"));
        }
        Ok(())
    }
}
