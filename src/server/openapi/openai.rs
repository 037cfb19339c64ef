//! OpenAI's interface: chats, completions, embeddings, models.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::common::{adapters, model, options, prompt, sampling, streaming};
use super::operation::Operation;
use super::schema::{
    Fields, about, any_object, any_of, boolean, count, default, fields, list, number, object, one_of,
    or_null, reference, request, text, together, whole, whole_object,
};

const TAG: &str = "OpenAI";

/// What there is.
pub fn operations() -> Vec<Operation> {
    let counts = || reference("InputTokens");
    vec![
        Operation::post(&["/v1/chat/completions", "/chat/completions"], TAG, "Answers a conversation.")
            .takes("ChatCompletionRequest")
            .answers(reference("ChatCompletion"))
            .streams_events_until_done("ChatCompletionChunk",
                "With `stream`: the data of each event is a chunk, the last one `[DONE]`. An error in a stream is an event whose data is \
                 an `Error`.",
            ),
        Operation::post(
            &["/v1/chat/completions/input_tokens", "/chat/completions/input_tokens"],
            TAG,
            "Counts the tokens of a conversation.",
        )
        .takes("ConversationRequest")
        .answers(counts()),
        Operation::post(&["/v1/completions"], TAG, "Continues texts.")
            .takes("CompletionRequest")
            .answers(reference("Completion"))
            .streams_events_until_done("CompletionChunk",
                "With `stream`: the data of each event is a chunk, the last one `[DONE]`. An error in a stream is an event whose data is \
                 an `Error`.",
            ),
        Operation::post(&["/v1/embeddings"], TAG, "Turns texts into vectors.")
            .takes("EmbeddingRequest")
            .answers(reference("EmbeddingList")),
        Operation::get(&["/v1/models", "/models"], TAG, "Lists the models.")
            .about("With the header `anthropic-version`, in Anthropic's form, a page of `limit` at a time.")
            .query("limit", json!({}), "Models of a page.")
            .query("after_id", text(), "The page begins behind this model.")
            .query("before_id", text(), "The page ends before this model.")
            .answers(any_of([reference("ModelList"), reference("AnthropicModelList")]))
            .fails(StatusCode::BAD_REQUEST),
        Operation::get(&["/v1/models/{name}"], TAG, "Tells about a model.")
            .part("name", json!({"type": "string", "minLength": 1}), "A name of it, which may have slashes.")
            .answers(any_of([reference("Model"), reference("AnthropicModel")]))
            .fails(StatusCode::BAD_REQUEST)
            .fails(StatusCode::NOT_FOUND),
    ]
}

/// What its requests and responses look like.
pub fn schemas() -> Vec<(&'static str, Value)> {
    let finish = || or_null(one_of(&["stop", "length", "tool_calls"]));
    let head = |kind: &str| {
        fields([
            ("id", text()),
            ("object", one_of(&[kind])),
            ("created", count()),
            ("model", text()),
            ("system_fingerprint", text()),
        ])
    };
    let head_names = ["id", "object", "created", "model", "system_fingerprint", "choices"];
    let usage = || fields([("usage", reference("Usage")), ("timings", reference("Timings"))]);
    let log_probs = || object(&["content"], fields([("content", list(reference("LogProb")))]));
    let response = |kind: &str, choice: Value, whole: bool| {
        let mut required = head_names.to_vec();
        if whole {
            required.extend(["usage", "timings"]);
        }
        let progress = fields([("prompt_progress", reference("PromptProgress"))]);
        let choices = fields([("choices", list(choice))]);
        object(&required, together([head(kind), choices, usage(), if whole { fields([]) } else { progress }]))
    };
    let chunk_call = object(
        &["index", "function"],
        fields([
            ("index", count()),
            ("id", text()),
            ("type", one_of(&["function"])),
            ("function", object(&["arguments"], fields([("name", text()), ("arguments", text())]))),
        ]),
    );
    let delta = object(
        &[],
        fields([
            ("role", one_of(&["assistant"])),
            ("content", or_null(text())),
            ("reasoning_content", text()),
            ("tool_calls", list(chunk_call)),
        ]),
    );
    let text_log_probs = object(
        &["tokens", "token_logprobs", "top_logprobs", "text_offset"],
        fields([
            ("tokens", list(text())),
            ("token_logprobs", list(or_null(number()))),
            ("top_logprobs", list(or_null(json!({"type": "object", "additionalProperties": number()})))),
            ("text_offset", list(count())),
            ("content", list(reference("LogProb"))),
        ]),
    );
    let text_choice = || {
        whole_object([
            ("text", text()),
            ("index", count()),
            ("logprobs", or_null(text_log_probs.clone())),
            ("finish_reason", finish()),
        ])
    };
    let message = object(
        &["role", "content"],
        fields([
            ("role", one_of(&["assistant"])),
            ("content", or_null(text())),
            ("reasoning_content", text()),
            ("tool_calls", list(reference("ToolCall"))),
        ]),
    );
    vec![
        ("ConversationRequest", request(&["messages"], conversation())),
        ("ChatCompletionRequest", request(&["messages"], together([conversation(), streaming()]))),
        ("ChatMessage", chat_message()),
        (
            "ToolCall",
            request(
                &["function"],
                fields([
                    ("id", text()),
                    ("type", text()),
                    (
                        "function",
                        request(
                            &["name"],
                            fields([("name", text()), ("arguments", any_of([text(), any_object()]))]),
                        ),
                    ),
                ]),
            ),
        ),
        (
            "ChatCompletion",
            response(
                "chat.completion",
                object(
                    &["index", "message", "finish_reason"],
                    fields([
                        ("index", count()),
                        ("message", message),
                        ("finish_reason", finish()),
                        ("logprobs", log_probs()),
                    ]),
                ),
                true,
            ),
        ),
        (
            "ChatCompletionChunk",
            response(
                "chat.completion.chunk",
                object(
                    &["index", "delta", "finish_reason"],
                    fields([
                        ("index", count()),
                        ("delta", delta),
                        ("finish_reason", finish()),
                        ("logprobs", log_probs()),
                    ]),
                ),
                false,
            ),
        ),
        ("CompletionRequest", completion_request()),
        ("Completion", response("text_completion", text_choice(), true)),
        ("CompletionChunk", response("text_completion", text_choice(), false)),
        (
            "InputTokens",
            whole_object([("object", one_of(&["response.input_tokens"])), ("input_tokens", count())]),
        ),
        (
            "EmbeddingRequest",
            request(
                &["input"],
                together([
                    model(),
                    fields([
                        ("input", prompt()),
                        adapters(),
                        ("encoding_format", default(one_of(&["float", "base64"]), "float")),
                        (
                            "dimensions",
                            about(whole(1, u32::MAX.into()), "The model's own alone: vectors are not cut."),
                        ),
                    ]),
                ]),
            ),
        ),
        ("EmbeddingList", {
            let vector = about(any_of([list(number()), text()]), "Numbers, or their bytes in base64.");
            let one =
                whole_object([("object", one_of(&["embedding"])), ("index", count()), ("embedding", vector)]);
            let usage = whole_object([("prompt_tokens", count()), ("total_tokens", count())]);
            whole_object([
                ("object", one_of(&["list"])),
                ("model", text()),
                ("data", list(one)),
                ("usage", usage),
            ])
        }),
        ("Model", {
            let mut model = whole_object([
                ("id", text()),
                ("object", one_of(&["model"])),
                ("created", count()),
                ("owned_by", text()),
                ("aliases", list(text())),
                ("tags", list(text())),
                ("status", object(&["value"], fields([("value", text())]))),
            ]);
            model["properties"]["capabilities"] = list(text());
            model["properties"]["meta"] = or_null(any_object());
            model["properties"]["source"] = text();
            model["properties"]["parent"] = about(text(), "Of an adapter: the model that it is for.");
            model["properties"]["root"] = about(text(), "Of an adapter: its path.");
            model["properties"]["can_remove"] = boolean();
            model
        }),
        ("ModelList", whole_object([("object", one_of(&["list"])), ("data", list(reference("Model")))])),
    ]
}

/// What a conversation says, but for how its answer is sent.
fn conversation() -> Fields {
    let choice = any_of([
        one_of(&["auto", "none", "required", "any"]),
        request(&["function"], fields([("function", request(&["name"], fields([("name", text())])))])),
        request(&["name"], fields([("name", text())])),
    ]);
    let own = fields([
        ("messages", json!({"type": "array", "items": reference("ChatMessage"), "minItems": 1})),
        ("tools", list(reference("Tool"))),
        ("tool_choice", about(choice, "Whether tools are called: enforced by a grammar.")),
        ("parallel_tool_calls", default(boolean(), true)),
        ("n", default(whole(1, 128), 1)),
        ("logprobs", boolean()),
        ("top_logprobs", about(whole(0, 1024), "Needs `logprobs`.")),
        ("chat_template_kwargs", about(any_object(), "More variables for the chat template.")),
        ("enable_thinking", boolean()),
        ("reasoning_format", about(text(), "`none` leaves thoughts in the content.")),
        ("add_generation_prompt", boolean()),
        (
            "continue_final_message",
            about(boolean(), "Whether the last message, the assistant's, is continued."),
        ),
        ("verbose", about(boolean(), "Tells the prompt as the model saw it, under `__verbose`.")),
    ]);
    together([model(), own, options(), sampling()])
}

fn chat_message() -> Value {
    let part = || {
        let kinds = one_of(&["text", "input_text", "output_text"]);
        request(&["text"], fields([("type", kinds), ("text", text())]))
    };
    let content = || any_of([text(), list(part())]);
    let said = |roles: &[&str]| {
        let more = fields([("name", text()), ("tool_call_id", text())]);
        request(
            &["role", "content"],
            together([fields([("role", one_of(roles)), ("content", content())]), more]),
        )
    };
    let calls = json!({"type": "array", "items": reference("ToolCall"), "minItems": 1});
    let role = || ("role", one_of(&["assistant"]));
    json!({"anyOf": [
        said(&["system", "developer", "user", "tool"]),
        request(&["role", "content"], fields([role(), ("content", content()), ("reasoning_content", text())])),
        request(&["role", "tool_calls"], fields([role(), ("content", content()), ("tool_calls", calls)])),
        request(&["role", "reasoning_content"], fields([role(), ("reasoning_content", text())])),
    ]})
}

fn completion_request() -> Value {
    let log_probs = any_of([whole(0, 1024), boolean()]);
    let own = fields([
        ("prompt", prompt()),
        ("suffix", about(text(), "What comes behind the gap that is filled; for models that can.")),
        ("n", about(default(whole(1, 128), 1), "Answers to each prompt; 128 in all.")),
        ("echo", boolean()),
        ("logprobs", log_probs),
        ("verbose", boolean()),
    ]);
    request(&["prompt"], together([model(), own, streaming(), options(), sampling()]))
}
