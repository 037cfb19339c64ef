//! Downloads one file: several ranges at a time, going on where an earlier attempt ended, checked by size and SHA-256.

mod disk;
mod lock;
mod part;
mod ranges;
mod transfer;

use std::fs;
use std::path::{Path, PathBuf};

use super::digest::Sha256;
use super::error::HubError;
use super::http::Client;
use super::progress::{Progress, Watch};
use super::settings::Token;
use super::url;
use part::Part;

pub use disk::free_bytes;
pub use lock::Lock;
pub use part::beside;

/// How often a download begins anew because the file changed under it.
const MAX_CHANGES: usize = 3;

/// A file to be downloaded.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    pub url: String,
    pub token: Option<&'a Token>,
    /// Its name in messages.
    pub name: String,
    pub size: Option<u64>,
    pub sha256: Option<Sha256>,
    /// The hub's name for its content; what an earlier attempt left of another content is not used.
    pub content: Option<String>,
}

/// Downloads `source` to `to`, unless it is there. Processes that hold the same `lock` take turns.
///
/// # Errors
/// The network, the server, the disk, a wrong digest, or `watch`. What has arrived is kept wherever it may be right.
pub fn download(
    client: &Client,
    source: &Source<'_>,
    to: &Path,
    lock: &Path,
    watch: &mut Watch<'_>,
) -> Result<(), HubError> {
    if is_there(to, source) {
        return Ok(());
    }
    if client.settings().offline {
        return Err(HubError::Offline { what: source.name.clone() });
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|error| HubError::io(folder, error))?;
    }
    let _lock = Lock::acquire(lock, &source.name, watch)?;
    if is_there(to, source) {
        return Ok(());
    }
    let mut changes = 0;
    let mut sha256_failed = false;
    loop {
        let mut part = Part::open(to, source.content.as_deref(), source.size)?;
        let resumed = part.state.done.bytes() > 0;
        match transfer::transfer(client, source, &mut part, watch) {
            Ok(()) => {}
            Err(HubError::Changed { .. }) if changes < MAX_CHANGES => {
                changes += 1;
                part.restart()?;
                continue;
            }
            Err(error) => {
                // Nothing to go on from.
                if part.state.done.bytes() == 0 {
                    part.remove();
                }
                return Err(error);
            }
        }
        let bytes = part.len();
        if let Some(expected) = source.sha256 {
            let found = Sha256::of_file(&part.path, |done| {
                watch(Progress::Checking { file: &source.name, done, total: bytes })
            });
            let found = found.map_err(|error| HubError::io(&part.path, error))?;
            let found = found.ok_or(HubError::Cancelled)?;
            if found != expected {
                part.remove();
                // The wrong bytes may be those of an earlier attempt.
                if resumed && !sha256_failed {
                    sha256_failed = true;
                    let text = "the bytes of an earlier attempt were wrong: the download begins anew";
                    if watch(Progress::Note { text }).is_break() {
                        return Err(HubError::Cancelled);
                    }
                    continue;
                }
                let consequence = "what arrived was removed";
                return Err(HubError::Checksum { path: to.into(), found, expected, consequence });
            }
        }
        part.finish(to)?;
        let _ = watch(Progress::Done { file: &source.name, bytes });
        return Ok(());
    }
}

fn is_there(to: &Path, source: &Source<'_>) -> bool {
    fs::metadata(to).is_ok_and(|found| found.is_file() && source.size.is_none_or(|size| size == found.len()))
}

/// Where the file of a URL lies once it is downloaded: in `folder`, under the name it has there, after a digest of the URL.
///
/// # Errors
/// A URL that names no file.
pub fn path_of_url(url: &str, folder: &Path) -> Result<PathBuf, HubError> {
    let shown = url::shown(url);
    match file_name(&shown) {
        Some(name) => Ok(folder.join(format!("{}-{name}", Sha256::of(url.as_bytes()).short()))),
        None => Err(HubError::Protocol {
            url: shown.clone(),
            why: "found no name of a file at its end, expected something like …/model.gguf".into(),
        }),
    }
}

fn file_name(shown: &str) -> Option<&str> {
    let (_, name) = shown.split_once("://")?.1.rsplit_once('/')?;
    let plain = !matches!(name, "" | "." | "..") && !name.contains(['\\', ':', '\0']) && name.len() <= 180;
    plain.then_some(name)
}

/// Downloads the file of a URL into `folder`, and says where it is. A file that is there already is not asked for again.
///
/// # Errors
/// As [`download`] and [`path_of_url`].
pub fn download_url(
    client: &Client,
    url: &str,
    folder: &Path,
    watch: &mut Watch<'_>,
) -> Result<PathBuf, HubError> {
    let to = path_of_url(url, folder)?;
    download_url_to(client, url, &to, watch)?;
    Ok(to)
}

/// Downloads the file of a URL to `to`, unless that is there.
///
/// # Errors
/// As [`download`].
pub fn download_url_to(client: &Client, url: &str, to: &Path, watch: &mut Watch<'_>) -> Result<(), HubError> {
    let settings = client.settings();
    let is_hub = url::origin(url) == url::origin(&settings.endpoint);
    let shown = url::shown(url);
    let source = Source {
        url: url.to_string(),
        token: settings.token.as_ref().filter(|_| is_hub),
        name: file_name(&shown).unwrap_or(&shown).to_string(),
        size: None,
        sha256: None,
        content: None,
    };
    download(client, &source, to, &beside(to, ".lock"), watch)
}
