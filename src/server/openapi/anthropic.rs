//! Anthropic's interface.

use serde_json::{Value, json};

use super::common::{adapters, model, sampling};
use super::operation::Operation;
use super::schema::{
    about, any_object, any_of, boolean, count, default, fields, list, object, one_of, or_null, reference,
    request, text, together, whole, whole_object,
};

const TAG: &str = "Anthropic";

/// What there is.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::post(&["/v1/messages"], TAG, "Answers a conversation as a message.")
            .takes("MessageRequest")
            .answers(reference("Message"))
            .streams_events("MessageEvent", "With `stream`: events by the names of their types."),
        Operation::post(&["/v1/messages/count_tokens"], TAG, "Counts the tokens of a conversation.")
            .takes("MessageCountRequest")
            .answers(whole_object([("input_tokens", count())])),
    ]
}

/// What its requests and responses look like.
pub fn schemas() -> Vec<(&'static str, Value)> {
    let usage = whole_object([
        ("input_tokens", count()),
        ("cache_creation_input_tokens", count()),
        ("cache_read_input_tokens", count()),
        ("output_tokens", count()),
    ]);
    let events = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    ];
    let reasons = ["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"];
    let block = object(&["type"], fields([("type", one_of(&["text", "thinking", "tool_use"]))]));
    let kinds = [
        "authentication_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "rate_limit_error",
        "overloaded_error",
        "invalid_request_error",
        "api_error",
    ];
    vec![
        (
            "AnthropicError",
            whole_object([
                ("type", one_of(&["error"])),
                ("error", whole_object([("type", one_of(&kinds)), ("message", text())])),
            ]),
        ),
        ("MessageRequest", {
            let max_tokens =
                about(whole(0, i64::MAX), "Tokens of the answer at most, as far as the context has room.");
            message_request(&["messages", "max_tokens"], max_tokens)
        }),
        ("MessageCountRequest", message_request(&["messages"], whole(i64::MIN, i64::MAX))),
        ("InputMessage", input_message()),
        (
            "Message",
            whole_object([
                ("id", text()),
                ("type", one_of(&["message"])),
                ("role", one_of(&["assistant"])),
                ("model", text()),
                ("content", list(block)),
                ("stop_reason", one_of(&reasons)),
                ("stop_sequence", or_null(text())),
                ("usage", usage),
            ]),
        ),
        ("AnthropicModel", {
            let number = || or_null(count());
            whole_object([
                ("type", one_of(&["model"])),
                ("id", text()),
                ("display_name", text()),
                ("created_at", text()),
                ("max_input_tokens", number()),
                ("max_tokens", number()),
            ])
        }),
        (
            "AnthropicModelList",
            whole_object([
                ("data", list(reference("AnthropicModel"))),
                ("has_more", boolean()),
                ("first_id", or_null(text())),
                ("last_id", or_null(text())),
            ]),
        ),
        ("MessageEvent", object(&["type"], fields([("type", one_of(&events))]))),
    ]
}

fn message_request(required: &[&str], max_tokens: Value) -> Value {
    let tool = request(
        &["name"],
        fields([
            ("type", one_of(&["custom"])),
            ("name", text()),
            ("description", text()),
            ("input_schema", about(any_object(), "A JSON schema of the arguments.")),
        ]),
    );
    let disable = || fields([("disable_parallel_tool_use", boolean())]);
    let choice =
        |kinds: &[&str]| request(&["type"], together([fields([("type", one_of(kinds))]), disable()]));
    let named = request(
        &["type", "name"],
        together([fields([("type", one_of(&["tool"])), ("name", text())]), disable()]),
    );
    let none = request(&["type"], fields([("type", one_of(&["none"]))]));
    let format = || {
        request(&["type", "schema"], fields([("type", one_of(&["json_schema"])), ("schema", any_object())]))
    };
    let own = fields([
        ("messages", list(reference("InputMessage"))),
        ("max_tokens", max_tokens),
        ("system", any_of([text(), list(text_block())])),
        ("stream", default(boolean(), false)),
        ("stop_sequences", list(text())),
        ("tools", list(tool)),
        ("tool_choice", any_of([choice(&["auto", "any"]), named, none])),
        ("thinking", request(&["type"], fields([("type", text())]))),
        ("output_config", request(&[], fields([("format", format()), ("effort", text())]))),
        ("output_format", format()),
    ]);
    request(required, together([model(), own, fields([adapters()]), sampling()]))
}

fn text_block() -> Value {
    request(&["type", "text"], fields([("type", one_of(&["text"])), ("text", text())]))
}

fn input_message() -> Value {
    let document = || {
        let source = request(&["type", "data"], fields([("type", one_of(&["text"])), ("data", text())]));
        request(
            &["type", "source"],
            fields([("type", one_of(&["document"])), ("source", source), ("title", text())]),
        )
    };
    let thinking =
        request(&["type", "thinking"], fields([("type", one_of(&["thinking"])), ("thinking", text())]));
    let tool_use = request(
        &["type", "id", "name"],
        fields([("type", one_of(&["tool_use"])), ("id", text()), ("name", text()), ("input", any_object())]),
    );
    let result = request(
        &["type", "tool_use_id"],
        fields([
            ("type", one_of(&["tool_result"])),
            ("tool_use_id", text()),
            ("content", any_of([text(), list(any_of([text_block(), document()]))])),
            ("is_error", boolean()),
        ]),
    );
    let message = |role: &str, blocks: Value| {
        request(
            &["role", "content"],
            fields([("role", one_of(&[role])), ("content", any_of([text(), list(blocks)]))]),
        )
    };
    json!({"anyOf": [
        message("user", any_of([text_block(), document(), result])),
        message("assistant", any_of([text_block(), thinking, tool_use])),
        message("system", text_block()),
    ]})
}
