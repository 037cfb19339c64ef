//! Models from a registry that speaks Ollama's protocol.

use super::manifest::{ACCEPT, Manifest};
use super::name::ModelName;
use super::store::Store;
use crate::hub::download::{self, Source, beside};
use crate::hub::error::HubError;
use crate::hub::http::{Client, Request};
use crate::hub::progress::{Progress, Watch};
use crate::hub::url;

/// Downloads a model into a store: its blobs, and then its name.
///
/// # Errors
/// The network, the registry, the disk, a wrong digest.
pub fn pull(client: &Client, name: &ModelName, store: &Store, watch: &mut Watch<'_>) -> Result<(), HubError> {
    if watch(Progress::Listing { name: &name.to_string() }).is_break() {
        return Err(HubError::Cancelled);
    }
    if client.settings().offline {
        return Err(HubError::Offline { what: name.to_string() });
    }
    let url = name.url(&format!("manifests/{}", name.tag));
    let text = client.text(&Request { url: &url, accept: Some(ACCEPT), ..Request::default() }, 1 << 20);
    let text = text.map_err(|error| match error {
        HubError::Status { status: 404, .. } => HubError::NotFound {
            name: name.to_string(),
            advice: format!(
                ": it is not in the table of names (`bise pull --help`), and {} has no such model (models of Hugging Face: \
                 hf.co/USER/REPOSITORY)",
                name.host
            ),
        },
        error => error,
    })?;
    let manifest = Manifest::parse(&text).map_err(|why| HubError::Protocol { url: url::shown(&url), why })?;
    for layer in manifest.blobs() {
        let digest = format!("sha256:{}", layer.digest);
        let source = Source {
            url: name.url(&format!("blobs/{digest}")),
            token: None,
            name: layer.digest.short(),
            size: Some(layer.size),
            sha256: Some(layer.digest),
            content: Some(digest),
        };
        let blob = store.blob(&layer.digest);
        download::download(client, &source, &blob, &beside(&blob, ".lock"), watch)?;
    }
    store.set_manifest(name, &text)
}
