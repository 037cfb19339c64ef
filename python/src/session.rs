//! `bise.Session`, less what the package adds to it in Python.

use std::path::PathBuf;
use std::sync::Arc;

use bise::generation::GenerationOptions;
use bise::speculation::SpeculationOptions;
use bise::tokenizer::EncodeOptions;
use pyo3::exceptions::{PyMemoryError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::adapter::{self, Adapter, Scaled};
use crate::logits::Logits;
use crate::model::{self, Model};
use crate::slot::{Slot, Use};
use crate::stream::Stream;

/// A prompt: text, or tokens.
#[derive(FromPyObject)]
pub enum Prompt {
    #[pyo3(annotation = "str")]
    Text(String),
    #[pyo3(annotation = "sequence of int")]
    Tokens(Vec<u32>),
}

/// One text, as far as the model has read it; the package's class of this name adds generation to it.
#[pyclass(frozen, subclass, module = "bise._bise")]
pub struct Session {
    pub slot: Arc<Slot>,
    /// Keeps the model alive as long as its session.
    model: Py<Model>,
}

impl Session {
    /// The tokens of a prompt that is read next.
    pub fn tokens_of(&self, prompt: Prompt, parse_special: bool) -> PyResult<Vec<u32>> {
        match prompt {
            Prompt::Tokens(tokens) => Ok(tokens),
            Prompt::Text(text) => self.slot.look(|session| {
                let add_special = session.tokens().is_empty();
                session.engine().tokenizer().encode(&text, EncodeOptions { add_special, parse_special })
            }),
        }
    }
}

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (model, *, n_ctx=None, n_ubatch=None, cache_type_k=None, cache_type_v=None, saved=None, adapters=None))]
    fn new(
        model: &Bound<'_, Model>,
        n_ctx: Option<usize>,
        n_ubatch: Option<usize>,
        cache_type_k: Option<&str>,
        cache_type_v: Option<&str>,
        saved: Option<PathBuf>,
        adapters: Option<Vec<Scaled>>,
    ) -> PyResult<Session> {
        let default = model.get().session_options;
        let options = model::session_options(
            n_ctx.unwrap_or(default.n_ctx),
            n_ubatch.unwrap_or(default.n_ubatch),
            cache_type_k.unwrap_or(default.k_type.name()),
            cache_type_v.unwrap_or(default.v_type.name()),
        )?;
        let adapters = adapters.map(adapter::list).transpose()?;
        let slot = model.get().slot(model.py(), &options, saved, adapters)?;
        Ok(Session { slot, model: model.clone().unbind() })
    }

    /// The model.
    #[getter]
    fn model(&self, py: Python<'_>) -> Py<Model> {
        self.model.clone_ref(py)
    }

    /// The adapters that act on the session, each with the factor on its scale.
    #[getter]
    fn adapters(&self) -> PyResult<Vec<(Adapter, f32)>> {
        self.slot.look(|session| {
            let all = session.adapters().as_slice().iter();
            all.map(|(adapter, scale)| (Adapter(Arc::clone(adapter)), *scale)).collect()
        })
    }

    /// Has adapters act on the session from now on, in place of those before: `[adapter, (other, 0.5)]`, or none. If they are others than before,
    /// the tokens that were read are read again, with them.
    fn set_adapters(&self, py: Python<'_>, adapters: Vec<Scaled>) -> PyResult<()> {
        let adapters = adapter::list(adapters)?;
        self.slot.work(py, Use::Prefill, &|| false, |session| session.set_adapters(adapters))
    }

    /// Reads a text, or tokens, after what was read before. `parse_special` takes what spells a control token for that token.
    ///
    /// Where it is cancelled or interrupted, what whole passes have read by then is kept.
    #[pyo3(signature = (prompt, *, parse_special=false))]
    fn feed(&self, py: Python<'_>, prompt: Prompt, parse_special: bool) -> PyResult<()> {
        let tokens = self.tokens_of(prompt, parse_special)?;
        let use_ = if tokens.len() == 1 { Use::Step } else { Use::Prefill };
        self.slot.work(py, use_, &|| false, |session| match tokens.is_empty() {
            true => Ok(()),
            false => session.prefill(&tokens).map(drop),
        })
    }

    /// The logits after the last token that was read, one for each token of the vocabulary, as a read-only NumPy array.
    ///
    /// It is not a copy, and it never changes: when the session reads on, it writes to other memory as long as there is an array over
    /// this one. Raises ValueError where there are none: before anything is read, and after `rewind`.
    fn logits<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let logits = self.slot.look(|session| session.shared_logits())?;
        let logits = logits.ok_or_else(|| {
            PyValueError::new_err(
                "there are no logits: nothing was read, or tokens were forgotten since then",
            )
        })?;
        Logits::array(py, logits, None)
    }

    /// Reads tokens, and returns the logits after each of them: a read-only NumPy array of one row for each token.
    fn score<'py>(&self, py: Python<'py>, tokens: Vec<u32>) -> PyResult<Bound<'py, PyAny>> {
        let n_vocab = self.slot.look(|session| session.engine().config().n_vocab)?;
        let mut rows = Vec::new();
        let n = tokens.len().checked_mul(n_vocab);
        n.and_then(|n| rows.try_reserve_exact(n).ok())
            .ok_or_else(|| PyMemoryError::new_err(format!("{} rows of {n_vocab} logits", tokens.len())))?;
        let rows = self.slot.work(py, Use::Prefill, &|| false, move |session| {
            session.score(&tokens, &mut |_, logits| rows.extend_from_slice(logits))?;
            Ok(rows)
        })?;
        let n_rows = rows.len() / n_vocab;
        Logits::array(py, Arc::new(rows), Some(n_rows))
    }

    /// The tokens read so far.
    #[getter]
    fn tokens(&self) -> PyResult<Vec<u32>> {
        self.slot.look(|session| session.tokens().to_vec())
    }

    /// The number of tokens read so far.
    #[getter]
    fn position(&self) -> PyResult<usize> {
        self.slot.look(|session| session.position())
    }

    /// Tokens that the session may hold; with a sliding window it may go past that.
    #[getter]
    fn n_ctx(&self) -> PyResult<usize> {
        self.slot.look(|session| session.n_ctx())
    }

    /// Tokens that still fit, or None where a sliding window means there is no end.
    #[getter]
    fn room(&self) -> PyResult<Option<usize>> {
        self.slot.look(|session| {
            let endless = session.engine().config().sliding_window.is_some();
            (!endless).then(|| session.room())
        })
    }

    /// Forgets the tokens from `position` on.
    fn rewind(&self, py: Python<'_>, position: usize) -> PyResult<()> {
        let here = self.position()?;
        if position > here {
            return Err(PyValueError::new_err(format!(
                "cannot rewind to {position}: the session is at {here}"
            )));
        }
        // Past a window, what remains is read again.
        self.slot.work(py, Use::Prefill, &|| false, |session| session.rewind(position))
    }

    /// Forgets everything.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.slot.work(py, Use::Step, &|| false, |session| {
            session.clear();
            Ok(())
        })
    }

    /// Saves the session to a file, from which `Model.restore` restores it: tokens, keys and values, and logits. A file that is there is
    /// replaced once all is written.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        self.slot.work(py, Use::Prefill, &|| false, |session| session.save(path))
    }

    /// Ends the pass that another thread has under way with this session, which raises `CancelledError` there. Does nothing where there
    /// is none.
    fn cancel(&self) {
        self.slot.cancel();
    }

    /// Gives back the session's memory. What is under way with it ends with `ClosedError`.
    fn close(&self, py: Python<'_>) {
        self.slot.close(py);
    }

    /// Whether the session or its model was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }

    /// A generation from here: the prompt is read when its first step is asked for.
    #[pyo3(signature = (
        prompt, max_tokens, stop, logprobs, choices, special, starts_text, parse_special, logits_processor, draft_tokens,
        sampling,
    ))]
    #[expect(clippy::too_many_arguments, reason = "called by the package alone")]
    fn _stream(
        &self,
        prompt: Prompt,
        max_tokens: Option<usize>,
        stop: Vec<String>,
        logprobs: Option<usize>,
        choices: Option<Vec<String>>,
        special: bool,
        starts_text: bool,
        parse_special: bool,
        logits_processor: Option<Py<PyAny>>,
        draft_tokens: Option<usize>,
        sampling: &Bound<'_, PyDict>,
    ) -> PyResult<Stream> {
        let prompt = self.tokens_of(prompt, parse_special)?;
        let speculation = SpeculationOptions::default();
        let options = GenerationOptions {
            sampling: crate::options::sampling_params(Some(sampling))?,
            max_tokens,
            stop,
            log_probs: logprobs,
            after_sampling: false,
            special,
            starts_text,
            speculation: SpeculationOptions {
                n_max: draft_tokens.unwrap_or(speculation.n_max),
                ..speculation
            },
        };
        Stream::new(
            Arc::clone(&self.slot),
            self.model.clone_ref(sampling.py()),
            prompt,
            options,
            choices,
            logits_processor,
        )
    }

    fn __len__(&self) -> PyResult<usize> {
        self.position()
    }

    fn __repr__(&self) -> String {
        match self.slot.look(|session| (session.position(), session.n_ctx())) {
            Ok((position, n_ctx)) => format!("<bise.Session at {position} of {n_ctx} tokens>"),
            Err(_) if self.slot.is_closed() => "<bise.Session, closed>".to_owned(),
            Err(_) => "<bise.Session, in use>".to_owned(),
        }
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a bise.Session cannot be pickled: it belongs to an open model. Feed its tokens to one in the other process",
        ))
    }
}
