//! What tells one model from another.

use bise_models::gguf::{Array, GgufFile, Value};
use twox_hash::XxHash3_128;

/// Bytes of a tensor that are looked at in one place.
const SAMPLE_BYTES: usize = 4096;

/// A number that models share only if they compute the same, as far as can be told without reading all of them: XXH3 (128 bits) of
///
/// - the metadata, overrides included, but for the window and the rotary embedding, which a session file has by themselves;
/// - the name, type and shape of every tensor;
/// - 4 KiB at the beginning, in the middle and at the end of every tensor.
///
/// Fine-tuning moves nearly all weights, so two models that differ do so in the samples. A file in which single weights were changed
/// elsewhere is not told from the original.
pub(crate) fn fingerprint(file: &GgufFile) -> u128 {
    let arch = file.metadata().str("general.architecture").ok().flatten().unwrap_or_default().to_owned();
    let by_itself = |key: &str| {
        key.strip_prefix(&arch)
            .and_then(|key| key.strip_prefix('.'))
            .is_some_and(|key| key.starts_with("rope.") || key == "attention.sliding_window")
    };
    hash_of(file, |key| !by_itself(key))
}

/// [`fingerprint`] with all of the metadata.
#[cfg(any(feature = "quantize", feature = "train"))]
pub(crate) fn whole_fingerprint(file: &GgufFile) -> u128 {
    hash_of(file, |_| true)
}

fn hash_of(file: &GgufFile, counts: impl Fn(&str) -> bool) -> u128 {
    let mut hash = XxHash3_128::new();
    let mut entries: Vec<_> = file.metadata().iter().filter(|(key, _)| counts(key)).collect();
    entries.sort_by_key(|(key, _)| *key);
    for (key, value) in entries {
        put(&mut hash, key.as_bytes());
        put_value(&mut hash, value);
    }
    let mut tensors: Vec<_> = file.tensors().collect();
    tensors.sort_by_key(|info| &info.name);
    for info in tensors {
        put(&mut hash, info.name.as_bytes());
        put(&mut hash, info.tensor_type.name().as_bytes());
        info.shape.iter().for_each(|n| hash.write(&(*n as u64).to_le_bytes()));
        let bytes = file.bytes(info);
        let last = bytes.len().saturating_sub(SAMPLE_BYTES);
        for start in [0, last / 2, last] {
            put(&mut hash, &bytes[start..(start + SAMPLE_BYTES).min(bytes.len())]);
        }
    }
    hash.finish_128()
}

/// Bytes after their number, so that two fields cannot be taken for one.
fn put(hash: &mut XxHash3_128, bytes: &[u8]) {
    hash.write(&(bytes.len() as u64).to_le_bytes());
    hash.write(bytes);
}

/// A value after its type. Numbers of any width that are equal count as equal: overrides have the widest.
fn put_value(hash: &mut XxHash3_128, value: &Value) {
    let mut integer = |value: i128| {
        hash.write(b"i");
        hash.write(&value.to_le_bytes());
    };
    match value {
        Value::U8(x) => integer((*x).into()),
        Value::I8(x) => integer((*x).into()),
        Value::U16(x) => integer((*x).into()),
        Value::I16(x) => integer((*x).into()),
        Value::U32(x) => integer((*x).into()),
        Value::I32(x) => integer((*x).into()),
        Value::U64(x) => integer((*x).into()),
        Value::I64(x) => integer((*x).into()),
        Value::F32(x) => put(hash, &x.to_le_bytes()),
        // Overrides are f64, and are used as f32.
        Value::F64(x) => put(hash, &(*x as f32).to_le_bytes()),
        Value::Bool(x) => put(hash, &[u8::from(*x)]),
        Value::Str(text) => put(hash, text),
        Value::Array(array) => put_array(hash, array),
    }
}

fn put_array(hash: &mut XxHash3_128, array: &Array) {
    macro_rules! put_numbers {
        ($numbers:expr) => {{
            hash.write(&($numbers.len() as u64).to_le_bytes());
            $numbers.iter().for_each(|x| hash.write(&x.to_le_bytes()));
        }};
    }
    match array {
        Array::U8(x) => put_numbers!(x),
        Array::I8(x) => put_numbers!(x),
        Array::U16(x) => put_numbers!(x),
        Array::I16(x) => put_numbers!(x),
        Array::U32(x) => put_numbers!(x),
        Array::I32(x) => put_numbers!(x),
        Array::U64(x) => put_numbers!(x),
        Array::I64(x) => put_numbers!(x),
        Array::F32(x) => put_numbers!(x),
        Array::F64(x) => put_numbers!(x),
        Array::Bool(x) => x.iter().for_each(|x| hash.write(&[u8::from(*x)])),
        Array::Str(x) => x.iter().for_each(|text| put(hash, text)),
        Array::Array(x) => x.iter().for_each(|array| put_array(hash, array)),
    }
}
