//! Writes a session.

use std::hash::Hasher;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use bise_kernels::kv_page::{PAGE_LEN, PageLayout};
use bise_models::atomic_file::AtomicFile;
use twox_hash::XxHash3_64;

use super::SessionFileError;
use super::format::{Header, encode_state};
use crate::adapter::list::Adapters;
use crate::generation::GenerationState;
use crate::{Engine, Error, Session};

impl Session {
    /// Saves the session to a file, from which [`Engine::restore_session`] restores it: the tokens, the keys and values that are still
    /// held, and the logits. Drafts read ahead are not part of it.
    ///
    /// The file takes as many bytes as the pages of keys and values take in memory, and little more. It is written beside `path`, flushed to
    /// the disk and renamed, so that a crash leaves what was there before.
    ///
    /// # Errors
    /// [`SessionFileError::Io`] where the file cannot be written; what was there before is then left as it was.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        self.save_with(path, None)
    }

    /// [`Session::save`] with the state of the generation that continues the session ([`Generation::state`]), so that the text goes on as
    /// if it had never been interrupted.
    ///
    /// [`Generation::state`]: crate::generation::Generation::state
    ///
    /// # Errors
    /// As [`Session::save`].
    pub fn save_with(&self, path: impl AsRef<Path>, state: Option<&GenerationState>) -> Result<(), Error> {
        let path = path.as_ref();
        let written = self.write(path, state);
        written.map_err(|error| SessionFileError::Io { path: path.to_owned(), error }.into())
    }

    fn write(&self, path: &Path, state: Option<&GenerationState>) -> io::Result<()> {
        let (config, cache) = (self.engine().config(), self.sequence().cache());
        let layout = *cache.pool().layout();
        let n_tokens = self.position();
        let header = Header {
            fingerprint: self.engine().fingerprint(),
            model: model_name(self.engine()),
            k_type: layout.k_type(),
            v_type: layout.v_type(),
            window: cache.window(),
            rope: config.rope.clone(),
            adapters: shortened(self.adapters()),
            n_tokens,
            first_page: cache.first_kept(n_tokens),
            has_logits: self.logits().is_some(),
            has_state: state.is_some(),
        };
        let mut out = Hashing { out: BufWriter::new(AtomicFile::create(path)?), hash: XxHash3_64::new() };
        out.write(&header.encode())?;
        self.tokens().iter().try_for_each(|token| out.write(&token.to_le_bytes()))?;
        self.logits().into_iter().flatten().try_for_each(|logit| out.write(&logit.to_le_bytes()))?;
        if let Some(state) = state {
            out.write(&encode_state(state))?;
        }
        let n_whole = n_tokens / PAGE_LEN;
        for page in header.first_page..n_tokens.div_ceil(PAGE_LEN) {
            for layer in 0..config.n_layers {
                let bytes = cache.page(layer, page);
                match page < n_whole {
                    true => out.write(bytes)?,
                    false => out.write(&cleared(&layout, bytes, n_tokens % PAGE_LEN))?,
                }
            }
        }
        let checksum = out.hash.finish();
        let mut out = out.out;
        out.write_all(&checksum.to_le_bytes())?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.commit()
    }
}

/// What tells adapters from others, in as many bytes as a header has room for; 0 for none.
pub(super) fn shortened(adapters: &Adapters) -> u64 {
    let fingerprint = adapters.fingerprint();
    if fingerprint == 0 { 0 } else { ((fingerprint >> 64) as u64).max(1) }
}

/// The name that messages have for a model.
pub(super) fn model_name(engine: &Engine) -> String {
    let name = engine.file().metadata().str("general.name").ok().flatten();
    name.filter(|name| !name.is_empty()).unwrap_or(engine.file().name()).to_owned()
}

/// A copy of a layer's part of a page without what stands from slot `n` on: rows of other texts, or of drafts.
fn cleared(layout: &PageLayout, page: &[u8], n: usize) -> Vec<u8> {
    let mut page = page.to_vec();
    let zeros = vec![0.0; layout.n_kv_heads() * layout.head_dim()];
    for slot in n..PAGE_LEN {
        let stored = layout.store(&mut page, slot, &zeros, &zeros);
        debug_assert!(stored, "every type has a zero");
    }
    page
}

/// Writes bytes and hashes them.
struct Hashing {
    out: BufWriter<AtomicFile>,
    hash: XxHash3_64,
}

impl Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.write(bytes);
        self.out.write_all(bytes)
    }
}
