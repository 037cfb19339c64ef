//! Keyword arguments as options of the engine.

use std::hash::{BuildHasher, Hasher, RandomState};

use bise::gguf::{Array, Value};
use bise::sampling::{RANDOM_SEED, SamplingParams};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList};

use crate::errors::sampling;

/// Sampling parameters from keyword arguments, by any of the names that llama.cpp gives them. `None` leaves a default.
pub fn sampling_params(given: Option<&Bound<'_, PyDict>>) -> PyResult<SamplingParams> {
    let mut params = SamplingParams::default();
    for (name, value) in given.into_iter().flatten() {
        let name: String = name.extract()?;
        if value.is_none() {
            continue;
        }
        match name.as_str() {
            "seed" => params.seed = seed(&value)?,
            "logit_bias" => params.logit_bias = logit_bias(&value)?,
            "samplers" if !value.is_instance_of::<pyo3::types::PyString>() => {
                let names: Vec<String> = value.extract()?;
                params.set(&name, &names.join(";")).map_err(sampling)?;
            }
            "dry_sequence_breakers" => params.dry_sequence_breakers = value.extract()?,
            _ => {
                let text = match value.cast::<PyBool>() {
                    Ok(value) => value.is_true().to_string(),
                    Err(_) => value.str()?.to_string(),
                };
                params.set(&name, &text).map_err(sampling)?;
            }
        }
    }
    Ok(params)
}

/// The seed, or one that is drawn where a random one is asked for.
pub fn drawn_seed(seed: u32) -> u32 {
    match seed {
        // A hasher's keys are random.
        RANDOM_SEED => (RandomState::new().build_hasher().finish() as u32).min(RANDOM_SEED - 1),
        seed => seed,
    }
}

/// An exception about one of several prompts.
pub fn of_prompt(py: Python<'_>, index: usize, error: PyErr) -> PyErr {
    let text = format!("prompt {index}: {}", error.value(py));
    error.get_type(py).call1((text,)).map_or_else(|error| error, PyErr::from_value)
}

/// A seed as llama.cpp takes it: −1 draws one.
fn seed(value: &Bound<'_, PyAny>) -> PyResult<u32> {
    let number: i64 = value.extract()?;
    match number {
        -1 => Ok(RANDOM_SEED),
        number => u32::try_from(number).map_err(|_| {
            PyValueError::new_err(format!("seed is {number}: expected -1 or a number from 0 to 4294967295"))
        }),
    }
}

/// `{token: bias}`, with tokens as numbers or, as in JSON, as texts of numbers.
fn logit_bias(value: &Bound<'_, PyAny>) -> PyResult<Vec<(u32, f32)>> {
    let biases = value.cast::<PyDict>().map_err(|_| {
        PyTypeError::new_err("logit_bias: expected a dict of tokens and what to add to their logits")
    })?;
    let mut pairs = Vec::new();
    for (token, bias) in biases {
        let token: u32 = match token.extract() {
            Ok(token) => token,
            Err(_) => token.extract::<String>().ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
                PyTypeError::new_err(format!("logit_bias: {token} is not a token's number"))
            })?,
        };
        pairs.push((token, bias.extract()?));
    }
    pairs.sort_by_key(|(token, _)| *token);
    Ok(pairs)
}

/// A value for the metadata of a file, in place of its own.
pub fn metadata_value(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if let Ok(value) = value.cast::<PyBool>() {
        Ok(Value::Bool(value.is_true()))
    } else if let Ok(value) = value.extract::<i64>() {
        Ok(Value::I64(value))
    } else if let Ok(value) = value.extract::<f64>() {
        Ok(Value::F64(value))
    } else if let Ok(value) = value.extract::<String>() {
        Ok(Value::from(value.as_str()))
    } else {
        Err(PyTypeError::new_err(format!(
            "metadata: {} is not a bool, int, float or str",
            value.get_type().name()?
        )))
    }
}

/// A value of the metadata as a Python object.
pub fn from_metadata<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::U8(v) => v.into_pyobject(py)?.into_any(),
        Value::I8(v) => v.into_pyobject(py)?.into_any(),
        Value::U16(v) => v.into_pyobject(py)?.into_any(),
        Value::I16(v) => v.into_pyobject(py)?.into_any(),
        Value::U32(v) => v.into_pyobject(py)?.into_any(),
        Value::I32(v) => v.into_pyobject(py)?.into_any(),
        Value::U64(v) => v.into_pyobject(py)?.into_any(),
        Value::I64(v) => v.into_pyobject(py)?.into_any(),
        Value::F32(v) => v.into_pyobject(py)?.into_any(),
        Value::F64(v) => v.into_pyobject(py)?.into_any(),
        Value::Bool(v) => PyBool::new(py, *v).to_owned().into_any(),
        Value::Str(text) => String::from_utf8_lossy(text).into_pyobject(py)?.into_any(),
        Value::Array(array) => from_array(py, array)?.into_any(),
    })
}

fn from_array<'py>(py: Python<'py>, array: &Array) -> PyResult<Bound<'py, PyList>> {
    match array {
        // Bytes would become `bytes` in place of a list.
        Array::U8(v) => PyList::new(py, v),
        Array::I8(v) => PyList::new(py, v),
        Array::U16(v) => PyList::new(py, v),
        Array::I16(v) => PyList::new(py, v),
        Array::U32(v) => PyList::new(py, v),
        Array::I32(v) => PyList::new(py, v),
        Array::U64(v) => PyList::new(py, v),
        Array::I64(v) => PyList::new(py, v),
        Array::F32(v) => PyList::new(py, v),
        Array::F64(v) => PyList::new(py, v),
        Array::Bool(v) => PyList::new(py, v),
        Array::Str(v) => PyList::new(py, v.iter().map(String::from_utf8_lossy).collect::<Vec<_>>()),
        Array::Array(v) => {
            PyList::new(py, v.iter().map(|a| from_array(py, a)).collect::<PyResult<Vec<_>>>()?)
        }
    }
}
