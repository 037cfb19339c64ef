//! Which files of a repository are a checkpoint: weights in safetensors with a configuration and a tokenizer.

/// Whether there is a configuration with weights that it is for.
pub fn is_checkpoint<'a>(paths: impl IntoIterator<Item = &'a str> + Clone) -> bool {
    let has = |test: fn(&str) -> bool| paths.clone().into_iter().any(test);
    has(|path| path == "config.json") && has(is_hugging_face)
        || has(|path| path == "params.json") && has(is_native)
}

/// The files that a conversion reads. Where weights are there in both layouts, those of Hugging Face are meant.
pub fn files<'a>(paths: &[&'a str]) -> Vec<&'a str> {
    let has_config = paths.contains(&"config.json");
    let takes_native = !(has_config && paths.iter().any(|path| is_hugging_face(path)));
    let is_meant = |path: &&str| match *path {
        path if path.ends_with(".safetensors") => {
            if takes_native {
                is_native(path)
            } else {
                is_hugging_face(path)
            }
        }
        path => is_described(path),
    };
    paths.iter().copied().filter(is_meant).collect()
}

fn is_hugging_face(path: &str) -> bool {
    path.starts_with("model") && path.ends_with(".safetensors") && !path.contains('/')
}

fn is_native(path: &str) -> bool {
    path.starts_with("consolidated") && path.ends_with(".safetensors") && !path.contains('/')
}

/// Whether a file belongs to the configuration, the tokenizer or the chat templates.
fn is_described(path: &str) -> bool {
    match path.split_once('/') {
        Some((folder, name)) => folder == "additional_chat_templates" && name.ends_with(".jinja"),
        None => {
            let ends = [".json", ".jinja", ".model"].iter().any(|end| path.ends_with(end));
            !path.starts_with('.') && (ends || path.contains(".model.v"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_its_weights_configuration_and_tokenizer() {
        let hugging_face = [
            ".gitattributes",
            "README.md",
            "additional_chat_templates/tool_use.jinja",
            "config.json",
            "consolidated.safetensors",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "onnx/config.json",
            "params.json",
            "pytorch_model.bin",
            "tokenizer.model",
            "tokenizer.model.v3",
        ];
        assert!(is_checkpoint(hugging_face));
        let found = files(&hugging_face);
        assert!(
            !found.contains(&"consolidated.safetensors") && !found.contains(&"pytorch_model.bin"),
            "{found:?}"
        );
        assert_eq!(found.len(), 8, "{found:?}");
        let native = ["README.md", "consolidated.safetensors", "params.json", "tekken.json"];
        assert!(is_checkpoint(native));
        assert_eq!(files(&native), native[1..]);
        assert!(!is_checkpoint(["config.json", "pytorch_model.bin"]));
        assert!(!is_checkpoint(["config.json", "consolidated.safetensors"]));
        assert!(!is_checkpoint(["m.gguf", "adapter_model.safetensors", "config.json"]));
    }
}
