//! The keys that say what a model is called and how large it is.

use std::path::Path;

use bise_models::gguf::Metadata;
use bise_models::printable::printable;
use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::config::ModelConfig;
use super::error::ConvertError;
use super::json_file;

/// Sets `general.*`: the architecture, a name, how large the model is, and how its makers sample from it.
///
/// # Errors
/// If `generation_config.json` is broken.
pub(super) fn set_keys(
    to: &mut Metadata,
    checkpoint: &Checkpoint,
    config: &ModelConfig,
    name: Option<&str>,
    n_weights: (u64, u64),
) -> Result<(), ConvertError> {
    to.set("general.architecture", config.arch);
    to.set("general.type", "model");
    if let Some(name) = name.map(str::to_owned).or_else(|| name_of(&checkpoint.folder)) {
        to.set("general.name", name.as_str());
    }
    to.set("general.size_label", size_label(n_weights, config.experts).as_str());
    set_sampling(to, &checkpoint.folder.join("generation_config.json"))
}

/// The name of the repository whose snapshot in Hugging Face's cache `folder` is: `models--mistralai--Mistral-7B-v0.1/snapshots/26bc…`.
pub fn repository_of(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    if folder.parent()?.file_name()? != "snapshots" {
        return None;
    }
    let repository = folder.ancestors().nth(2)?.file_name()?.to_string_lossy().into_owned();
    repository.strip_prefix("models--")?.rsplit("--").next().map(str::to_owned)
}

/// A readable name: that of the folder, or of the repository whose snapshot it is.
fn name_of(folder: &Path) -> Option<String> {
    let name = match repository_of(folder) {
        Some(repository) => repository,
        None => {
            let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
            folder.file_name()?.to_string_lossy().into_owned()
        }
    };
    let words: Vec<&str> = name.split(['-', '_', ' ']).filter(|word| !word.is_empty()).collect();
    Some(words.join(" ")).filter(|name| !name.is_empty())
}

/// The number of weights in three digits or fewer, as in `7.2B`; with experts, as in `8x7B`: what one path through the model has.
fn size_label((all, in_experts): (u64, u64), experts: Option<(usize, usize)>) -> String {
    match experts {
        None => rounded(all),
        Some((n, _)) => format!("{n}x{}", rounded(all - in_experts + in_experts / n as u64)),
    }
}

fn rounded(n: u64) -> String {
    let n = n as f64;
    let (scaled, unit) = match n {
        n if n > 1e12 => (n * 1e-12, "T"),
        n if n > 1e9 => (n * 1e-9, "B"),
        n if n > 1e6 => (n * 1e-6, "M"),
        n => (n * 1e-3, "K"),
    };
    // Two digits at least.
    let whole = (scaled.round() as u64).to_string().trim_start_matches('0').len();
    format!("{scaled:.*}{unit}", 2_usize.saturating_sub(whole))
}

/// How the model's makers sample from it, as llama.cpp's converter notes it.
fn set_sampling(to: &mut Metadata, path: &Path) -> Result<(), ConvertError> {
    let Some(generation) = json_file::object_if_there(path)? else { return Ok(()) };
    let invalid = |name: &str, found: &Value, expected: &str| ConvertError::Invalid {
        path: path.to_owned(),
        what: format!("\"{name}\""),
        found: printable(found.to_string().as_bytes()),
        expected: expected.to_owned(),
    };
    for (from, key) in [("temperature", "temp"), ("top_p", "top_p"), ("min_p", "min_p")] {
        let Some(value) = generation.get(from).filter(|value| !value.is_null()) else { continue };
        match value.as_f64().map(|x| x as f32) {
            Some(x) if x.is_finite() => to.set(&format!("general.sampling.{key}"), x),
            _ => return Err(invalid(from, value, "a number that single precision holds")),
        }
    }
    if let Some(value) = generation.get("top_k").filter(|value| !value.is_null()) {
        match value.as_i64().and_then(|k| i32::try_from(k).ok()) {
            Some(k) => to.set("general.sampling.top_k", k),
            None => return Err(invalid("top_k", value, "a whole number of 32 bits")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_to_two_digits_or_more() {
        for (n, label) in [
            (7_241_732_096, "7.2B"),
            (12_247_782_400, "12B"),
            (123_000_000_000, "123B"),
            (4_300_000, "4.3M"),
            (150_000, "150K"),
        ] {
            assert_eq!(size_label((n, 0), None), label);
        }
        let mixtral = (46_702_792_704, 45_097_156_608);
        assert_eq!(size_label(mixtral, Some((8, 2))), "8x7.2B");
    }

    #[test]
    fn names_are_those_of_repositories() {
        assert_eq!(name_of(Path::new("/m/Mistral-7B-v0.1")).as_deref(), Some("Mistral 7B v0.1"));
        let snapshot = "/hub/models--mistralai--Ministral-3-3B/snapshots/0123abcd";
        assert_eq!(name_of(Path::new(snapshot)).as_deref(), Some("Ministral 3 3B"));
    }
}
