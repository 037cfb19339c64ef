//! The metadata of a GGUF file as JSON.

use bise_models::gguf::{Array, GgufFile, Value as Metadatum};
use serde_json::{Map, Number, Value};

/// All keys but the model's name and its chat template, which are told by themselves. Arrays with more than `max_items` are empty:
/// those of a vocabulary have megabytes.
pub fn metadata(file: &GgufFile, max_items: usize) -> Map<String, Value> {
    let entries = file.metadata().iter();
    let told = entries.filter(|(key, _)| !matches!(*key, "general.name" | "tokenizer.chat_template"));
    told.map(|(key, value)| (key.to_owned(), value_to_json(value, max_items))).collect()
}

fn value_to_json(value: &Metadatum, max_items: usize) -> Value {
    match value {
        Metadatum::U8(x) => (*x).into(),
        Metadatum::I8(x) => (*x).into(),
        Metadatum::U16(x) => (*x).into(),
        Metadatum::I16(x) => (*x).into(),
        Metadatum::U32(x) => (*x).into(),
        Metadatum::I32(x) => (*x).into(),
        Metadatum::U64(x) => (*x).into(),
        Metadatum::I64(x) => (*x).into(),
        Metadatum::F32(x) => float(*x),
        Metadatum::F64(x) => (*x).into(),
        Metadatum::Bool(x) => (*x).into(),
        Metadatum::Str(text) => String::from_utf8_lossy(text).into(),
        Metadatum::Array(array) => array_to_json(array, max_items),
    }
}

/// With the digits that the narrow number needs, and no more.
fn float(x: f32) -> Value {
    x.to_string().parse().ok().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
}

fn array_to_json(array: &Array, max_items: usize) -> Value {
    macro_rules! items {
        ($items:expr, $to_json:expr) => {
            if $items.len() > max_items { Vec::new() } else { $items.iter().map($to_json).collect() }
        };
    }
    let items: Vec<Value> = match array {
        Array::U8(items) => items!(items, |x| (*x).into()),
        Array::I8(items) => items!(items, |x| (*x).into()),
        Array::U16(items) => items!(items, |x| (*x).into()),
        Array::I16(items) => items!(items, |x| (*x).into()),
        Array::U32(items) => items!(items, |x| (*x).into()),
        Array::I32(items) => items!(items, |x| (*x).into()),
        Array::U64(items) => items!(items, |x| (*x).into()),
        Array::I64(items) => items!(items, |x| (*x).into()),
        Array::F32(items) => items!(items, |x| float(*x)),
        Array::F64(items) => items!(items, |x| (*x).into()),
        Array::Bool(items) => items!(items, |x| (*x).into()),
        Array::Str(items) => items!(items, |text| String::from_utf8_lossy(text).into()),
        Array::Array(items) => items!(items, |inner| array_to_json(inner, max_items)),
    };
    items.into()
}

#[cfg(all(test, feature = "builtin-model"))]
mod tests {
    use super::*;

    #[test]
    fn metadata_of_the_builtin_model() {
        let file = GgufFile::from_static(bise_models::BUILTIN, "built-in model").unwrap();
        let short = metadata(&file, 5);
        assert_eq!(short["general.architecture"], "llama");
        assert_eq!(short["llama.context_length"], 2048);
        assert_eq!(short["llama.attention.layer_norm_rms_epsilon"], 1e-5);
        assert_eq!(short["tokenizer.ggml.add_bos_token"], true);
        assert_eq!(short["tokenizer.ggml.tokens"], Value::Array(Vec::new()));
        assert!(!short.contains_key("general.name") && !short.contains_key("tokenizer.chat_template"));
        let full = metadata(&file, usize::MAX);
        assert_eq!(full["tokenizer.ggml.tokens"].as_array().unwrap().len(), 4096);
        assert_eq!(full["tokenizer.ggml.tokens"][1], "<s>");
        assert_eq!(full.len(), short.len());
    }
}
