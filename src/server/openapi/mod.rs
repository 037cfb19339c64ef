//! `/openapi.json`: every route of the server, in OpenAPI 3.1.
//!
//! It is written by hand rather than derived from types: one body is read in parts by several of them (a sampler's parameters, what a stream
//! shows, what an interface has of its own), numbers and texts have readers of their own, and responses have no types. Tests compare
//! it with the routes and with what they answer.

mod anthropic;
mod common;
mod llama;
mod manage;
mod ollama;
mod openai;
mod operation;
mod responses;
mod schema;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use self::operation::{Offered, Operation};
use super::App;
use super::access::is_public;

/// `/openapi.json`.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/openapi.json", get(show))
}

async fn show(State(app): State<Arc<App>>) -> Json<Value> {
    let options = &app.options;
    // What is not known yet may be there.
    let infill = app.models.entries().iter().any(|entry| entry.facts().is_none_or(|facts| facts.infills));
    Json(document(&Offered {
        prefix: &options.prefix,
        keys: !options.api_keys.is_empty(),
        slots: options.slots,
        metrics: options.metrics,
        props: options.props,
        page: options.page,
        router: app.models.router().is_some(),
        infill,
    }))
}

/// The description of a server.
fn document(offered: &Offered) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in
        operations().iter().filter(|operation| operation.wanted.is_none_or(|wanted| wanted(offered)))
    {
        for path in operation.paths {
            let object = described(operation, path, offered.keys);
            let at = paths.entry(*path).or_insert_with(|| json!({}));
            at[operation.method] = object;
        }
    }
    let schemas = [
        common::schemas,
        openai::schemas,
        responses::schemas,
        llama::schemas,
        ollama::schemas,
        manage::schemas,
        anthropic::schemas,
    ];
    let mut schemas: Map<String, Value> =
        schemas.into_iter().flat_map(|of| of()).map(|(name, schema)| (name.to_owned(), schema)).collect();
    if !offered.infill {
        for name in ["CompletionRequest", "OllamaGenerateRequest"] {
            schemas[name]["properties"].as_object_mut().expect("an object").remove("suffix");
        }
    }
    let prefix = offered.prefix;
    let server = if prefix.is_empty() { "/" } else { prefix };
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "bise",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Mistral models on a CPU, in the interfaces of OpenAI, llama-server, Ollama and Anthropic.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": env!("CARGO_PKG_LICENSE")},
        },
        "servers": [{"url": server}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
    })
}

fn operations() -> Vec<Operation> {
    let all = [
        openai::operations,
        responses::operations,
        anthropic::operations,
        ollama::operations,
        manage::operations,
        llama::operations,
        llama::root,
    ];
    all.into_iter().flat_map(|of| of()).collect()
}

fn described(operation: &Operation, path: &str, has_keys: bool) -> Value {
    let id: String = path
        .chars()
        .filter(|c| !"{}".contains(*c))
        .map(|c| if c.is_alphanumeric() { c } else { '_' })
        .collect();
    let wants_key = has_keys && !is_public(path);
    let mut object = if wants_key {
        let mut object = operation.clone().fails(StatusCode::UNAUTHORIZED).object;
        object["security"] = json!([{"bearer": []}, {"x-api-key": []}]);
        object
    } else {
        operation.object.clone()
    };
    object["operationId"] = format!("{}{id}", operation.method).into();
    object
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const EVERYTHING: Offered = Offered {
        prefix: "",
        keys: false,
        slots: true,
        metrics: true,
        props: true,
        page: true,
        router: true,
        infill: true,
    };

    /// What axum writes of a router has its paths: `RouteId(3): "/health"`.
    fn paths_of(router: &Router<Arc<App>>) -> BTreeSet<String> {
        let written = format!("{router:?}");
        let paths = written.split("RouteId(").filter_map(|part| {
            let path = part.split_once("): \"")?.1.split('"').next()?;
            Some(path.replace("{*", "{"))
        });
        // Where a router of routers sends what it does not know.
        paths.filter(|path| !path.contains("__private")).collect()
    }

    #[test]
    fn every_route_is_described_and_every_description_has_a_route() {
        let routes = paths_of(&crate::server::routes(true));
        assert!(routes.contains("/v1/chat/completions") && routes.contains("/ui/{name}"), "{routes:?}");
        let document = document(&EVERYTHING);
        let described: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(described, routes);
    }

    #[test]
    fn what_a_server_has_not_is_not_described() {
        let nothing = Offered {
            slots: false,
            metrics: false,
            props: false,
            page: false,
            router: false,
            infill: false,
            ..EVERYTHING
        };
        let document = document(&nothing);
        for path in ["/slots", "/metrics", "/infill", "/models/load", "/ui/{name}"] {
            assert!(document["paths"].get(path).is_none(), "{path}");
        }
        assert!(
            document["paths"]["/props"].get("post").is_none()
                && document["paths"]["/props"]["get"].is_object()
        );
        let fields = |name: &str| document["components"]["schemas"][name]["properties"].clone();
        assert!(
            fields("CompletionRequest").get("suffix").is_none()
                && fields("CompletionRequest")["prompt"].is_object()
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(fields) => {
                    if let Some(name) = fields.get("$ref").and_then(Value::as_str) {
                        found.insert(name.strip_prefix("#/components/schemas/").unwrap().to_owned());
                    }
                    fields.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document(&EVERYTHING);
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert_eq!(found, schemas.keys().cloned().collect());
    }

    #[test]
    fn keys_are_asked_for_where_they_are_needed() {
        let open = document(&EVERYTHING);
        assert!(open["paths"]["/completion"]["post"].get("security").is_none());
        let locked = document(&Offered { prefix: "/api", keys: true, ..EVERYTHING });
        assert_eq!(locked["servers"][0]["url"], "/api");
        let (health, completion) =
            (&locked["paths"]["/health"]["get"], &locked["paths"]["/completion"]["post"]);
        assert!(health.get("security").is_none() && health["responses"].get("401").is_none());
        assert!(completion["security"].is_array() && completion["responses"]["401"].is_object());
        assert_eq!(completion["operationId"], "post_completion");
    }
}
