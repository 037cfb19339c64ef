//! Errors as Python exceptions.

use std::io;

use bise::SessionFileError as Saved;
use bise::adapter::{AdapterError, AdapterFileError};
use bise::chat::ChatError;
use bise::gguf::GgufError;
use bise::sampling::SamplingError;
use bise::{Error, ForwardError, SpanError};
use pyo3::exceptions::{PyMemoryError, PyOSError, PyTypeError, PyValueError};
use pyo3::import_exception;
use pyo3::prelude::*;

// Classes with two bases (ValueError beside BiseError) can only be made in Python.
import_exception!(bise.errors, BiseError);
import_exception!(bise.errors, BusyError);
import_exception!(bise.errors, CancelledError);
import_exception!(bise.errors, ChatTemplateError);
import_exception!(bise.errors, ClosedError);
import_exception!(bise.errors, ContextFullError);
import_exception!(bise.errors, ModelError);
import_exception!(bise.errors, SessionFileError);

/// An error of the library as the exception that a Python user expects.
pub fn to_python(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Gguf(error) => gguf(error),
        Error::Adapter(error) => adapter(*error),
        Error::SessionFile(error) => session_file(error, text),
        Error::Tokenizer(_) => ModelError::new_err(text),
        Error::Sampling(error) => sampling(error),
        Error::OutOfMemory(_)
        | Error::OverCeiling(_)
        | Error::DoesNotFit(_)
        | Error::Forward(ForwardError::OutOfMemory(_) | ForwardError::OverCeiling { .. }) => {
            PyMemoryError::new_err(text)
        }
        Error::Forward(ForwardError::Cancelled) => CancelledError::new_err(text),
        Error::Forward(ForwardError::Span { error, .. }) => span(&error, text),
        Error::Text { index, error } => in_text(index, *error),
        Error::EmptyText { .. } | Error::NoTokens | Error::IsaUnavailable { .. } | Error::ForeignSession => {
            PyValueError::new_err(text)
        }
        _ => BiseError::new_err(text),
    }
}

/// An error without a number, as the `OSError` of its kind.
fn of_kind(error: &io::Error, text: String) -> PyErr {
    io::Error::new(error.kind(), text).into()
}

/// What is wrong with a saved session.
fn session_file(error: Saved, text: String) -> PyErr {
    match error {
        Saved::Io { path, error } if error.raw_os_error().is_some() => {
            let number = error.raw_os_error();
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            PyOSError::new_err((number, text, path.into_os_string()))
        }
        Saved::Io { error, .. } => of_kind(&error, text),
        _ => SessionFileError::new_err(text),
    }
}

/// What is wrong with an adapter.
fn adapter(error: AdapterFileError) -> PyErr {
    let text = error.to_string();
    match error {
        AdapterFileError::Gguf(error) | AdapterFileError::Adapter(AdapterError::Gguf(error)) => gguf(error),
        AdapterFileError::File { error, .. } => of_kind(&error, text),
        AdapterFileError::Adapter(AdapterError::OutOfMemory { .. }) => PyMemoryError::new_err(text),
        _ => ModelError::new_err(text),
    }
}

/// An error about one of several texts.
fn in_text(index: usize, error: Error) -> PyErr {
    Python::attach(|py| {
        let error = to_python(error);
        let text = format!("text {index}: {}", error.value(py));
        error.get_type(py).call1((text,)).map_or_else(|error| error, PyErr::from_value)
    })
}

fn span(error: &SpanError, text: String) -> PyErr {
    match error {
        SpanError::UnknownToken { .. } => PyValueError::new_err(text),
        SpanError::ContextFull { .. } => ContextFullError::new_err(text),
        SpanError::NoPages(_) => PyMemoryError::new_err(text),
        _ => BiseError::new_err(text),
    }
}

/// What is wrong with a file. With an error number it becomes the `OSError` of its kind, such as `FileNotFoundError`.
pub fn gguf(error: GgufError) -> PyErr {
    let text = error.to_string();
    match error {
        GgufError::Io { file, error, .. } if error.raw_os_error().is_some() => {
            let number = error.raw_os_error();
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            PyOSError::new_err((number, text, file.to_string()))
        }
        GgufError::Io { ref error, .. } => of_kind(error, text),
        _ => ModelError::new_err(text),
    }
}

pub fn sampling(error: SamplingError) -> PyErr {
    let text = error.to_string();
    match error {
        SamplingError::UnknownParameter(_) => PyTypeError::new_err(text),
        SamplingError::NotFinite { .. } | SamplingError::NoCandidate | SamplingError::Constraint(_) => {
            BiseError::new_err(text)
        }
        _ => PyValueError::new_err(text),
    }
}

pub fn chat(error: ChatError) -> PyErr {
    ChatTemplateError::new_err(error.to_string())
}
