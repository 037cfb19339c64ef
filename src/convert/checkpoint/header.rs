//! The header of a safetensors file: a length, then that many bytes of JSON, then the data.
//!
//! Format: <https://github.com/huggingface/safetensors#format>. It is read here rather than by the crate, whose errors do not say which tensors
//! overlap, how much of a file is missing, or that a name comes twice.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use bise_models::gguf::WholeFile;
use bise_models::printable::printable;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;

use super::dtype::Dtype;
use crate::convert::error::ConvertError;

/// As large as the reference implementation allows.
const MAX_HEADER: u64 = 100_000_000;
/// As many dimensions as anything real has, and some.
const MAX_DIMS: usize = 8;

/// A tensor as the header has it.
pub(super) struct Described {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// In the file.
    pub range: Range<usize>,
}

/// The tensors of `file`, in the order of their data.
pub(super) fn read(file: &WholeFile) -> Result<Vec<Described>, ConvertError> {
    let bytes = file.bytes();
    let invalid = |what: String, found: String, expected: String| ConvertError::Invalid {
        path: file.path().to_owned(),
        what,
        found,
        expected,
    };
    let announced = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
    let header_len = match announced {
        Some(n) if n <= MAX_HEADER && n <= (bytes.len() - 8) as u64 => n as usize,
        _ => {
            let (found, expected) = match (file.mistaken_for(), announced) {
                (Some((found, advice)), _) if !found.contains("safetensors") => {
                    (found, format!("a safetensors file: {advice}"))
                }
                (_, Some(n)) => (
                    format!("{} bytes, of which the header should take {n}", bytes.len()),
                    "a whole safetensors file: download it again".to_owned(),
                ),
                (_, None) => (format!("{} bytes", bytes.len()), "a safetensors file".to_owned()),
            };
            return Err(invalid("header".into(), found, expected));
        }
    };
    let json = &bytes[8..8 + header_len];
    let mut parser = serde_json::Deserializer::from_slice(json);
    let entries = parser.deserialize_map(Header).and_then(|entries| parser.end().map(|()| entries));
    let entries = entries.map_err(|error| {
        let found = match error.classify() {
            Category::Data => "JSON that is no object of tensors".to_owned(),
            Category::Eof => "JSON that ends too early".to_owned(),
            Category::Syntax | Category::Io => {
                format!("JSON with a fault in line {}, column {}", error.line(), error.column())
            }
        };
        invalid("header".into(), found, "a safetensors header: download the file again".into())
    })?;
    let mut names = HashSet::with_capacity(entries.len());
    for (name, _) in &entries {
        if !names.insert(name.as_str()) {
            let found = format!("tensor '{}' comes twice", printable(name.as_bytes()));
            return Err(invalid("header".into(), found, "names that differ".into()));
        }
    }
    let data = 8 + header_len;
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, fields) in &entries {
        let what = format!("tensor '{}'", printable(name.as_bytes()));
        let entry = Entry::of(name, fields).map_err(|(field, expected)| {
            let found = fields.get(field).map_or_else(|| "nothing".to_owned(), Value::to_string);
            invalid(format!("{what}: \"{field}\""), printable(found.as_bytes()), expected.into())
        })?;
        let Some(dtype) = Dtype::from_name(&entry.dtype) else {
            let found = format!("dtype '{}'", printable(entry.dtype.as_bytes()));
            return Err(invalid(what, found, "a type of whole bytes, as in BF16 or F8_E4M3".into()));
        };
        let shape: Option<Vec<usize>> = entry.shape.iter().map(|&size| size.try_into().ok()).collect();
        let n_elements = shape.iter().flatten().try_fold(1_usize, |product, &size| product.checked_mul(size));
        let n_bytes = n_elements.and_then(|n| n.checked_mul(dtype.n_bytes()));
        let (Some(shape), Some(n_bytes)) = (shape.filter(|shape| shape.len() <= MAX_DIMS), n_bytes) else {
            let found = format!("shape {:?} of {}", entry.shape, dtype.name());
            return Err(invalid(what, found, "a size that fits in memory".into()));
        };
        let [start, end] = entry.offsets;
        if end.checked_sub(start) != Some(n_bytes as u64) {
            let found = format!("offsets {start} to {end} for shape {shape:?} of {}", dtype.name());
            return Err(invalid(what, found, format!("{n_bytes} bytes")));
        }
        let size = (bytes.len() - data) as u64;
        if end > size {
            let found = format!("{size} bytes of data, where this tensor ends at byte {end}");
            return Err(invalid(what, found, "a whole file: download it again".into()));
        }
        let range = data + start as usize..data + end as usize;
        tensors.push(Described { name: entry.name, dtype, shape, range });
    }
    tensors.sort_by_key(|tensor| (tensor.range.start, tensor.range.end));
    let mut end = data;
    for (i, tensor) in tensors.iter().enumerate() {
        let what = || format!("tensor '{}'", printable(tensor.name.as_bytes()));
        if tensor.range.start < end {
            let before = printable(tensors[i - 1].name.as_bytes());
            let found = format!("data that overlap those of '{before}'");
            return Err(invalid(what(), found, "data of its own".into()));
        }
        if tensor.range.start > end {
            let found = format!("{} bytes before it that belong to no tensor", tensor.range.start - end);
            return Err(invalid(what(), found, "tensors without gaps".into()));
        }
        end = tensor.range.end;
    }
    if end < bytes.len() {
        let found = format!("{} bytes behind the last tensor", bytes.len() - end);
        return Err(invalid("data".into(), found, "none".into()));
    }
    Ok(tensors)
}

struct Entry {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    offsets: [u64; 2],
}

impl Entry {
    /// The entry that these fields describe; the error is the field that is wrong and what it should be.
    fn of(name: &str, fields: &Value) -> Result<Entry, (&'static str, &'static str)> {
        let numbers = |field: &str| -> Option<Vec<u64>> {
            fields.get(field)?.as_array()?.iter().map(Value::as_u64).collect()
        };
        let dtype = fields.get("dtype").and_then(Value::as_str).ok_or(("dtype", "the name of a type"))?;
        let shape = numbers("shape").ok_or(("shape", "an array of sizes"))?;
        let offsets = numbers("data_offsets").and_then(|offsets| offsets.try_into().ok());
        let offsets = offsets.ok_or(("data_offsets", "where the data begin and end"))?;
        Ok(Entry { name: name.to_owned(), dtype: dtype.to_owned(), shape, offsets })
    }
}

/// Names and fields in their order, with names that come twice.
struct Header;

impl<'de> Visitor<'de> for Header {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            match name == "__metadata__" {
                true => drop(map.next_value::<IgnoredAny>()?),
                false => entries.push((name, map.next_value()?)),
            }
        }
        Ok(entries)
    }
}
