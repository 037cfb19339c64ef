//! `bise.Sampler`.

use std::sync::{Mutex, PoisonError};

use bise::sampling::Sampler as Inner;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::sampling;
use crate::tokenizer::Tokenizer;
use crate::{logits, options};

/// A chain of samplers: chooses the next token by logits.
///
/// Keyword arguments are those of `Model.generate`: `temperature`, `top_k`, `seed` and so on.
#[pyclass(frozen, module = "bise._bise")]
pub struct Sampler {
    inner: Mutex<Inner>,
}

impl Sampler {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Sampler {
    #[new]
    #[pyo3(signature = (tokenizer, **sampling))]
    fn new(tokenizer: &Tokenizer, sampling: Option<&Bound<'_, PyDict>>) -> PyResult<Sampler> {
        let params = options::sampling_params(sampling)?;
        let tokenizer = &tokenizer.inner;
        let ends: Vec<u32> =
            (0..tokenizer.n_vocab() as u32).filter(|token| tokenizer.is_end_of_generation(*token)).collect();
        let inner = Inner::new(&params, tokenizer.n_vocab(), &ends).map_err(self::sampling)?;
        Ok(Sampler { inner: Mutex::new(inner) })
    }

    /// A token by `logits`, one number for each token of the vocabulary. It counts as part of the text once it is accepted.
    fn sample(&self, logits: &Bound<'_, PyAny>) -> PyResult<u32> {
        let row = logits::row(logits)?;
        logits.py().detach(|| self.inner().sample(&row)).map_err(sampling)
    }

    /// Takes a token into the text that penalties look back on.
    fn accept(&self, token: u32) {
        self.inner().accept(token);
    }

    /// Forgets the text, and starts the random numbers over.
    fn reset(&self) {
        self.inner().reset();
    }

    /// The seed in use: the one that was drawn, if none was given.
    #[getter]
    fn seed(&self) -> u32 {
        self.inner().seed()
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a bise.Sampler cannot be pickled: make one in the other process"))
    }
}
