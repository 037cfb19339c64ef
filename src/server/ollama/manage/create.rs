//! `/api/create`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bise_models::gguf::GgufFile;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::progress::{Listener, respond};
use super::{Named, own_name, refused};
use crate::hub::modelfile::{Modelfile, set_parameter};
use crate::hub::{Extras, LocalModel, Place, Sha256};
use crate::server::App;
use crate::server::answer::{ApiError, kind};
use crate::server::body::Body;
use crate::server::models::{Catalog, references};

#[derive(Debug, Deserialize)]
struct Request {
    from: Option<String>,
    files: Option<Map<String, Value>>,
    adapters: Option<Map<String, Value>>,
    template: Option<String>,
    license: Option<Value>,
    system: Option<String>,
    parameters: Option<Map<String, Value>>,
    messages: Option<Vec<Message>>,
    quantize: Option<String>,
    quantization: Option<String>,
    /// A whole Modelfile, as clients sent it before the fields.
    modelfile: Option<String>,
    path: Option<String>,
    stream: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    content: String,
}

/// What a model is made from.
enum Base {
    Model(String),
    Blob(Sha256),
}

/// `POST /api/create`: makes a model from another, or from a file that was sent before, with what a Modelfile would say beside.
pub async fn create(State(app): State<Arc<App>>, body: Body) -> Result<Response, ApiError> {
    let named: Named = body.read()?;
    let request: Request = body.read()?;
    let name = own_name(named.name()?)?;
    let streams = request.stream != Some(false);
    let (base, extras) = read(request)?;
    let catalog = app.models.require_router()?.catalog.clone();
    let models = Arc::clone(&app.models);
    respond(streams, move |listener| {
        let base = resolve(&catalog, base, listener)?;
        let mut made = base.extras.clone();
        let takes_template =
            made.extend(extras).map_err(|error| ApiError::invalid(format!("template: {error}")))?;
        if !takes_template {
            let _ = listener.status(
                "the template is in Go's template language, which bise does not speak: the chat template of the GGUF file is used",
            );
        }
        let _ = listener.status("creating model");
        let mut watch = |progress: crate::hub::Progress<'_>| listener.watch(progress);
        catalog.hub.store(&base, &made, &name, &mut watch).map_err(refused)?;
        let _ = listener.status("writing manifest");
        models.refresh();
        Ok(())
    })
    .await
}

/// What a request asks for.
fn read(request: Request) -> Result<(Base, Extras), ApiError> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    if request.adapters.is_some_and(|adapters| !adapters.is_empty()) {
        return Err(ApiError::invalid(
            "adapters: found one, expected none: `bise create` takes them, from the ADAPTER lines of a Modelfile",
        ));
    }
    if let Some(quantization) = given(request.quantize).or(given(request.quantization)) {
        return Err(ApiError::invalid(format!(
            "quantize: found {quantization:?}, expected nothing: a model is served in the quantization of its file"
        )));
    }
    if given(request.path).is_some() {
        return Err(ApiError::invalid(
            "path: found one, expected none: a Modelfile's text goes into \"modelfile\"",
        ));
    }
    let (mut from, mut extras) = (None, Extras::default());
    if let Some(text) = given(request.modelfile) {
        let file = Modelfile::parse(&text).map_err(refused)?;
        if let Some(adapter) = file.adapters.first() {
            return Err(ApiError::invalid(format!(
                "ADAPTER {adapter}: no file of this machine is read for a client: `bise create` takes it from the Modelfile"
            )));
        }
        (from, extras) = (Some(file.from), file.extras);
    }
    from = given(request.from).or(from);
    extras.template = given(request.template).or(extras.template);
    extras.system = given(request.system).or(extras.system);
    match request.license {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => extras.licenses = vec![text],
        Some(Value::Array(texts)) => {
            extras.licenses = texts.iter().map(|text| text_of(text, "license")).collect::<Result<_, _>>()?;
        }
        Some(other) => return Err(ApiError::field("license", kind(&other), "a text or a list of texts")),
    }
    for (name, value) in request.parameters.unwrap_or_default() {
        set(&mut extras.params, &name, &value)?;
    }
    for (i, message) in request.messages.unwrap_or_default().into_iter().enumerate() {
        if !matches!(message.role.as_str(), "system" | "user" | "assistant") {
            let field = format!("messages[{i}].role");
            return Err(ApiError::field(
                &field,
                format_args!("{:?}", message.role),
                "system, user or assistant",
            ));
        }
        extras.messages.push((message.role, message.content));
    }
    let files = request.files.unwrap_or_default();
    let base = match (from, files.len()) {
        (Some(_), 1..) => {
            return Err(ApiError::invalid(
                "from and files: found both, expected one: a model has one file of weights",
            ));
        }
        (Some(from), 0) => {
            // A path would be one of the server's machine.
            let digest = from.strip_prefix('@').and_then(Sha256::parse_prefixed);
            if digest.is_none() && references(&from).is_empty() && from != "builtin" {
                let expected = "the name of a model; a file is sent to /api/blobs and named in \"files\"";
                return Err(ApiError::field("from", format_args!("{from:?}"), expected));
            }
            digest.map_or(Base::Model(from), Base::Blob)
        }
        (None, 1) => {
            let (name, digest) = files.iter().next().expect("there is one");
            let field = format!("files.{name}");
            let digest = text_of(digest, &field)?;
            let parsed = Sha256::parse_prefixed(&digest);
            let expected = "sha256: and 64 hexadecimal digits";
            Base::Blob(parsed.ok_or_else(|| ApiError::field(&field, format_args!("{digest:?}"), expected))?)
        }
        (None, 0) => return Err(ApiError::invalid("neither 'from' or 'files' was specified")),
        (None, n) => {
            return Err(ApiError::field("files", format_args!("{n} files"), "one, a model in GGUF"));
        }
    };
    Ok((base, extras))
}

fn text_of(value: &Value, field: &str) -> Result<String, ApiError> {
    value.as_str().map(str::to_owned).ok_or_else(|| ApiError::field(field, kind(value), "a text"))
}

/// Adds a parameter, whose value may be a number, a text, a truth value or a list of texts.
fn set(params: &mut Map<String, Value>, name: &str, value: &Value) -> Result<(), ApiError> {
    let values = match value {
        Value::Array(values) => values.as_slice(),
        value => std::slice::from_ref(value),
    };
    if params.get(name).is_some_and(Value::is_array) {
        params.remove(name);
    }
    for value in values {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            other => {
                return Err(ApiError::field(
                    &format!("parameters.{name}"),
                    kind(other),
                    "a number or a text",
                ));
            }
        };
        set_parameter(params, name, &text).map_err(|why| ApiError::invalid(format!("parameters: {why}")))?;
    }
    Ok(())
}

/// The model to begin with, downloaded if it is not on this machine.
fn resolve(catalog: &Catalog, base: Base, listener: &mut Listener) -> Result<LocalModel, ApiError> {
    match base {
        Base::Model(name) => {
            if let Some(offer) = catalog.find(&name).map_err(refused)? {
                return Ok(offer.model);
            }
            let missing = || ApiError::not_found(format!("model '{name}' not found"));
            let reference = references(&name).into_iter().next().ok_or_else(missing)?;
            let mut watch = |progress: crate::hub::Progress<'_>| listener.watch(progress);
            catalog.hub.pull(&reference, &mut watch).map_err(refused)
        }
        Base::Blob(digest) => {
            let path = catalog.hub.own_store().blob(&digest);
            let Ok(found) = std::fs::metadata(&path) else {
                return Err(ApiError::not_found(format!(
                    "there is no blob sha256:{digest}: POST /api/blobs/sha256:{digest} sends it"
                )));
            };
            GgufFile::open(&path)
                .map_err(|error| ApiError::invalid(format!("sha256:{digest} is no model: {error}")))?;
            Ok(LocalModel {
                name: format!("sha256:{digest}"),
                files: vec![path.clone()],
                path,
                bytes: found.len(),
                digest: None,
                weights: Some(digest),
                modified: None,
                place: Place::Own,
                extras: Extras::default(),
            })
        }
    }
}
