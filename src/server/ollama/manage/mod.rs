//! Ollama's calls that change what is on the disk: models are pulled, made, copied and removed.

mod blobs;
mod create;
mod progress;
mod pull;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, head, post};
use serde::Deserialize;

use super::request::named;
use crate::hub::ollama::name::ModelName;
use crate::hub::{HubError, Place, Reference};
use crate::server::App;
use crate::server::answer::{ApiError, blocking};
use crate::server::body::Body;
use crate::server::models::references;

/// The endpoints.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/pull", post(pull::pull))
        .route("/api/push", post(push))
        .route("/api/create", post(create::create))
        .route("/api/copy", post(copy))
        .route("/api/delete", delete(remove))
        .route("/api/blobs/{digest}", head(blobs::is_there).post(blobs::receive))
}

/// `POST /api/push`: nothing is sent anywhere.
async fn push(body: Body) -> Result<(), ApiError> {
    let request: Named = body.read()?;
    let name = request.name()?;
    Err(ApiError::not_supported(format!(
        "{name}: models are not pushed: this server has no registry to send them to"
    )))
}

#[derive(Debug, Deserialize)]
struct Named {
    model: Option<String>,
    name: Option<String>,
}

impl Named {
    /// The model, under either of the names that the field has had.
    fn name(&self) -> Result<&str, ApiError> {
        named(self.model.as_deref().filter(|name| !name.is_empty()).or(self.name.as_deref()))
    }
}

#[derive(Debug, Deserialize)]
struct Copy {
    source: Option<String>,
    destination: Option<String>,
}

/// `POST /api/copy`: gives a model another name.
async fn copy(State(app): State<Arc<App>>, body: Body) -> Result<(), ApiError> {
    let request: Copy = body.read()?;
    let given = |name: Option<String>, field: &str| {
        let given = name.filter(|name| !name.is_empty());
        given.ok_or_else(|| ApiError::field(field, "nothing", "the name of a model"))
    };
    let source = given(request.source, "source")?;
    let destination = own_name(&given(request.destination, "destination")?)?;
    let catalog = app.models.require_router()?.catalog.clone();
    let models = Arc::clone(&app.models);
    blocking(move || {
        let found = catalog.find(&source).map_err(refused)?;
        let offer = found.ok_or_else(|| ApiError::not_found(format!("model '{source}' not found")))?;
        let mut watch = |_: crate::hub::Progress<'_>| std::ops::ControlFlow::Continue(());
        catalog.hub.store(&offer.model, &offer.model.extras, &destination, &mut watch).map_err(refused)?;
        models.refresh();
        Ok(())
    })
    .await
}

/// `DELETE /api/delete`: removes a model, and the files that no other needs.
async fn remove(State(app): State<Arc<App>>, body: Body) -> Result<(), ApiError> {
    let request: Named = body.read()?;
    let name = request.name()?.to_owned();
    let catalog = app.models.require_router()?.catalog.clone();
    let models = Arc::clone(&app.models);
    blocking(move || {
        let missing = || ApiError::not_found(format!("model '{name}' not found"));
        let offer = catalog.find(&name).map_err(refused)?.ok_or_else(missing)?;
        if !offer.is_removable() {
            let why = match offer.model.place {
                Place::Builtin => "it is a part of the program",
                Place::Ollama => "it belongs to Ollama, which removes it with `ollama rm`",
                _ => "it is a file of yours (--models-dir, --models-preset): remove it yourself",
            };
            return Err(ApiError::invalid(format!("model '{name}' is not removed: {why}")));
        }
        let reference =
            references(&offer.model.name).into_iter().next().unwrap_or(Reference::File(offer.model.path));
        match reference {
            // What came from a URL has no name by which it could be found again.
            Reference::File(path) => {
                std::fs::remove_file(&path)
                    .map_err(|error| ApiError::internal(format!("model '{name}': {error}")))?;
            }
            reference => catalog.hub.remove(&reference).map_err(refused)?,
        }
        models.refresh();
        Ok(())
    })
    .await
}

/// A name that a model of our own may have.
fn own_name(name: &str) -> Result<ModelName, ApiError> {
    let parsed = ModelName::parse(name).map_err(refused)?;
    let text = parsed.to_string();
    if name.contains("://") || name.starts_with("hf.co/") || text == "builtin:latest" {
        return Err(ApiError::invalid(format!("{name:?} is not a name that a model can be given here")));
    }
    Ok(parsed)
}

/// What the hub refuses, as an error of this interface.
fn refused(error: HubError) -> ApiError {
    let message = error.to_string();
    match error {
        HubError::NotFound { .. } => ApiError::not_found(message),
        HubError::InvalidName { .. } | HubError::Unsupported { .. } | HubError::Modelfile { .. } => {
            ApiError::invalid(message)
        }
        HubError::NoRoom { .. } => {
            ApiError { status: StatusCode::INSUFFICIENT_STORAGE, ..ApiError::internal(message) }
        }
        HubError::Network { .. }
        | HubError::Status { .. }
        | HubError::Protocol { .. }
        | HubError::Offline { .. } => {
            ApiError { status: StatusCode::BAD_GATEWAY, ..ApiError::internal(message) }
        }
        _ => ApiError::internal(message),
    }
}
