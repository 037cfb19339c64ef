//! `bise.Adapter`: what stands beside the weights of a model.

use std::path::PathBuf;
use std::sync::Arc;

use bise::adapter::{self, Adapters};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// An adapter (LoRA) in memory, for the model that has loaded it: see `Model.load_adapter`.
#[pyclass(frozen, module = "bise")]
pub struct Adapter(pub Arc<adapter::Adapter>);

#[pymethods]
impl Adapter {
    /// What messages call it: its path.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// Bytes of memory that it takes.
    #[getter]
    fn n_bytes(&self) -> usize {
        self.0.n_bytes()
    }

    /// What a user should know about its file, a line each.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.0.warnings().to_vec()
    }

    fn __repr__(&self) -> String {
        format!("<bise.Adapter {}>", self.0.name())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a bise.Adapter cannot be pickled: it belongs to a model. Load its file in the other process",
        ))
    }
}

/// An adapter as it is, or with a factor on its scale.
#[derive(FromPyObject)]
pub enum Scaled {
    #[pyo3(annotation = "Adapter")]
    Whole(Py<Adapter>),
    #[pyo3(annotation = "tuple of Adapter and float")]
    Scaled(Py<Adapter>, f32),
}

/// The file or folder of an adapter, as it is or with a factor on its scale.
#[derive(FromPyObject)]
pub enum ScaledPath {
    #[pyo3(annotation = "path")]
    Whole(PathBuf),
    #[pyo3(annotation = "tuple of path and float")]
    Scaled(PathBuf, f32),
}

impl ScaledPath {
    pub fn parts(self) -> (PathBuf, f32) {
        match self {
            ScaledPath::Whole(path) => (path, 1.0),
            ScaledPath::Scaled(path, scale) => (path, scale),
        }
    }
}

/// A list of adapters.
pub fn list(adapters: Vec<Scaled>) -> PyResult<Adapters> {
    let one = |scaled| {
        let (adapter, scale) = match scaled {
            Scaled::Whole(adapter) => (adapter, 1.0),
            Scaled::Scaled(adapter, scale) => (adapter, scale),
        };
        let adapter = Arc::clone(&adapter.get().0);
        if !scale.is_finite() {
            let message =
                format!("adapters: the scale of {} is {scale}: expected a finite number", adapter.name());
            return Err(PyValueError::new_err(message));
        }
        Ok((adapter, scale))
    };
    Ok(Adapters::new(adapters.into_iter().map(one).collect::<PyResult<Vec<_>>>()?))
}
