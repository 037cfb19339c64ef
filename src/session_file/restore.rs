//! Reads a session.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use bise_kernels::kv_page::PAGE_LEN;
use bise_models::{KvCache, OutOfMemory, PoolError};
use twox_hash::XxHash3_64;

use super::SessionFileError;
use super::format::{
    CHECKSUM_BYTES, HEADER_BYTES, Header, HeaderError, STATE_BYTES, VERSION_WITH_ADAPTERS, decode_state,
    describe_rope,
};
use super::save::{model_name, shortened};
use crate::adapter::list::Adapters;
use crate::generation::GenerationState;
use crate::{Engine, Error, Sequence, Session, SessionOptions};

/// A session that was restored, and what was saved with it.
pub struct Restored {
    /// The session.
    pub session: Session,
    /// The state of the generation that continued it, where one was saved ([`Session::save_with`]).
    pub state: Option<GenerationState>,
}

impl Engine {
    /// Restores a session that [`Session::save`] has saved. It goes on as if it had never been away, bit for bit.
    ///
    /// The engine's adapters must be those that acted on it. `options` must have the cache types that the session was saved with, and a context that holds its tokens. Keys and values are
    /// read straight into their pages.
    ///
    /// # Errors
    /// A [`SessionFileError`] for a file that is no session, is damaged in any byte or cut short, comes from another version of bise, or
    /// from another model (by a hash of the metadata, the table of tensors and a sample of each tensor), cache type, window or rotary
    /// embedding. Also for more tokens than the context holds, and where memory is short.
    pub fn restore_session(
        &self,
        path: impl AsRef<Path>,
        options: &SessionOptions,
    ) -> Result<Session, Error> {
        self.restore_session_with(path, options).map(|restored| restored.session)
    }

    /// [`Engine::restore_session`], and the state of the generation where it was saved too.
    ///
    /// # Errors
    /// As [`Engine::restore_session`].
    pub fn restore_session_with(
        &self,
        path: impl AsRef<Path>,
        options: &SessionOptions,
    ) -> Result<Restored, Error> {
        self.restore_session_adapted(path, options, self.adapters())
    }

    /// [`Engine::restore_session_with`] for a session on which these adapters act, in place of the engine's.
    ///
    /// # Errors
    /// As [`Engine::restore_session`].
    pub fn restore_session_adapted(
        &self,
        path: impl AsRef<Path>,
        options: &SessionOptions,
        adapters: Adapters,
    ) -> Result<Restored, Error> {
        let path = path.as_ref();
        let io_error = |error| SessionFileError::Io { path: path.to_owned(), error };
        let file = File::open(path).map_err(io_error)?;
        let metadata = file.metadata().map_err(io_error)?;
        if !metadata.is_file() {
            let found = "it is no regular file".to_owned();
            return Err(SessionFileError::NotASession { path: path.to_owned(), found }.into());
        }
        let reader = BufReader::new(file);
        let reader =
            Reader { path: path.to_owned(), reader, n_bytes: metadata.len(), hash: XxHash3_64::new() };
        reader.restore(self, options, adapters)
    }
}

struct Reader {
    path: PathBuf,
    reader: BufReader<File>,
    n_bytes: u64,
    hash: XxHash3_64,
}

impl Reader {
    fn restore(
        mut self,
        engine: &Engine,
        options: &SessionOptions,
        adapters: Adapters,
    ) -> Result<Restored, Error> {
        let header = self.header()?;
        self.check_model(&header, engine, options, &adapters)?;
        let (config, n_tokens) = (engine.config(), header.n_tokens);
        let pool = engine.sequence(options).cache().pool().clone();
        let n_ctx = engine.n_ctx(options);
        if config.sliding_window.is_none() && n_tokens > n_ctx {
            return Err(SessionFileError::TooLong { path: self.path, n_tokens, n_ctx }.into());
        }
        if !KvCache::is_whole(config.sliding_window, header.first_page, n_tokens) {
            return Err(self.damaged("pages are missing that the next token needs"));
        }
        let expected = header.file_bytes(config.n_vocab, config.n_layers, pool.layout().page_bytes());
        if expected != Some(self.n_bytes) {
            let n_bytes = self.n_bytes;
            return Err(self.damaged(match expected {
                Some(expected) => format!("it has {n_bytes} bytes, expected {expected}"),
                None => "its header makes no sense".to_owned(),
            }));
        }
        // The file is as long as all of this together, so there is no more of it than on the disk.
        let tokens = self.numbers(n_tokens, "the tokens of a session", u32::from_le_bytes)?;
        if let Some(token) = tokens.iter().find(|token| **token as usize >= config.n_vocab) {
            let what = format!("token {token} is not in the vocabulary, which has {}", config.n_vocab);
            return Err(self.damaged(what));
        }
        let logits = match header.has_logits {
            true => Some(self.numbers(config.n_vocab, "logits", f32::from_le_bytes)?),
            false => None,
        };
        let state = match header.has_state {
            true => Some(self.state(config.n_vocab)?),
            false => None,
        };
        let cache =
            KvCache::restore(&pool, n_ctx, config.sliding_window, header.first_page, n_tokens, &mut |page| {
                self.read(page).map_err(Filling::Error)
            });
        let cache = cache.map_err(|error| match error {
            Filling::Error(error) => error,
            Filling::Pool(error) => bise_models::ForwardError::Span { span: 0, error: error.into() }.into(),
        })?;
        let checksum = self.hash.finish();
        let mut stored = [0; CHECKSUM_BYTES];
        self.read(&mut stored)?;
        if checksum != u64::from_le_bytes(stored) {
            return Err(self.damaged("its checksum is wrong"));
        }
        let sequence = Sequence::restored(tokens, cache, adapters);
        let session = Session::restored(engine.clone(), sequence, options, logits.as_deref())?;
        Ok(Restored { session, state })
    }

    fn header(&mut self) -> Result<Header, Error> {
        let mut bytes = [0; HEADER_BYTES];
        let n = bytes.len().min(usize::try_from(self.n_bytes).unwrap_or(usize::MAX));
        self.read(&mut bytes[..n])?;
        let path = self.path.clone();
        Err(match Header::decode(&bytes[..n]) {
            Ok(header) => return Ok(header),
            Err(HeaderError::Foreign) => SessionFileError::NotASession { path, found: describe(&bytes[..n]) },
            Err(HeaderError::Version(found)) => {
                SessionFileError::OtherVersion { path, found, expected: VERSION_WITH_ADAPTERS }
            }
            Err(HeaderError::Damaged(what)) => SessionFileError::Damaged { path, what: what.to_owned() },
        }
        .into())
    }

    /// Errs where the session belongs to something else than the engine and the options.
    fn check_model(
        &self,
        header: &Header,
        engine: &Engine,
        options: &SessionOptions,
        adapters: &Adapters,
    ) -> Result<(), Error> {
        let config = engine.config();
        let model = |name: &str, fingerprint: u128| format!("'{name}' ({:016x})", (fingerprint >> 64) as u64);
        let named = |adapters: u64| match adapters {
            0 => "none".to_owned(),
            adapters => format!("{adapters:016x} (a hash)"),
        };
        let window = |window: Option<usize>| window.map_or("none".to_owned(), |n| n.to_string());
        let fields = [
            (
                "the model",
                model(&header.model, header.fingerprint),
                model(&model_name(engine), engine.fingerprint()),
                header.fingerprint == engine.fingerprint(),
            ),
            (
                "keys in the cache as",
                header.k_type.to_string(),
                options.k_type.to_string(),
                header.k_type == options.k_type,
            ),
            (
                "values in the cache as",
                header.v_type.to_string(),
                options.v_type.to_string(),
                header.v_type == options.v_type,
            ),
            (
                "a sliding window of",
                window(header.window),
                window(config.sliding_window),
                header.window == config.sliding_window,
            ),
            (
                "a rotary embedding of",
                describe_rope(&header.rope),
                describe_rope(&config.rope),
                header.rope == config.rope,
            ),
            (
                "the adapters",
                named(header.adapters),
                named(shortened(adapters)),
                header.adapters == shortened(adapters),
            ),
        ];
        match fields.into_iter().find(|(.., is_same)| !is_same) {
            None => Ok(()),
            Some((field, found, expected, _)) => {
                Err(SessionFileError::Mismatch { path: self.path.clone(), field, found, expected }.into())
            }
        }
    }

    fn state(&mut self, n_vocab: usize) -> Result<GenerationState, Error> {
        let mut bytes = [0; STATE_BYTES];
        self.read(&mut bytes)?;
        decode_state(&bytes)
            .filter(|state| state.pending.is_none_or(|token| (token as usize) < n_vocab))
            .ok_or_else(|| self.damaged("its state of a generation makes no sense"))
    }

    fn numbers<T>(
        &mut self,
        n: usize,
        what: &'static str,
        from_bytes: fn([u8; 4]) -> T,
    ) -> Result<Vec<T>, Error> {
        let mut numbers = Vec::new();
        numbers.try_reserve_exact(n).map_err(|_| OutOfMemory { bytes: n * size_of::<T>(), what })?;
        for _ in 0..n {
            let mut bytes = [0; 4];
            self.read(&mut bytes)?;
            numbers.push(from_bytes(bytes));
        }
        Ok(numbers)
    }

    /// Reads bytes and hashes them.
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        match self.reader.read_exact(bytes) {
            Ok(()) => {
                self.hash.write(bytes);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged("it has become shorter while it was read"))
            }
            Err(error) => Err(SessionFileError::Io { path: self.path.clone(), error }.into()),
        }
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        SessionFileError::Damaged { path: self.path.clone(), what: what.into() }.into()
    }
}

/// Why pages were not filled.
enum Filling {
    Pool(PoolError),
    Error(Error),
}

impl From<PoolError> for Filling {
    fn from(error: PoolError) -> Filling {
        Filling::Pool(error)
    }
}

/// What a file that is no session begins with.
fn describe(bytes: &[u8]) -> String {
    match bytes {
        [] => "it is empty".to_owned(),
        [b'G', b'G', b'U', b'F', ..] => "it is a GGUF file".to_owned(),
        [b'g', b'g', b's', b'n', ..] | [b'n', b's', b'g', b'g', ..] => {
            "it is a session of llama.cpp".to_owned()
        }
        bytes => format!("it begins with '{}'", bytes[..bytes.len().min(8)].escape_ascii()),
    }
}

const _: () = assert!(PAGE_LEN == 64, "session files of this version have pages of 64 positions");
