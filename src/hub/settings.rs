//! Where models come from and lie: environment variables, as other programs read them.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// What the environment says about hubs, caches and the network.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Hugging Face Hub (`MODEL_ENDPOINT`, `HF_ENDPOINT`), without a slash at its end.
    pub endpoint: String,
    /// For the Hugging Face Hub (`HF_TOKEN`, or the file that `hf auth login` writes).
    pub token: Option<Token>,
    /// The cache that is shared with `huggingface_hub` (`HF_HUB_CACHE`, `HF_HOME`).
    pub hf_cache: PathBuf,
    /// Models of our own, in the layout of Ollama's (`BISE_MODELS`).
    pub models: PathBuf,
    /// Where Ollama keeps its models (`OLLAMA_MODELS`, and its usual folders).
    pub ollama: Vec<PathBuf>,
    /// Never use the network (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// Proxies.
    pub proxies: Proxies,
    /// Certificates to trust instead of Mozilla's (`SSL_CERT_FILE`).
    pub certificates: Option<PathBuf>,
}

/// A secret that a server asks for. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token; `None` if there is nothing in it, or something that no header may hold.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())).then(|| Self(text.to_string()))
    }

    /// For the header of a request.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Which requests go through which proxy.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// For `http://` (`HTTP_PROXY`, `ALL_PROXY`).
    pub http: Option<String>,
    /// For `https://` (`HTTPS_PROXY`, `ALL_PROXY`).
    pub https: Option<String>,
    /// Hosts that are asked directly (`NO_PROXY`): names, which stand for their subdomains too, or `*`.
    pub none: Vec<String>,
}

impl Proxies {
    /// The proxy for a host, if there is one.
    pub fn for_host(&self, scheme: &str, host: &str) -> Option<&str> {
        let host = host.to_ascii_lowercase();
        let direct = self.none.iter().any(|name| {
            let name = name.trim_start_matches("*.").trim_start_matches('.');
            name == "*" || host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
        });
        if direct {
            return None;
        }
        if scheme == "https" { self.https.as_deref() } else { self.http.as_deref() }
    }
}

impl Settings {
    /// What the environment of this process says.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// What some variables say. An empty one counts as none.
    pub fn from_variables(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let text = |name: &str| get(name).and_then(|value| value.into_string().ok());
        let either = |names: &[&str]| names.iter().find_map(|name| text(name));
        let home =
            get("HOME").or_else(|| get("USERPROFILE")).map_or_else(|| PathBuf::from("."), PathBuf::from);
        let path = |name: &str| {
            get(name).map(|value| match Path::new(&value).strip_prefix("~") {
                Ok(rest) => home.join(rest),
                Err(_) => PathBuf::from(value),
            })
        };
        let on = |name: &str| {
            text(name).is_some_and(|v| matches!(v.to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true"))
        };
        let cache = path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
        let data = path("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share"));
        let hf_home = path("HF_HOME").unwrap_or_else(|| cache.join("huggingface"));
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| hf_home.join("token"));
        let token = either(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]);
        let token = token.or_else(|| match on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            true => None,
            false => std::fs::read_to_string(token_file).ok(),
        });
        let endpoint = either(&["MODEL_ENDPOINT", "HF_ENDPOINT"]);
        let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".into());
        let all = either(&["ALL_PROXY", "all_proxy"]);
        let none = either(&["NO_PROXY", "no_proxy"]).unwrap_or_default();
        let none = none.split(',').map(|name| name.trim().to_ascii_lowercase());
        let mut ollama: Vec<PathBuf> = path("OLLAMA_MODELS").into_iter().collect();
        ollama.push(home.join(".ollama/models"));
        #[cfg(unix)]
        ollama.push(PathBuf::from("/usr/share/ollama/.ollama/models"));
        Self {
            endpoint: endpoint.trim_end_matches('/').to_string(),
            token: token.as_deref().and_then(Token::new),
            hf_cache: path("HF_HUB_CACHE")
                .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
                .unwrap_or_else(|| hf_home.join("hub")),
            models: path("BISE_MODELS").unwrap_or_else(|| data.join("bise/models")),
            ollama,
            offline: on("HF_HUB_OFFLINE") || on("TRANSFORMERS_OFFLINE"),
            proxies: Proxies {
                http: either(&["HTTP_PROXY", "http_proxy"]).or_else(|| all.clone()),
                https: either(&["HTTPS_PROXY", "https_proxy"]).or(all),
                none: none.filter(|name| !name.is_empty()).collect(),
            },
            certificates: path("SSL_CERT_FILE"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Settings {
        Settings::from_variables(|name| {
            variables.iter().find(|(given, _)| *given == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn folders_are_those_of_the_programs_that_made_them() {
        let settings = with(&[("HOME", "/home/u")]);
        assert_eq!(settings.endpoint, "https://huggingface.co");
        assert_eq!(settings.hf_cache, Path::new("/home/u/.cache/huggingface/hub"));
        assert_eq!(settings.models, Path::new("/home/u/.local/share/bise/models"));
        assert_eq!(settings.ollama[0], Path::new("/home/u/.ollama/models"));
        let cache = |variables: &[(&str, &str)]| with(variables).hf_cache;
        assert_eq!(cache(&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/h/hub"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")]), Path::new("/c"));
        assert_eq!(cache(&[("HOME", "/u"), ("HF_HOME", "~/hf")]), Path::new("/u/hf/hub"));
        assert_eq!(with(&[("OLLAMA_MODELS", "/o")]).ollama[0], Path::new("/o"));
    }

    #[test]
    fn the_token_is_that_of_the_variable_or_the_file_and_is_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        let token = |variables: &[(&str, &str)]| with(variables).token.map(|t| t.secret().to_string());
        assert_eq!(token(&[("HF_HOME", home)]).unwrap(), "hf_file");
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", "hf_env")]).unwrap(), "hf_env");
        assert_eq!(token(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(token(&[("HF_TOKEN", "a\r\nX-Evil: b")]), None);
        assert!(!format!("{:?}", with(&[("HF_TOKEN", "hf_env")])).contains("hf_env"));
    }

    #[test]
    fn proxies_have_exceptions() {
        let settings = with(&[
            ("HTTP_PROXY", "http://p:1"),
            ("https_proxy", "http://p:2"),
            ("NO_PROXY", "localhost, .corp.example,b.example"),
        ]);
        let proxy = |scheme: &str, host: &str| settings.proxies.for_host(scheme, host);
        assert_eq!(proxy("http", "huggingface.co"), Some("http://p:1"));
        assert_eq!(proxy("https", "huggingface.co"), Some("http://p:2"));
        for host in ["LOCALHOST", "x.corp.example", "b.example", "a.b.example"] {
            assert_eq!(proxy("https", host), None, "{host}");
        }
        assert_eq!(proxy("https", "evilb.example"), Some("http://p:2"));
        assert_eq!(with(&[("ALL_PROXY", "http://p"), ("NO_PROXY", "*")]).proxies.for_host("http", "x"), None);
    }
}
