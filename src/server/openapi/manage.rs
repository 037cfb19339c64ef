//! Ollama's calls that change what is on the disk.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::operation::Operation;
use super::schema::{
    about, any_of, boolean, count, fields, list, object, reference, request, text, whole_object,
};

const TAG: &str = "Ollama";

/// What there is.
pub fn operations() -> Vec<Operation> {
    let lines = "Unless `stream` is false: a JSON object a line, the last with the status `success`. An error is a line with `error`.";
    let only = "For a server without `--model`.";
    let changes = |operation: Operation| operation.about(only).only(|offered| offered.router);
    let tells = |operation: Operation| {
        changes(operation)
            .answers(reference("OllamaProgress"))
            .streams_lines("OllamaProgress", lines)
            .fails(StatusCode::BAD_GATEWAY)
            .fails(StatusCode::INSUFFICIENT_STORAGE)
    };
    let digest = |operation: Operation| {
        operation.part(
            "digest",
            json!({"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}),
            "Its SHA-256.",
        )
    };
    vec![
        tells(Operation::post(&["/api/pull"], TAG, "Downloads a model.").takes("OllamaPullRequest")),
        tells(
            Operation::post(
                &["/api/create"],
                TAG,
                "Makes a model from another, or from a file that was sent before.",
            )
            .takes("OllamaCreateRequest"),
        ),
        changes(
            Operation::post(&["/api/copy"], TAG, "Gives a model another name.").takes("OllamaCopyRequest"),
        )
        .answers_nothing(StatusCode::OK)
        .fails(StatusCode::INSUFFICIENT_STORAGE),
        changes(
            Operation::post(&["/api/delete"], TAG, "Removes a model, and the files that no other needs.")
                .method("delete")
                .takes("OllamaNamed"),
        )
        .answers_nothing(StatusCode::OK),
        Operation::post(&["/api/push"], TAG, "Sends a model to a registry: not supported.")
            .only(|offered| offered.router)
            .takes("OllamaNamed")
            .fails(StatusCode::NOT_IMPLEMENTED),
        digest(changes(
            Operation::get(&["/api/blobs/{digest}"], TAG, "Whether a file is there.").method("head"),
        ))
        .answers_nothing(StatusCode::OK)
        .fails(StatusCode::BAD_REQUEST)
        .fails(StatusCode::NOT_FOUND),
        digest(changes(Operation::get(&["/api/blobs/{digest}"], TAG, "Takes a file.").method("post")))
            .takes_bytes()
            .answers_nothing(StatusCode::OK)
            .answers_nothing(StatusCode::CREATED)
            .fails(StatusCode::BAD_REQUEST)
            .fails(StatusCode::INTERNAL_SERVER_ERROR)
            .fails(StatusCode::INSUFFICIENT_STORAGE),
    ]
}

/// What its requests and responses look like.
pub fn schemas() -> Vec<(&'static str, Value)> {
    let stream = || about(boolean(), "Tells how far it is, a line at a time; the default.");
    let message = whole_object([("role", text()), ("content", text())]);
    vec![
        ("OllamaNamed", request(&["model"], fields([("model", text())]))),
        (
            "OllamaPullRequest",
            request(
                &["model"],
                fields([
                    ("model", text()),
                    ("stream", stream()),
                    ("insecure", about(boolean(), "Lets a registry be asked without encryption.")),
                ]),
            ),
        ),
        (
            "OllamaCreateRequest",
            request(
                &["model"],
                fields([
                    ("model", text()),
                    ("from", about(text(), "The model it begins with.")),
                    (
                        "files",
                        about(
                            json!({"type": "object", "additionalProperties": text()}),
                            "A GGUF file: its name, and the digest of its blob.",
                        ),
                    ),
                    ("template", about(text(), "In Jinja; one in Go's language is left out.")),
                    ("license", any_of([text(), list(text())])),
                    ("system", text()),
                    ("parameters", json!({"type": "object"})),
                    ("messages", list(message)),
                    ("stream", stream()),
                ]),
            ),
        ),
        (
            "OllamaCopyRequest",
            request(&["source", "destination"], fields([("source", text()), ("destination", text())])),
        ),
        (
            "OllamaProgress",
            object(
                &[],
                fields([
                    ("status", text()),
                    ("digest", text()),
                    ("total", count()),
                    ("completed", count()),
                    ("error", text()),
                ]),
            ),
        ),
    ]
}
