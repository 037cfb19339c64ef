//! Which file of a repository is meant, by the rules of llama.cpp.

use super::Selection;
use crate::hub::error::HubError;

/// Tried in this order where no quantization is given; then whatever comes first.
const DEFAULTS: [&str; 2] = ["Q4_K_M", "Q8_0"];

/// The file that is meant: the first part of a model that is split.
///
/// # Errors
/// Nothing fits; the message lists what there is.
pub fn choose<'a>(paths: &[&'a str], selection: &Selection) -> Result<&'a str, HubError> {
    let not_found = |what: String| {
        let mut there: Vec<&str> =
            paths.iter().copied().filter(|path| is_model(path) && is_first(path)).collect();
        there.truncate(40);
        let there = match there.is_empty() {
            true => "it has no GGUF file at all".to_string(),
            false => format!("it has {}", there.join(", ")),
        };
        HubError::NotFound {
            name: selection.to_string(),
            advice: format!(": the repository has no {what}; {there}"),
        }
    };
    if let Some(file) = &selection.file {
        let found = paths.iter().find(|path| *path == file);
        return found.copied().ok_or_else(|| not_found(format!("file {file}")));
    }
    let models = || paths.iter().copied().filter(|path| is_model(path) && is_first(path));
    if let Some(quantization) = &selection.quantization {
        return models()
            .find(|path| has_quantization(path, quantization))
            .ok_or_else(|| not_found(format!("file for {quantization}")));
    }
    let default =
        DEFAULTS.iter().find_map(|quantization| models().find(|path| has_quantization(path, quantization)));
    default.or_else(|| models().next()).ok_or_else(|| not_found("GGUF file".into()))
}

/// Every part of the model whose first part is `first`, in order.
///
/// # Errors
/// A part is missing.
pub fn parts<'a>(paths: &[&'a str], first: &'a str) -> Result<Vec<&'a str>, HubError> {
    let Some(split) = Split::of(first) else { return Ok(vec![first]) };
    (1..=split.count)
        .map(|index| {
            let path = format!("{}-{index:05}-of-{:05}.gguf", split.prefix, split.count);
            paths.iter().copied().find(|p| *p == path).ok_or_else(|| HubError::NotFound {
                name: path.clone(),
                advice: format!(": the repository has the first of {} parts, but not this one", split.count),
            })
        })
        .collect()
}

/// The name of a file of a model that is split into several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split<'a> {
    prefix: &'a str,
    index: u32,
    count: u32,
}

impl<'a> Split<'a> {
    /// Reads `PREFIX-00001-of-00003.gguf`.
    pub fn of(path: &'a str) -> Option<Self> {
        let stem = path.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, index) = rest.rsplit_once('-')?;
        let number = |digits: &str| {
            let five = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
            if five { digits.parse().ok() } else { None }
        };
        let (index, count) = (number(index)?, number(count)?);
        (index >= 1 && index <= count).then_some(Self { prefix, index, count })
    }
}

/// Whether a file holds a model, or its first part, rather than something that goes with one.
pub fn is_model(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.ends_with(".gguf") && !["mmproj", "imatrix", "mtp-"].iter().any(|word| name.contains(word))
}

/// Whether a file is not a later part of a split model.
pub fn is_first(path: &str) -> bool {
    Split::of(path).is_none_or(|split| split.index == 1)
}

/// Whether a file's path has the quantization, followed by `-` or `.`.
fn has_quantization(path: &str, quantization: &str) -> bool {
    let (path, quantization) = (path.to_ascii_lowercase(), quantization.to_ascii_lowercase());
    path.match_indices(&quantization).any(|(at, found)| path[at + found.len()..].starts_with(['.', '-']))
}

/// The quantization that a file's name ends with, such as `Q4_K_M`.
pub fn quantization(path: &str) -> Option<String> {
    let stem = path.rsplit('/').next()?.strip_suffix(".gguf")?;
    let stem = Split::of(path).map_or(stem, |split| split.prefix.rsplit('/').next().unwrap_or(split.prefix));
    let word = stem.rsplit(['-', '.']).next()?;
    let upper = word.to_ascii_uppercase();
    let known = ["Q", "IQ", "F16", "F32", "BF16", "TQ", "MXFP"].iter().any(|start| upper.starts_with(start));
    (known && word.len() < stem.len() && upper.bytes().any(|b| b.is_ascii_digit())).then_some(upper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::hugging_face::Repository;

    const PATHS: [&str; 9] = [
        ".gitattributes",
        "imatrix-Q4_K_M.gguf",
        "m-IQ4_XS.gguf",
        "m-Q4_K_S.gguf",
        "m-q4_k_m.gguf",
        "Q8_0/m-Q8_0-00001-of-00002.gguf",
        "Q8_0/m-Q8_0-00002-of-00002.gguf",
        "m-Q4_K_M.gguf",
        "mmproj-Q8_0.gguf",
    ];

    fn selection(quantization: Option<&str>, file: Option<&str>) -> Selection {
        let own = |text: &str| text.to_string();
        Selection {
            quantization: quantization.map(own),
            file: file.map(own),
            ..Selection::new(Repository::parse("a/b").unwrap())
        }
    }

    #[test]
    fn quantizations_are_chosen_as_in_llama_cpp() {
        let choose = |quantization| choose(&PATHS, &selection(quantization, None));
        assert_eq!(choose(None).unwrap(), "m-q4_k_m.gguf");
        assert_eq!(choose(Some("q4_k_s")).unwrap(), "m-Q4_K_S.gguf");
        assert_eq!(choose(Some("Q8_0")).unwrap(), "Q8_0/m-Q8_0-00001-of-00002.gguf");
        let error = choose(Some("Q4_K")).unwrap_err().to_string();
        assert!(error.contains("no file for Q4_K") && error.contains("m-IQ4_XS.gguf"), "{error}");
        assert!(!error.contains("00002-of") && !error.contains("mmproj"), "{error}");
    }

    #[test]
    fn without_q4_k_m_it_is_q8_0_and_then_the_first() {
        let without =
            |paths: &[&'static str]| super::choose(paths, &selection(None, None)).unwrap().to_string();
        assert_eq!(without(&["m-Q2_K.gguf", "m-Q8_0.gguf"]), "m-Q8_0.gguf");
        assert_eq!(without(&["mmproj-x.gguf", "m-Q2_K.gguf", "m-Q6_K.gguf"]), "m-Q2_K.gguf");
        let error = super::choose(&["model.safetensors"], &selection(None, None)).unwrap_err().to_string();
        assert!(error.contains("no GGUF file at all"), "{error}");
    }

    #[test]
    fn a_file_is_taken_by_its_name() {
        assert_eq!(choose(&PATHS, &selection(None, Some("mmproj-Q8_0.gguf"))).unwrap(), "mmproj-Q8_0.gguf");
        assert!(
            choose(&PATHS, &selection(None, Some("m.gguf")))
                .unwrap_err()
                .to_string()
                .contains("no file m.gguf")
        );
    }

    #[test]
    fn a_split_model_has_all_its_parts() {
        let first = PATHS[5];
        assert_eq!(parts(&PATHS, first).unwrap(), [PATHS[5], PATHS[6]]);
        assert_eq!(parts(&PATHS, "m-Q4_K_S.gguf").unwrap(), ["m-Q4_K_S.gguf"]);
        let error = parts(&PATHS[..6], first).unwrap_err().to_string();
        assert!(error.contains("00002-of-00002"), "{error}");
        assert_eq!(Split::of("m-00003-of-00002.gguf"), None);
        assert_eq!(Split::of("m-1-of-2.gguf"), None);
    }

    #[test]
    fn names_end_with_their_quantization() {
        for (path, want) in [
            ("mistral-7b-instruct-v0.2.Q4_K_M.gguf", Some("Q4_K_M")),
            ("x/m-q8_0-00001-of-00002.gguf", Some("Q8_0")),
            ("m-bf16.gguf", Some("BF16")),
            ("m.IQ4_XS.gguf", Some("IQ4_XS")),
            ("Mistral-7B-Instruct.gguf", None),
            ("Q4_K_M.gguf", None),
        ] {
            assert_eq!(quantization(path).as_deref(), want, "{path}");
        }
    }
}
