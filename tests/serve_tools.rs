//! Calls of tools at the server: enforced, whole and streamed, and told the model again.

#![cfg(all(feature = "server", feature = "cli", feature = "builtin-model"))]

mod serve_support;

use serde_json::{Value, json};
use serve_support::Server;

fn post(server: &Server, path: &str, body: &Value) -> (u16, Value) {
    let response = server.post(path, body);
    (response.status, response.json())
}

fn request(more: Value) -> Value {
    let mut request = json!({
        "messages": [{"role": "user", "content": "Weather in Nice?"}],
        "tools": [
            {"type": "function", "function": {"name": "weather", "description": "The weather of a city", "parameters": {"type": "object",
                "properties": {"city": {"enum": ["Nice", "Arles"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
                "required": ["city", "days"], "additionalProperties": false}}},
            {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}, "additionalProperties": false}}},
        ],
        "temperature": 1.5, "seed": 3, "max_tokens": 400,
    });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn check(call: &Value) {
    let id = call["id"].as_str().unwrap();
    assert!(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{call}");
    assert_eq!(call["type"], "function");
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    match call["function"]["name"].as_str().unwrap() {
        "weather" => {
            assert!(["Nice", "Arles"].contains(&arguments["city"].as_str().unwrap()), "{call}");
            assert!((1..=9).contains(&arguments["days"].as_i64().unwrap()), "{call}");
        }
        "now" => assert_eq!(arguments, json!({})),
        other => panic!("there is no tool {other}"),
    }
}

/// The calls of a stream, put together, and why it ended.
fn streamed(server: &Server, mut request: Value) -> (Vec<Value>, Value) {
    request["stream"] = json!(true);
    let response = server.post("/v1/chat/completions", &request);
    assert_eq!(response.status, 200, "{}", response.body);
    let (mut calls, mut reason) = (Vec::<Value>::new(), Value::Null);
    for data in response.events().into_iter().filter(|data| *data != "[DONE]") {
        let chunk: Value = serde_json::from_str(data).unwrap();
        let choice = &chunk["choices"][0];
        for part in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = part["index"].as_u64().unwrap() as usize;
            if index == calls.len() {
                calls.push(json!({"id": part["id"], "type": part["type"], "function": {"name": part["function"]["name"], "arguments": ""}}));
            }
            let more = part["function"]["arguments"].as_str().unwrap_or_default();
            let so_far = calls[index]["function"]["arguments"].as_str().unwrap().to_owned();
            calls[index]["function"]["arguments"] = json!(so_far + more);
        }
        if !choice["finish_reason"].is_null() {
            reason = choice["finish_reason"].clone();
        }
    }
    (calls, reason)
}

#[test]
fn calls_are_enforced_and_told_again() {
    for template in ["mistral-v3", "mistral-v7", "mistral-v11-tekken", "mistral-v13-tekken"] {
        let server = Server::greedy(&["--chat-template", template, "-c", "2048"]);
        let required = request(json!({"tool_choice": "required"}));
        let (status, answer) = post(&server, "/v1/chat/completions", &required);
        assert_eq!(status, 200, "{template}: {answer}");
        let choice = &answer["choices"][0];
        let calls =
            choice["message"]["tool_calls"].as_array().unwrap_or_else(|| panic!("{template}: {answer}"));
        assert!(!calls.is_empty());
        calls.iter().for_each(check);
        assert_eq!(choice["finish_reason"], "tool_calls", "{template}: {answer}");
        assert_eq!(streamed(&server, required), (calls.clone(), json!("tool_calls")), "{template}");

        // The results, and what the model says to them.
        let mut messages =
            vec![json!({"role": "user", "content": "Weather in Nice?"}), choice["message"].clone()];
        messages.extend(
            calls.iter().map(
                |call| json!({"role": "tool", "tool_call_id": call["id"], "content": "{\"sun\": true}"}),
            ),
        );
        let (status, answer) = post(
            &server,
            "/v1/chat/completions",
            &request(json!({"messages": messages, "tool_choice": "none", "max_tokens": 8})),
        );
        assert_eq!(status, 200, "{template}: {answer}");
        assert!(answer["choices"][0]["message"]["tool_calls"].is_null(), "{answer}");

        let one = json!({"tool_choice": {"type": "function", "function": {"name": "now"}}});
        let (_, answer) = post(&server, "/v1/chat/completions", &request(one));
        let calls = &answer["choices"][0]["message"]["tool_calls"];
        assert_eq!(
            (calls.as_array().unwrap().len(), &calls[0]["function"]["name"]),
            (1, &json!("now")),
            "{answer}"
        );
        let single = request(json!({"tool_choice": "required", "parallel_tool_calls": false}));
        let (_, answer) = post(&server, "/v1/chat/completions", &single);
        assert_eq!(answer["choices"][0]["message"]["tool_calls"].as_array().unwrap().len(), 1, "{answer}");
    }
}

#[test]
fn choices_that_cannot_be_made_are_named() {
    let server = Server::greedy(&["--chat-template", "mistral-v3"]);
    for (more, words) in [
        (json!({"tool_choice": {"type": "function", "function": {"name": "later"}}}), "\"later\""),
        (json!({"tools": [], "tool_choice": "required"}), "without tools"),
        (json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}), "\"a b\""),
        (json!({"grammar": "root ::= \"a\""}), "grammar and tools: found both"),
    ] {
        let (status, answer) = post(&server, "/v1/chat/completions", &request(more));
        assert_eq!(status, 400, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{answer}");
    }
}
