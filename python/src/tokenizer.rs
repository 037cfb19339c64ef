//! `bise.Tokenizer`.

use bise::tokenizer::{EncodeOptions, Tokenizer as Inner};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The tokenizer of a model: text to tokens and back.
///
/// Made by `Model.tokenizer`. It stays usable after its model is closed.
#[pyclass(frozen, module = "bise._bise")]
pub struct Tokenizer {
    pub inner: Inner,
}

impl Tokenizer {
    fn check(&self, tokens: &[u32]) -> PyResult<()> {
        let n_vocab = self.inner.n_vocab();
        match tokens.iter().find(|token| **token as usize >= n_vocab) {
            None => Ok(()),
            Some(token) => Err(PyValueError::new_err(format!(
                "token {token} is not in the vocabulary, which has {n_vocab}"
            ))),
        }
    }
}

#[pymethods]
impl Tokenizer {
    /// The tokens of `text`.
    ///
    /// `add_special` puts the token that begins a text in front, if the model was trained with it. `parse_special` takes what
    /// spells a control token, such as `</s>` or `[INST]`, for that token; otherwise it stays text.
    #[pyo3(signature = (text, *, add_special=true, parse_special=false))]
    fn encode(&self, py: Python<'_>, text: &str, add_special: bool, parse_special: bool) -> Vec<u32> {
        py.detach(|| self.inner.encode(text, EncodeOptions { add_special, parse_special }))
    }

    /// The text of `tokens`. Control tokens are left out unless `skip_special` is false.
    #[pyo3(signature = (tokens, *, skip_special=true))]
    fn decode(&self, py: Python<'_>, tokens: Vec<u32>, skip_special: bool) -> PyResult<String> {
        self.check(&tokens)?;
        Ok(py.detach(|| self.inner.decode(&tokens, skip_special)))
    }

    /// The bytes of one token: part of a character, perhaps.
    fn piece<'py>(&self, py: Python<'py>, token: u32) -> PyResult<Bound<'py, PyBytes>> {
        self.check(&[token])?;
        Ok(PyBytes::new(py, self.inner.piece(token)))
    }

    /// The token with exactly this text, or None.
    fn token(&self, text: &str) -> Option<u32> {
        self.inner.id(text)
    }

    /// Whether a text ends with this token.
    fn is_end(&self, token: u32) -> bool {
        self.inner.is_end_of_generation(token)
    }

    /// Whether this is a control token, which is not shown as text.
    fn is_control(&self, token: u32) -> bool {
        self.inner.is_control(token)
    }

    /// The token that begins a text, or None.
    #[getter]
    fn bos(&self) -> Option<u32> {
        self.inner.bos()
    }

    /// The token that ends a text, or None.
    #[getter]
    fn eos(&self) -> Option<u32> {
        self.inner.eos()
    }

    /// The token that ends a turn of a conversation, or None.
    #[getter]
    fn eot(&self) -> Option<u32> {
        self.inner.eot()
    }

    /// Whether texts begin with `bos`.
    #[getter]
    fn adds_bos(&self) -> bool {
        self.inner.adds_bos()
    }

    /// The prompt that asks for the text between `prefix` and `suffix`. Raises ValueError where the vocabulary has no tokens for that.
    fn infill(&self, prefix: &str, suffix: &str) -> PyResult<Vec<u32>> {
        self.inner.infill(prefix, suffix).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// The number of tokens in the vocabulary.
    #[getter]
    fn n_vocab(&self) -> usize {
        self.inner.n_vocab()
    }

    fn __len__(&self) -> usize {
        self.inner.n_vocab()
    }

    fn __repr__(&self) -> String {
        format!("<bise.Tokenizer of {} tokens>", self.inner.n_vocab())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a bise.Tokenizer cannot be pickled: open the model in the other process and take its tokenizer",
        ))
    }
}
