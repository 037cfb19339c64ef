//! The Hugging Face Hub: what is in a repository, which of its files is meant, and the cache that is shared with
//! `huggingface_hub`.

pub mod cache;
pub mod checkpoint;
pub mod choice;

use std::fmt;

use serde_json::Value;

use super::digest::Sha256;
use super::download::{self, Source};
use super::error::HubError;
use super::http::{Client, Request};
use super::progress::{Progress, Watch};
use super::url;
use cache::Cache;

/// The branch that is meant unless another revision is given.
pub const MAIN: &str = "main";

/// A repository: `user/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository(String);

impl Repository {
    /// Checks a name. What passes is also safe as a part of a path or a URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(name: &str) -> Result<Self, HubError> {
        let invalid = |why: &str| HubError::InvalidName { name: name.into(), why: why.into() };
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() != 2 {
            return Err(invalid("a repository is written as USER/NAME"));
        }
        for part in parts {
            let plain = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            let ends = part.starts_with(['-', '.']) || part.ends_with(['-', '.']);
            if part.is_empty()
                || part.len() > 96
                || !plain
                || ends
                || part.contains("--")
                || part.contains("..")
            {
                return Err(invalid(
                    "user and name have letters, digits and single - _ . between them, and at most 96 characters",
                ));
            }
        }
        Ok(Self(name.to_string()))
    }

    /// `user/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which file of which repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The repository.
    pub repository: Repository,
    /// A branch, a tag or a commit; `main` without it.
    pub revision: Option<String>,
    /// The quantization, such as `Q4_K_M`.
    pub quantization: Option<String>,
    /// The file, which is taken whatever the quantization.
    pub file: Option<String>,
    /// What the file must be, if that is known.
    pub sha256: Option<Sha256>,
}

impl Selection {
    /// What a repository offers first: Q4_K_M, if it has that.
    pub fn new(repository: Repository) -> Self {
        Self { repository, revision: None, quantization: None, file: None, sha256: None }
    }

    /// Reads `user/name` or `user/name:QUANTIZATION`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let (repository, quantization) = match text.split_once(':') {
            Some((repository, quantization)) => (repository, Some(quantization)),
            None => (text, None),
        };
        let plain =
            |q: &str| !q.is_empty() && q.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if quantization.is_some_and(|q| !plain(q)) {
            let why = "what follows the colon is a quantization, such as Q4_K_M".into();
            return Err(HubError::InvalidName { name: text.into(), why });
        }
        // Ollama's word for whatever there is.
        let quantization = quantization.filter(|q| *q != "latest").map(str::to_string);
        Ok(Self { quantization, ..Self::new(Repository::parse(repository)?) })
    }

    /// The revision that is meant.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf.co/{}", self.repository)?;
        match (&self.file, &self.quantization) {
            (Some(file), _) => write!(f, "/{file}"),
            (None, Some(quantization)) => write!(f, ":{quantization}"),
            (None, None) => Ok(()),
        }
    }
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryFile {
    /// Its path in the repository.
    pub path: String,
    /// In bytes.
    pub size: Option<u64>,
    /// Of large files.
    pub sha256: Option<Sha256>,
    /// The name of its content in the cache: the SHA-256 of a large file, the Git object of a small one.
    pub etag: Option<String>,
}

/// What is in a repository at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// In 40 hexadecimal digits.
    pub commit: String,
    /// In the order of the hub.
    pub files: Vec<RepositoryFile>,
}

/// Asks the hub what is in a repository.
///
/// # Errors
/// The network, the hub, or an answer that makes no sense.
pub fn list(client: &Client, repository: &Repository, revision: &str) -> Result<Listing, HubError> {
    let endpoint = &client.settings().endpoint;
    let revision = url::encode_path(revision).replace('/', "%2F");
    let url = format!("{endpoint}/api/models/{repository}/revision/{revision}?blobs=true");
    let token = client.settings().token.as_ref();
    let text = client.text(&Request { url: &url, token, ..Request::default() }, 32 << 20)?;
    parse_listing(&text).map_err(|why| HubError::Protocol { url: url::shown(&url), why })
}

fn parse_listing(text: &str) -> Result<Listing, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("found no JSON: {error}"))?;
    let commit =
        value["sha"].as_str().filter(|sha| sha.len() == 40 && sha.bytes().all(|b| b.is_ascii_hexdigit()));
    let commit = commit.ok_or("found no \"sha\", expected the commit")?.to_string();
    let files = value["siblings"].as_array().ok_or("found no \"siblings\", expected a list of files")?;
    let files = files.iter().map(|file| {
        let path = file["rfilename"].as_str().ok_or("found a file without \"rfilename\"")?;
        if !is_safe_path(path) {
            return Err(format!("found the file {path:?}, expected a path inside the repository"));
        }
        let lfs = &file["lfs"];
        let sha256 = lfs["sha256"].as_str().or_else(|| lfs["oid"].as_str()).and_then(Sha256::parse);
        let git =
            file["blobId"].as_str().filter(|id| id.len() == 40 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        Ok(RepositoryFile {
            path: path.to_string(),
            size: lfs["size"].as_u64().or_else(|| file["size"].as_u64()),
            sha256,
            etag: sha256.map(|sha| sha.to_string()).or_else(|| git.map(str::to_string)),
        })
    });
    Ok(Listing { commit, files: files.collect::<Result<_, String>>()? })
}

/// Whether a path stays inside the folder it is joined to, on every system.
pub fn is_safe_path(path: &str) -> bool {
    let safe = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':', '\0']);
    path.len() <= 1024 && path.split('/').all(safe)
}

/// Downloads what is selected into the cache, all parts of a split model, and returns the path of the first. Where a repository has no GGUF file of the
/// quantization, but a checkpoint, that is downloaded, and its folder returned.
///
/// # Errors
/// The network, the hub, the disk, a wrong digest; nothing that fits the selection.
pub fn pull(
    client: &Client,
    selection: &Selection,
    watch: &mut Watch<'_>,
) -> Result<std::path::PathBuf, HubError> {
    let repository = &selection.repository;
    if watch(Progress::Listing { name: &selection.to_string() }).is_break() {
        return Err(HubError::Cancelled);
    }
    if client.settings().offline {
        return Err(HubError::Offline { what: selection.to_string() });
    }
    let listing = list(client, repository, selection.revision())?;
    let paths: Vec<&str> = listing.files.iter().map(|file| file.path.as_str()).collect();
    let cache = Cache::new(&client.settings().hf_cache, repository);
    let first = match choice::choose(&paths, selection) {
        Ok(first) => first,
        Err(_) if selection.file.is_none() && checkpoint::is_checkpoint(paths.iter().copied()) => {
            for path in checkpoint::files(&paths) {
                let file = listing.files.iter().find(|file| file.path == path).expect("it is one of them");
                fetch(client, &cache, &listing.commit, file, watch)?;
            }
            cache.set_commit(selection.revision(), &listing.commit)?;
            return Ok(cache.snapshot(&listing.commit));
        }
        Err(error) => return Err(error),
    };
    let mut whole = None;
    for path in choice::parts(&paths, first)? {
        let file = listing.files.iter().find(|file| file.path == path).expect("it is one of them");
        let mut file = file.clone();
        match (selection.sha256.filter(|_| path == first), file.sha256) {
            (Some(expected), Some(found)) if expected != found => {
                return Err(HubError::Unsupported {
                    name: selection.to_string(),
                    why: format!(
                        "the repository has another {path} now (SHA-256 {found}) than the one that is known under this name \
                         ({expected}); `bise pull hf.co/{repository}` takes it as it is"
                    ),
                });
            }
            (expected, found) => file.sha256 = found.or(expected),
        }
        let stored = fetch(client, &cache, &listing.commit, &file, watch)?;
        whole.get_or_insert(stored);
    }
    // Last: whoever finds the revision finds its files.
    cache.set_commit(selection.revision(), &listing.commit)?;
    Ok(whole.expect("a model has a first part"))
}

/// Downloads one file into the cache.
fn fetch(
    client: &Client,
    cache: &Cache,
    commit: &str,
    file: &RepositoryFile,
    watch: &mut Watch<'_>,
) -> Result<std::path::PathBuf, HubError> {
    if let Some(found) = cache.file(commit, &file.path, file.size) {
        return Ok(found);
    }
    let endpoint = &client.settings().endpoint;
    let repository = cache.repository();
    let url = format!("{endpoint}/{repository}/resolve/{commit}/{}", url::encode_path(&file.path));
    let etag = match &file.etag {
        Some(etag) => etag.clone(),
        // A mirror that lists less than the hub does says it with the file.
        None => {
            let token = client.settings().token.as_ref();
            let answer =
                client.get(&Request { url: &url, range: Some((0, 0)), token, ..Request::default() })?;
            let etag =
                answer.linked.etag.or_else(|| answer.headers.get("etag").map(|e| e.trim_matches('"').into()));
            etag.filter(|etag: &String| {
                etag.len() <= 128 && etag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            })
            .ok_or_else(|| HubError::Protocol {
                url: url::shown(&url),
                why: "found no ETag that a file can be named by".into(),
            })?
        }
    };
    let source = Source {
        url,
        token: client.settings().token.as_ref(),
        name: file.path.clone(),
        size: file.size,
        sha256: file.sha256.or_else(|| Sha256::parse(&etag)),
        content: Some(etag.clone()),
    };
    let blob = cache.blob(&etag);
    download::download(client, &source, &blob, &cache.lock(&etag), watch)?;
    cache.link(commit, &file.path, &etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_have_a_user_and_a_name() {
        for good in ["TheBloke/Mistral-7B-Instruct-v0.2-GGUF", "a/b", "a_b/c.d", "0/1"] {
            assert_eq!(Repository::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "", "a", "a/b/c", "/b", "a/", "../b", "a/..", "a/.b", "a--b/c", "a/b c", "a/b\\c", "a/b%2f",
            "é/b",
        ] {
            assert!(Repository::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_quantization_follows_a_colon() {
        let selection = Selection::parse("a/b:q5_k_m").unwrap();
        assert_eq!(
            (selection.repository.as_str(), selection.quantization.as_deref()),
            ("a/b", Some("q5_k_m"))
        );
        assert_eq!(Selection::parse("a/b").unwrap().quantization, None);
        assert_eq!(Selection::parse("a/b:latest").unwrap().quantization, None);
        for bad in ["a/b:", "a/b:../x", "a/b:Q4 K", "b:Q4_K_M"] {
            assert!(Selection::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_listing_is_checked() {
        let sha = "ab".repeat(32);
        let text = format!(
            r#"{{"id":"a/b","sha":"{}","siblings":[
                {{"rfilename":"README.md","size":7,"blobId":"{}"}},
                {{"rfilename":"Q4/m.gguf","size":9,"blobId":"{}","lfs":{{"sha256":"{sha}","size":9,"pointerSize":1}}}},
                {{"rfilename":"bare"}}]}}"#,
            "0".repeat(40),
            "1".repeat(40),
            "2".repeat(40),
        );
        let listing = parse_listing(&text).unwrap();
        assert_eq!(listing.files[0].etag.as_deref(), Some("1".repeat(40).as_str()));
        assert_eq!(listing.files[1].etag.as_deref(), Some(sha.as_str()));
        assert_eq!(listing.files[1].size, Some(9));
        assert_eq!((listing.files[2].size, &listing.files[2].etag), (None, &None));
        for (text, want) in [
            ("<html>", "JSON"),
            ("{}", "\"sha\""),
            (r#"{"sha":"../../../../../../../../../../../../etc/"}"#, "\"sha\""),
            (&text.replace("bare", "../../evil"), "inside the repository"),
            (&text.replace("bare", "/etc/passwd"), "inside the repository"),
            (&text.replace("bare", r"a\\b"), "inside the repository"),
        ] {
            let error = parse_listing(text).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
