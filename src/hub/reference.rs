//! What a user writes for a model.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::converted::Checkpoint;
use super::error::HubError;
use super::hugging_face::{Selection, is_safe_path};
use super::ollama::name::ModelName;

/// The built-in model's name.
const BUILTIN: &str = "builtin";

/// What a user writes for a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `builtin`: the model inside the program.
    Builtin,
    /// A GGUF file, or the folder of a checkpoint: `FOLDER` or `FOLDER:TYPE`.
    File(PathBuf),
    /// The URL of a GGUF file.
    Url(String),
    /// `hf.co/USER/REPOSITORY[:QUANTIZATION]`, or the address of a file there.
    HuggingFace(Selection),
    /// A name of the table, of a store or of Ollama's registry.
    Name(ModelName),
}

impl Reference {
    /// Reads what a user wrote. What looks like a path is one, even if nothing is there; a bare word is one only if there is a GGUF
    /// file or a checkpoint of this name.
    ///
    /// # Errors
    /// What makes no sense as any of these.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        if text == BUILTIN {
            return Ok(Reference::Builtin);
        }
        if let Some(rest) = hugging_face(text) {
            return Self::parse_hugging_face(rest).map(Reference::HuggingFace);
        }
        let is_url = text.starts_with("http://") || text.starts_with("https://");
        if is_url && text.split(['?', '#']).next().is_some_and(|path| path.ends_with(".gguf")) {
            return Ok(Reference::Url(text.to_string()));
        }
        let path = Path::new(text);
        let is_path = text.starts_with(['/', '~'])
            || path.starts_with(".")
            || path.starts_with("..")
            || path.is_absolute();
        if !is_url && (is_path || text.ends_with(".gguf") || is_gguf(path) || Checkpoint::at(path).is_some())
        {
            return Ok(Reference::File(match text.strip_prefix("~/").zip(std::env::var_os("HOME")) {
                Some((rest, home)) => Path::new(&home).join(rest),
                None => path.to_path_buf(),
            }));
        }
        ModelName::parse(text).map(Reference::Name)
    }

    /// `USER/REPOSITORY[:QUANTIZATION]` or `USER/REPOSITORY/(resolve|blob)/REVISION/FILE`.
    fn parse_hugging_face(rest: &str) -> Result<Selection, HubError> {
        let rest = rest.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let parts: Vec<&str> = rest.splitn(5, '/').collect();
        let [user, name, "resolve" | "blob" | "raw", revision, file] = parts[..] else {
            return Selection::parse(rest);
        };
        if !is_safe_path(file) || !is_safe_path(revision) {
            let why = "expected a file inside the repository".into();
            return Err(HubError::InvalidName { name: rest.into(), why });
        }
        Ok(Selection {
            revision: Some(revision.to_string()).filter(|revision| revision != "main"),
            file: Some(file.to_string()),
            ..Selection::parse(&format!("{user}/{name}"))?
        })
    }
}

fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    std::fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok() && &magic == b"GGUF")
}

/// What follows the address of the Hugging Face Hub.
fn hugging_face(text: &str) -> Option<&str> {
    let text = text.strip_prefix("https://").unwrap_or(text);
    ["hf.co/", "huggingface.co/"].iter().find_map(|host| text.strip_prefix(host))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Builtin => f.write_str(BUILTIN),
            Reference::File(path) => path.display().fmt(f),
            Reference::Url(url) => f.write_str(&super::url::shown(url)),
            Reference::HuggingFace(selection) => selection.fmt(f),
            Reference::Name(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_meant() {
        let parse = |text: &str| Reference::parse(text).unwrap();
        assert_eq!(parse("builtin"), Reference::Builtin);
        for path in ["m.gguf", "./m", "../m", "/m", "a/b.gguf"] {
            assert_eq!(parse(path), Reference::File(path.into()));
        }
        assert!(matches!(parse("mistral"), Reference::Name(name) if name.tag == "latest"));
        assert!(matches!(parse("me/m:t"), Reference::Name(name) if name.namespace == "me"));
        assert!(matches!(parse("http://127.0.0.1:1/library/m"), Reference::Name(name) if name.plain_http));
        assert_eq!(parse("https://x/m.gguf?y"), Reference::Url("https://x/m.gguf?y".into()));
        for text in ["hf.co/a/b:Q8_0", "https://huggingface.co/a/b:Q8_0", "huggingface.co/a/b:Q8_0"] {
            let Reference::HuggingFace(selection) = parse(text) else { panic!("{text}") };
            assert_eq!(
                (selection.repository.as_str(), selection.quantization.as_deref()),
                ("a/b", Some("Q8_0"))
            );
        }
        let Reference::HuggingFace(selection) =
            parse("https://huggingface.co/a/b/resolve/main/x/m.gguf?download=true")
        else {
            panic!("an address of a file")
        };
        assert_eq!((selection.file.as_deref(), selection.revision), (Some("x/m.gguf"), None));
        let Reference::HuggingFace(selection) = parse("hf.co/a/b/blob/v2/m.gguf") else { panic!("another") };
        assert_eq!(selection.revision.as_deref(), Some("v2"));
        for wrong in ["", "hf.co/a", "hf.co/a/b/c", "hf.co/a/b/resolve/main/../../x", "hf.co/../b", "a b"] {
            assert!(Reference::parse(wrong).is_err(), "{wrong}");
        }
    }
}
