//! The header of a safetensors file: a length, then that many bytes of JSON, then the data.
//!
//! Format: <https://github.com/huggingface/safetensors#format>. It is read here rather than by the crate, whose errors do not say which tensors
//! overlap, how much of a file is missing, or that a name comes twice.

use std::fmt;
use std::ops::Range;

use bise_models::gguf::WholeFile;
use bise_models::printable::printable;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

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
        invalid("header".into(), printable(error.to_string().as_bytes()), "a safetensors header".into())
    })?;
    let data = 8 + header_len;
    let mut tensors = Vec::with_capacity(entries.len());
    for entry in entries {
        let what = format!("tensor '{}'", printable(entry.name.as_bytes()));
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
            let found = format!("{} bytes of data, which this tensor ends {} behind", size, end - size);
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

#[derive(serde::Deserialize)]
struct Fields {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// A map from names to fields that does not let a name come twice.
struct Header;

impl<'de> Visitor<'de> for Header {
    type Value = Vec<Entry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Entry>, A::Error> {
        let (mut entries, mut names) = (Vec::new(), std::collections::HashSet::new());
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let Fields { dtype, shape, data_offsets: offsets } = map.next_value()?;
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("tensor '{name}' comes twice")));
            }
            entries.push(Entry { name, dtype, shape, offsets });
        }
        Ok(entries)
    }
}
