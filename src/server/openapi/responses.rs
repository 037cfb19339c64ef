//! OpenAI's responses.

use serde_json::{Value, json};

use super::common::{adapters, model, sampling};
use super::operation::Operation;
use super::schema::{
    Fields, about, any_object, any_of, boolean, count, default, fields, list, object, one_of, or_null,
    reference, request, text, together, whole, whole_object,
};

const TAG: &str = "OpenAI";

/// What there is.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::post(&["/v1/responses", "/responses"], TAG, "Answers a conversation as a response.")
            .about("Nothing is stored: every request brings its whole conversation.")
            .takes("ResponseRequest")
            .answers(reference("Response"))
            .streams_events("ResponseEvent", "With `stream`: events by the names of their types."),
        Operation::post(
            &["/v1/responses/input_tokens", "/responses/input_tokens"],
            TAG,
            "Counts the tokens that a response would read.",
        )
        .takes("ResponseCountRequest")
        .answers(reference("InputTokens")),
    ]
}

/// What its requests and responses look like.
pub fn schemas() -> Vec<(&'static str, Value)> {
    let part = request(
        &["type"],
        fields([
            ("type", one_of(&["input_text", "output_text", "text", "refusal"])),
            ("text", text()),
            ("refusal", text()),
        ]),
    );
    let content = || any_of([text(), list(part.clone())]);
    let message = request(
        &["role", "content"],
        fields([
            ("type", one_of(&["message"])),
            ("role", one_of(&["system", "developer", "user", "assistant"])),
            ("content", content()),
        ]),
    );
    let call = request(
        &["type", "call_id", "name", "arguments"],
        fields([
            ("type", one_of(&["function_call"])),
            ("call_id", text()),
            ("name", text()),
            ("arguments", text()),
        ]),
    );
    let result = request(
        &["type", "call_id", "output"],
        fields([("type", one_of(&["function_call_output"])), ("call_id", text()), ("output", content())]),
    );
    let thought = request(
        &["type"],
        fields([
            ("type", one_of(&["reasoning"])),
            ("content", list(request(&[], fields([("text", text())])))),
        ]),
    );
    let streaming = fields([
        ("stream", default(boolean(), false)),
        ("return_progress", boolean()),
        ("timings_per_token", boolean()),
    ]);
    let usage = whole_object([
        ("input_tokens", count()),
        ("input_tokens_details", whole_object([("cached_tokens", count())])),
        ("output_tokens", count()),
        ("output_tokens_details", whole_object([("reasoning_tokens", count())])),
        ("total_tokens", count()),
    ]);
    vec![
        ("ResponseItem", any_of([message, call, result, thought])),
        ("ResponseCountRequest", request(&["input"], asked())),
        ("ResponseRequest", request(&["input"], together([asked(), streaming]))),
        ("Response", {
            let mut response = whole_object([
                ("id", text()),
                ("object", one_of(&["response"])),
                ("created_at", count()),
                ("status", one_of(&["in_progress", "completed", "incomplete", "failed"])),
                ("error", or_null(any_object())),
                ("incomplete_details", or_null(whole_object([("reason", text())]))),
                (
                    "output",
                    list(object(
                        &["id", "type"],
                        fields([
                            ("id", text()),
                            ("type", one_of(&["message", "reasoning", "function_call"])),
                        ]),
                    )),
                ),
                ("usage", or_null(usage)),
                ("model", text()),
            ]);
            response["properties"]["timings"] = reference("Timings");
            response
        }),
        ("ResponseEvent", object(&["type"], fields([("type", text()), ("sequence_number", count())]))),
    ]
}

/// What is asked, but for how it is sent.
fn asked() -> Fields {
    let function = request(
        &["type", "name"],
        fields([
            ("type", one_of(&["function"])),
            ("name", text()),
            ("description", text()),
            ("parameters", any_object()),
            ("strict", boolean()),
        ]),
    );
    let choice = any_of([
        one_of(&["auto", "none", "required"]),
        request(&["type", "name"], fields([("type", one_of(&["function"])), ("name", text())])),
    ]);
    let format = request(
        &["type"],
        fields([
            ("type", one_of(&["text", "json_object", "json_schema"])),
            ("schema", about(any_object(), "With `json_schema`.")),
        ]),
    );
    let items = json!({"type": "array", "items": reference("ResponseItem"), "minItems": 1});
    let own = fields([
        ("input", any_of([text(), items])),
        ("instructions", text()),
        ("max_output_tokens", whole(-2, i64::MAX)),
        ("tools", list(function)),
        ("tool_choice", choice),
        ("parallel_tool_calls", default(boolean(), true)),
        ("text", request(&[], fields([("format", format)]))),
        ("reasoning", request(&[], fields([("effort", text())]))),
        ("previous_response_id", about(json!({"type": "null"}), "Nothing is stored here.")),
        ("conversation", about(json!({"type": "null"}), "Nothing is stored here.")),
        ("background", json!({"const": false})),
        ("include", about(list(text()), "`message.output_text.logprobs` asks for log-probabilities.")),
        ("top_logprobs", whole(0, 255)),
        ("metadata", any_object()),
        ("user", text()),
    ]);
    together([model(), own, fields([adapters()]), sampling()])
}
