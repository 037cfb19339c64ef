//! GGUF files that are no models: adapters, importance matrices, vision projectors.

use super::error::GgufError;
use super::metadata::Metadata;
use super::value::Value;

impl Metadata {
    /// Refuses files that say of themselves that they are something else than a language model, with what to do.
    ///
    /// # Errors
    /// For adapters (LoRA), control vectors, importance matrices, and vision or audio encoders in a file of their own.
    pub(crate) fn require_model(&self) -> Result<(), GgufError> {
        // A value of the wrong type says nothing; what matters is read, and refused, elsewhere.
        let text = |key: &str| match self.get(key) {
            Some(Value::Str(text)) => std::str::from_utf8(text).unwrap_or_default(),
            _ => "",
        };
        let has = |prefix: &str| self.iter().any(|(key, _)| key.starts_with(prefix));
        let (kind, arch) = (text("general.type"), text("general.architecture"));
        let (found, advice) = if kind == "adapter" || has("adapter.") {
            let name = if text("adapter.type") == "lora" { "a LoRA adapter" } else { "an adapter" };
            (name, "give its base model, and the adapter with --lora")
        } else if kind == "imatrix" || (arch.is_empty() && has("imatrix.")) {
            ("an importance matrix (imatrix)", "give the model that it was made for")
        } else if kind == "mmproj" || kind == "clip-vision" || arch == "clip" {
            let name = match has("clip.audio.") && !has("clip.vision.") {
                true => "an audio encoder (mmproj)",
                false => "a vision encoder (mmproj)",
            };
            (name, "give the language model that it belongs to")
        } else if arch == "controlvector" {
            ("a control vector", "give the model that it was made for")
        } else {
            return Ok(());
        };
        Err(GgufError::NotAModel {
            file: self.file().clone(),
            found: found.to_owned(),
            advice: advice.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::gguf::{Metadata, Value};

    fn refused(pairs: &[(&str, Value)], words: &[&str]) {
        let mut metadata = Metadata::new("m.gguf");
        pairs.iter().for_each(|(key, value)| metadata.set(key, value.clone()));
        let message = metadata.require_model().unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }

    #[test]
    fn files_that_are_no_models_are_named_with_the_way_out() {
        let s = |text: &str| Value::from(text);
        let lora = [("general.type", s("adapter")), ("adapter.type", s("lora"))];
        refused(&lora, &["m.gguf", "LoRA adapter", "base model"]);
        refused(&[("adapter.lora.alpha", Value::F32(16.0))], &["adapter", "base model"]);
        refused(&[("general.type", s("imatrix"))], &["importance matrix", "the model"]);
        refused(&[("imatrix.chunk_count", Value::U32(1))], &["importance matrix", "the model"]);
        refused(&[("general.architecture", s("clip"))], &["vision encoder (mmproj)", "language model"]);
        refused(&[("general.type", s("mmproj")), ("clip.audio.x", Value::U8(1))], &["audio encoder"]);
        refused(&[("general.architecture", s("controlvector"))], &["control vector", "the model"]);
    }

    #[test]
    fn models_pass_and_so_does_what_says_nothing() {
        for kind in [Value::from("model"), Value::from("merge"), Value::U32(7), Value::Str([0xff].into())] {
            let mut metadata = Metadata::new("m.gguf");
            metadata.set("general.architecture", "llama");
            metadata.set("general.type", kind);
            metadata.set("quantize.imatrix.file", "imatrix.dat");
            metadata.require_model().unwrap();
        }
    }
}
