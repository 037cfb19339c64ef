//! Answers of the server that follow a JSON schema or a grammar.

#![cfg(all(feature = "server", feature = "cli", feature = "builtin-model"))]

mod serve_support;

use serde_json::{Value, json};
use serve_support::Server;

fn post(server: &Server, path: &str, body: &Value) -> (u16, Value) {
    let response = server.post(path, body);
    (response.status, response.json())
}

fn person() -> Value {
    json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 1, "maximum": 99}},
        "required": ["name", "age"], "additionalProperties": false})
}

fn chat(more: Value) -> Value {
    let mut request = json!({"messages": [{"role": "user", "content": "Who are you?"}], "temperature": 1.5, "seed": 3, "max_tokens": 300});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

/// The content of a stream, and why it ended.
fn streamed(server: &Server, path: &str, mut request: Value) -> (String, Value) {
    request["stream"] = json!(true);
    let response = server.post(path, &request);
    assert_eq!(response.status, 200, "{}", response.body);
    let (mut content, mut reason) = (String::new(), Value::Null);
    for data in response.events().into_iter().filter(|data| *data != "[DONE]") {
        let chunk: Value = serde_json::from_str(data).unwrap();
        let choice = &chunk["choices"][0];
        content += choice["delta"]["content"].as_str().unwrap_or_default();
        if !choice["finish_reason"].is_null() {
            reason = choice["finish_reason"].clone();
        }
    }
    (content, reason)
}

#[test]
fn answers_follow_a_schema() {
    let server = Server::greedy(&[]);
    let schema = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "person", "strict": true, "schema": person()}}});
    let validator = jsonschema::validator_for(&person()).unwrap();
    let mut distinct = std::collections::HashSet::new();
    for seed in 0..6 {
        let mut request = chat(schema.clone());
        request["seed"] = json!(seed);
        let (status, answer) = post(&server, "/v1/chat/completions", &request);
        assert_eq!(status, 200, "{answer}");
        let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
        let value: Value = serde_json::from_str(content).unwrap_or_else(|error| panic!("{error}: {content}"));
        assert!(validator.is_valid(&value), "{content}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert_eq!(streamed(&server, "/v1/chat/completions", request), (content.to_owned(), json!("stop")));
        distinct.insert(content.to_owned());
    }
    assert!(distinct.len() > 1, "{distinct:?}");
    // Any object.
    let (_, answer) =
        post(&server, "/v1/chat/completions", &chat(json!({"response_format": {"type": "json_object"}})));
    let choice = &answer["choices"][0];
    let content = choice["message"]["content"].as_str().unwrap();
    assert!(content.starts_with('{'), "{content}");
    assert!(
        choice["finish_reason"] == "length" || serde_json::from_str::<Value>(content).unwrap().is_object(),
        "{content}"
    );
    // Cut, it says so.
    let mut short = chat(schema);
    short["max_tokens"] = json!(3);
    let (_, answer) = post(&server, "/v1/chat/completions", &short);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[test]
fn texts_follow_a_grammar() {
    let server = Server::greedy(&[]);
    let grammar = "root ::= \"The \" [a-z]{3} \" sat.\"";
    let fits = |text: &str| {
        let word = text.strip_prefix("The ").and_then(|rest| rest.strip_suffix(" sat."));
        word.is_some_and(|word| word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_lowercase()))
    };
    let (status, answer) = post(
        &server,
        "/completion",
        &json!({"prompt": "A story.", "grammar": grammar, "temperature": 1.5, "n_predict": 60}),
    );
    assert!(status == 200 && fits(answer["content"].as_str().unwrap()), "{answer}");
    let (status, answer) = post(&server, "/v1/chat/completions", &chat(json!({"grammar": grammar})));
    assert!(status == 200 && fits(answer["choices"][0]["message"]["content"].as_str().unwrap()), "{answer}");
    let (status, answer) = post(
        &server,
        "/completion",
        &json!({"prompt": "x", "json_schema": {"const": "42"}, "n_predict": 20}),
    );
    assert_eq!((status, &answer["content"]), (200, &json!("\"42\"")));
}

#[test]
fn what_cannot_be_followed_is_named() {
    let server = Server::greedy(&[]);
    for (path, request, words) in [
        (
            "/v1/chat/completions",
            chat(
                json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "array", "uniqueItems": true}}}}),
            ),
            "\"uniqueItems\" at #",
        ),
        ("/v1/chat/completions", chat(json!({"grammar": "root ::= x"})), "line 1, column 10"),
        (
            "/completion",
            json!({"prompt": "x", "json_schema": {"properties": {"a": {"not": {}}}}}),
            "\"not\" at #/properties/a",
        ),
        ("/completion", json!({"prompt": "x", "grammar": "root ::= root"}), "left recursion"),
    ] {
        let (status, answer) = post(&server, path, &request);
        assert_eq!((status, &answer["error"]["type"]), (400, &json!("invalid_request_error")), "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{answer}");
    }
    assert_eq!(post(&server, "/completion", &json!({"prompt": "x", "n_predict": 1})).0, 200);
}
