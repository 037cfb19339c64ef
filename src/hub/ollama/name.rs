//! Names of models, as Ollama writes them: `[HOST/][NAMESPACE/]MODEL[:TAG]`.

use std::fmt;
use std::path::PathBuf;

use crate::hub::error::HubError;

const HOST: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";
const TAG: &str = "latest";

/// The name of a model in a registry or a store. Its parts are safe as parts of a path and of a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName {
    /// The registry, with its port.
    pub host: String,
    /// Who it is by.
    pub namespace: String,
    /// The model.
    pub model: String,
    /// Which of its variants.
    pub tag: String,
    /// Whether the registry is asked without encryption.
    pub plain_http: bool,
}

impl ModelName {
    /// Reads a name; what is left out is `registry.ollama.ai`, `library` and `latest`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(name: &str) -> Result<Self, HubError> {
        let invalid = |why: String| HubError::InvalidName { name: name.into(), why };
        let (rest, plain_http) = match (name.strip_prefix("http://"), name.strip_prefix("https://")) {
            (Some(rest), _) => (rest, true),
            (None, Some(rest)) => (rest, false),
            (None, None) => (name, false),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, tag),
            _ => (rest, TAG),
        };
        let parts: Vec<&str> = path.split('/').collect();
        let (host, namespace, model) = match parts[..] {
            [model] => (HOST, NAMESPACE, model),
            [namespace, model] => (HOST, namespace, model),
            [host, namespace, model] => (host, namespace, model),
            _ => {
                return Err(invalid(
                    "expected MODEL, NAMESPACE/MODEL or HOST/NAMESPACE/MODEL, and :TAG".into(),
                ));
            }
        };
        for (what, part, longest, others) in [
            ("host", host, 350, "_-.:"),
            ("namespace", namespace, 80, "_-."),
            ("model", model, 80, "_-."),
            ("tag", tag, 80, "_-."),
        ] {
            let starts = part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            let plain = part.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c));
            if !starts || !plain || part.len() > longest {
                return Err(invalid(format!(
                    "found the {what} {part:?}, expected letters, digits and {}, of at most {longest} characters",
                    others.chars().map(String::from).collect::<Vec<_>>().join(" ")
                )));
            }
        }
        Ok(Self {
            host: host.to_string(),
            namespace: namespace.to_string(),
            model: model.to_string(),
            tag: tag.to_string(),
            plain_http,
        })
    }

    /// Whether it is one of Ollama's own library, the only names that have one part.
    pub fn is_library(&self) -> bool {
        self.host == HOST && self.namespace == NAMESPACE
    }

    /// Its manifest in a store.
    pub fn path(&self) -> PathBuf {
        // Windows has no colons in names.
        let host = if cfg!(windows) { self.host.replace(':', "_") } else { self.host.clone() };
        [host.as_str(), &self.namespace, &self.model, &self.tag].iter().collect()
    }

    /// A URL in its registry: `…/v2/NAMESPACE/MODEL/` and `rest`.
    pub fn url(&self, rest: &str) -> String {
        let scheme = if self.plain_http { "http" } else { "https" };
        format!("{scheme}://{}/v2/{}/{}/{rest}", self.host, self.namespace, self.model)
    }
}

impl fmt::Display for ModelName {
    /// As short as it can be, and with its tag.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host != HOST {
            write!(f, "{}/{}/", self.host, self.namespace)?;
        } else if self.namespace != NAMESPACE {
            write!(f, "{}/", self.namespace)?;
        }
        write!(f, "{}:{}", self.model, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_and_shown_short() {
        for (name, shown, url) in [
            ("mistral", "mistral:latest", "https://registry.ollama.ai/v2/library/mistral/x"),
            (
                "mistral:7b-instruct-q4_K_M",
                "mistral:7b-instruct-q4_K_M",
                "https://registry.ollama.ai/v2/library/mistral/x",
            ),
            ("me/my.model:v1", "me/my.model:v1", "https://registry.ollama.ai/v2/me/my.model/x"),
            ("example.com:5000/me/m", "example.com:5000/me/m:latest", "https://example.com:5000/v2/me/m/x"),
            (
                "http://127.0.0.1:5000/library/m:t",
                "127.0.0.1:5000/library/m:t",
                "http://127.0.0.1:5000/v2/library/m/x",
            ),
        ] {
            let parsed = ModelName::parse(name).unwrap();
            assert_eq!((parsed.to_string().as_str(), parsed.url("x").as_str()), (shown, url));
        }
        assert_eq!(
            ModelName::parse("mistral").unwrap().path(),
            PathBuf::from("registry.ollama.ai/library/mistral/latest")
        );
    }

    #[test]
    fn a_name_is_no_path() {
        for name in [
            "",
            ":",
            "a:",
            ":a",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "/a",
            "a/",
            "a//b",
            "a/b/c/d",
            "a:..",
            "a:b/c",
            "a\\b",
            "a b",
            "a\0",
            "~/a",
            ".a",
            "-a",
            "a:-b",
            "é",
            "http://../a/b",
            "a%2fb",
            "C:\\a",
            "%2e%2e/a",
        ] {
            assert!(ModelName::parse(name).is_err(), "{name:?}");
        }
        assert!(ModelName::parse(&"a".repeat(81)).is_err());
    }
}
