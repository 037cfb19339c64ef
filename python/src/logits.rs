//! Rows of numbers that NumPy reads where they are.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Numbers in memory that NumPy arrays are views of. They never change, and live as long as a view of them does.
#[pyclass(frozen, module = "bise._bise")]
pub struct Logits {
    values: Arc<Vec<f32>>,
    /// Rows, if there are several.
    rows: Option<usize>,
}

impl Logits {
    /// A read-only array over `values`, of one dimension or in `rows`, without a copy.
    pub fn array<'py>(
        py: Python<'py>,
        values: Arc<Vec<f32>>,
        rows: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let logits = Bound::new(py, Logits { values, rows })?;
        py.import("numpy")?.call_method1("asarray", (logits,))
    }
}

#[pymethods]
impl Logits {
    /// NumPy's protocol for arrays in memory that others own. The array keeps a reference to this object.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let interface = PyDict::new(py);
        let read_only = true;
        let n = self.values.len();
        interface.set_item("version", 3)?;
        interface.set_item("data", (self.values.as_ptr() as usize, read_only))?;
        interface.set_item("typestr", if cfg!(target_endian = "little") { "<f4" } else { ">f4" })?;
        match self.rows {
            None => interface.set_item("shape", (n,))?,
            Some(0) => interface.set_item("shape", (0, 0))?,
            Some(rows) => interface.set_item("shape", (rows, n / rows))?,
        }
        Ok(interface)
    }

    fn __len__(&self) -> usize {
        self.rows.unwrap_or(self.values.len())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a Logits object cannot be pickled: pickle a NumPy array made of it"))
    }
}

/// One row of numbers from an array or a sequence, whatever its type.
pub fn row(values: &Bound<'_, PyAny>) -> PyResult<Vec<f32>> {
    let numpy = values.py().import("numpy")?;
    let array = numpy.call_method1("asarray", (values, "<f4"))?;
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    if shape.len() != 1 {
        return Err(pyo3::exceptions::PyValueError::new_err(format!(
            "logits are an array of shape {shape:?}: expected one row, of one number for each token of the vocabulary"
        )));
    }
    let bytes = array.call_method0("tobytes")?;
    let bytes: &[u8] = bytes.extract()?;
    let (numbers, _) = bytes.as_chunks::<4>();
    Ok(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}
