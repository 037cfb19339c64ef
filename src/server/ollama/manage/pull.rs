//! `/api/pull`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use super::progress::respond;
use super::refused;
use crate::hub::Reference;
use crate::hub::ollama::name::ModelName;
use crate::server::App;
use crate::server::answer::ApiError;
use crate::server::body::Body;
use crate::server::models::references;

#[derive(Debug, Deserialize)]
struct Request {
    insecure: Option<bool>,
    stream: Option<bool>,
}

/// `POST /api/pull`: downloads a model. A client that goes away ends it, and what has arrived is kept.
pub async fn pull(State(app): State<Arc<App>>, body: Body) -> Result<Response, ApiError> {
    let named: super::Named = body.read()?;
    let request: Request = body.read()?;
    let name = named.name()?.to_owned();
    let reference = source(&name, request.insecure == Some(true))?;
    let catalog = app.models.require_router()?.catalog.clone();
    let models = Arc::clone(&app.models);
    respond(request.stream != Some(false), move |listener| {
        let mut watch = |progress: crate::hub::Progress<'_>| listener.watch(progress);
        catalog.hub.pull(&reference, &mut watch).map_err(refused)?;
        models.refresh();
        Ok(())
    })
    .await
}

/// What a name is pulled from: never a file, and without encryption only where the request says so.
fn source(name: &str, insecure: bool) -> Result<Reference, ApiError> {
    let invalid = || ApiError::invalid(format!("{name:?} is not the name of a model that can be pulled"));
    if name.starts_with("http://") {
        if !insecure {
            let why =
                "expected https, or \"insecure\": true, which lets a registry be asked without encryption";
            return Err(ApiError::invalid(format!("model: found {name:?}, {why}")));
        }
        return ModelName::parse(name).map(Reference::Name).map_err(refused);
    }
    let rest = name.strip_prefix("https://");
    let reference = references(rest.unwrap_or(name)).into_iter().next().ok_or_else(invalid)?;
    match (rest, &reference) {
        // The address of a file, or of a page.
        (Some(rest), Reference::Name(_)) if rest.matches('/').count() < 2 => Err(invalid()),
        _ => Ok(reference),
    }
}
