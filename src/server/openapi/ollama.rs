//! Ollama's interface.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::common::adapters;
use super::operation::Operation;
use super::schema::{
    Fields, about, any_object, any_of, boolean, count, default, fields, list, number, object, one_of,
    positive, reference, request, text, together, whole, whole_object,
};

const TAG: &str = "Ollama";

/// What there is.
pub fn operations() -> Vec<Operation> {
    let models = |model: &str| whole_object([("models", list(reference(model)))]);
    let lines = "Unless `stream` is false: a JSON object a line; the last one has `done`. An error in a stream is a line with `error`.";
    let unknown = StatusCode::NOT_FOUND;
    vec![
        Operation::get(&["/api/version"], TAG, "The version of Ollama that clients are told.")
            .answers(whole_object([("version", text())])),
        Operation::get(&["/api/tags"], TAG, "Lists the models.").answers(models("OllamaModel")),
        Operation::get(&["/api/ps"], TAG, "Lists the models in memory.").answers(models("OllamaLoadedModel")),
        Operation::post(&["/api/show"], TAG, "Tells about a model.")
            .takes("OllamaShowRequest")
            .answers(reference("OllamaShown"))
            .fails(unknown),
        Operation::post(&["/api/chat"], TAG, "Answers a conversation; without messages, loads the model.")
            .takes("OllamaChatRequest")
            .answers(reference("OllamaChatLine"))
            .streams_lines("OllamaChatLine", lines)
            .fails(unknown),
        Operation::post(&["/api/generate"], TAG, "Answers a prompt; without one, loads the model.")
            .takes("OllamaGenerateRequest")
            .answers(reference("OllamaGenerateLine"))
            .streams_lines("OllamaGenerateLine", lines)
            .fails(unknown),
        Operation::post(&["/api/embed"], TAG, "Turns texts into vectors.")
            .takes("OllamaEmbedRequest")
            .answers(object(
                &["model", "embeddings"],
                fields([
                    ("model", text()),
                    ("embeddings", list(list(number()))),
                    ("total_duration", count()),
                    ("load_duration", count()),
                    ("prompt_eval_count", count()),
                ]),
            ))
            .fails(unknown),
        Operation::post(&["/api/embeddings"], TAG, "Turns a text into a vector.")
            .takes("OllamaEmbeddingRequest")
            .answers(whole_object([("embedding", list(number()))]))
            .fails(unknown),
    ]
}

/// What its requests and responses look like.
pub fn schemas() -> Vec<(&'static str, Value)> {
    let details = || {
        object(
            &["parent_model", "format", "family", "families", "parameter_size", "quantization_level"],
            fields([
                ("parent_model", text()),
                ("format", text()),
                ("family", text()),
                ("families", list(text())),
                ("parameter_size", text()),
                ("quantization_level", text()),
                ("context_length", count()),
                ("embedding_length", count()),
            ]),
        )
    };
    let capabilities = || list(one_of(&["completion", "tools", "insert", "embedding", "thinking"]));
    let name = || json!({"type": "string", "minLength": 1});
    let kept = || {
        let (keep_alive, options) = (reference("OllamaKeepAlive"), reference("OllamaOptions"));
        fields([("keep_alive", keep_alive), ("options", options), adapters()])
    };
    let mut listed = whole_object([
        ("name", text()),
        ("model", text()),
        ("modified_at", text()),
        ("size", count()),
        ("digest", text()),
        ("details", details()),
    ]);
    listed["properties"]["capabilities"] = capabilities();
    let told = || {
        fields([
            ("model", text()),
            ("created_at", text()),
            ("done", boolean()),
            ("done_reason", one_of(&["stop", "length", "load", "unload"])),
            ("logprobs", list(any_object())),
            ("total_duration", count()),
            ("load_duration", count()),
            ("prompt_eval_count", count()),
            ("prompt_eval_duration", count()),
            ("eval_count", count()),
            ("eval_duration", count()),
        ])
    };
    let call = || {
        let function = object(
            &["name", "arguments"],
            fields([("index", count()), ("name", text()), ("arguments", any_object())]),
        );
        object(&["function"], fields([("id", text()), ("function", function)]))
    };
    let said = || fields([("thinking", text()), ("tool_calls", list(call()))]);
    let message = object(
        &["role", "content"],
        together([fields([("role", one_of(&["assistant"])), ("content", text())]), said()]),
    );
    vec![
        ("OllamaError", whole_object([("error", text())])),
        (
            "OllamaKeepAlive",
            about(
                any_of([number(), json!({"type": "string", "pattern": "^-?[0-9]{1,6}(ms|s|m|h)$"})]),
                "How long the model stays in memory: seconds, or a duration such as `5m`; negative is for ever.",
            ),
        ),
        ("OllamaOptions", request(&[], ollama_options())),
        ("OllamaMessage", ollama_message()),
        ("OllamaChatRequest", {
            let own =
                fields([("messages", list(reference("OllamaMessage"))), ("tools", list(reference("Tool")))]);
            request(&["model"], together([fields([("model", name())]), own, kept(), generation()]))
        }),
        ("OllamaGenerateRequest", {
            let own = fields([
                ("prompt", text()),
                ("suffix", about(text(), "What comes behind the gap that is filled; for models that can.")),
                ("system", text()),
                ("template", about(json!({"const": ""}), "The chat template is the model file's.")),
                ("context", about(list(whole(0, u32::MAX.into())), "Tokens of the conversation so far.")),
                ("raw", boolean()),
                ("images", about(json!({"type": "array", "maxItems": 0}), "Models read text only.")),
            ]);
            request(&["model"], together([fields([("model", name())]), own, kept(), generation()]))
        }),
        (
            "OllamaChatLine",
            object(&["model", "created_at"], together([told(), fields([("message", message)])])),
        ),
        (
            "OllamaGenerateLine",
            object(
                &["model", "created_at"],
                together([told(), said(), fields([("response", text()), ("context", list(count()))])]),
            ),
        ),
        ("OllamaEmbedRequest", {
            let own = fields([
                ("model", name()),
                ("input", any_of([text(), list(text())])),
                (
                    "truncate",
                    about(boolean(), "Whether what is too long loses its end, rather than be an error."),
                ),
                ("dimensions", about(whole(0, u32::MAX.into()), "Numbers that are kept of each vector.")),
            ]);
            request(&["model"], together([own, kept()]))
        }),
        ("OllamaEmbeddingRequest", {
            let own = fields([("model", name()), ("prompt", text()), ("truncate", boolean())]);
            request(&["model"], together([own, kept()]))
        }),
        ("OllamaShowRequest", {
            let own = fields([
                ("model", name()),
                ("name", about(name(), "In place of `model`.")),
                ("verbose", about(boolean(), "Tells long arrays of the metadata as well.")),
            ]);
            let mut show = request(&[], own);
            show["anyOf"] = json!([
                {"required": ["model"], "properties": {"model": {"type": "string"}}},
                {"required": ["name"], "properties": {"name": {"type": "string"}}},
            ]);
            show
        }),
        ("OllamaModel", listed),
        (
            "OllamaLoadedModel",
            whole_object([
                ("name", text()),
                ("model", text()),
                ("size", count()),
                ("digest", text()),
                ("details", details()),
                ("expires_at", text()),
                ("size_vram", count()),
                ("context_length", count()),
            ]),
        ),
        ("OllamaShown", {
            let mut shown = whole_object([
                ("modelfile", text()),
                ("parameters", text()),
                ("template", text()),
                ("details", details()),
                ("model_info", any_object()),
                ("capabilities", capabilities()),
                ("modified_at", text()),
            ]);
            shown["properties"]["license"] = text();
            shown["properties"]["system"] = text();
            shown
        }),
    ]
}

/// What chats and prompts have in common.
fn generation() -> Fields {
    let level = one_of(&["low", "medium", "high", "max"]);
    fields([
        ("stream", default(boolean(), true)),
        ("format", about(any_of([one_of(&["", "json"]), any_object()]), "`json`, or a JSON schema.")),
        ("think", any_of([boolean(), level])),
        ("truncate", about(boolean(), "Whether a chat that is too long loses its oldest messages.")),
        ("shift", about(json!({"const": false}), "Nothing is left out of a context that is full.")),
        ("logprobs", boolean()),
        ("top_logprobs", whole(0, 20)),
        ("_debug_render_only", about(boolean(), "Tells the prompt in place of an answer.")),
    ])
}

fn ollama_message() -> Value {
    let function =
        request(&["name"], fields([("name", text()), ("arguments", any_of([any_object(), text()]))]));
    request(
        &["role"],
        fields([
            ("role", one_of(&["system", "user", "assistant", "tool"])),
            ("content", text()),
            ("thinking", text()),
            ("images", about(json!({"type": "array", "maxItems": 0}), "Models read text only.")),
            ("tool_calls", list(request(&["function"], fields([("id", text()), ("function", function)])))),
            ("tool_name", text()),
            ("tool_call_id", text()),
        ]),
    )
}

fn ollama_options() -> Fields {
    let last_n = || whole(-1, i32::MAX.into());
    fields([
        ("temperature", default(number(), 0.8)),
        ("top_k", default(whole(i32::MIN.into(), i32::MAX.into()), 40)),
        ("top_p", default(number(), 0.9)),
        ("min_p", default(number(), 0.0)),
        ("typical_p", number()),
        ("repeat_last_n", default(last_n(), 64)),
        ("repeat_penalty", default(positive(), 1.0)),
        ("presence_penalty", number()),
        ("frequency_penalty", number()),
        ("mirostat", whole(0, 2)),
        ("mirostat_tau", number()),
        ("mirostat_eta", number()),
        ("seed", about(whole(i64::MIN, i64::MAX), "-1 is a random one. The lower 32 bits of others count.")),
        ("num_predict", about(whole(-2, i64::MAX), "Tokens of the answer at most; -1 is no limit.")),
        ("num_ctx", about(whole(-1, i64::MAX), "Beyond the server's own context it changes nothing.")),
        ("stop", any_of([text(), list(text())])),
    ])
}
