//! Anthropic's interface of `bise serve`.

mod serve_support;

use serde_json::{Value, json};
use serve_support::Server;

fn request(more: Value) -> Value {
    let mut request = json!({
        "model": "mistral", "max_tokens": 20, "temperature": 0,
        "messages": [{"role": "user", "content": "Tell me a story about a cat."}],
    });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

/// The events of a stream: names and data.
fn events(server: &Server, mut request: Value) -> Vec<Value> {
    request["stream"] = json!(true);
    let answer = server.send("POST", "/v1/messages", &[], &request.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let events = answer.body.split("\n\n").filter(|event| !event.trim().is_empty());
    events
        .map(|event| {
            let (name, data) = event.split_once('\n').expect("a name and data");
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
            assert_eq!(name.strip_prefix("event: ").expect("a name"), data["type"]);
            data
        })
        .collect()
}

#[test]
fn a_message_as_a_whole_and_as_it_comes() {
    let server = Server::mistral(&[]);
    let (status, whole) = server.post_json("/v1/messages", &request(json!({})));
    assert_eq!(status, 200, "{whole}");
    assert!(whole["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!(
        (&whole["type"], &whole["role"], &whole["model"]),
        (&json!("message"), &json!("assistant"), &json!("mistral"))
    );
    assert_eq!((&whole["stop_reason"], &whole["stop_sequence"]), (&json!("max_tokens"), &Value::Null));
    assert_eq!(whole["usage"]["output_tokens"], 20);
    let text = whole["content"][0]["text"].as_str().unwrap();
    let (_, openai) = server.post_json(
        "/v1/chat/completions",
        &json!({"messages": request(json!({}))["messages"], "max_tokens": 20, "temperature": 0}),
    );
    assert_eq!(openai["choices"][0]["message"]["content"], text);

    let events = events(&server, request(json!({})));
    let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types[..2], ["message_start", "content_block_start"]);
    assert_eq!(types[types.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    let start = &events[0]["message"];
    assert_eq!((&start["content"], &start["stop_reason"]), (&json!([]), &Value::Null));
    assert!(start["usage"]["input_tokens"].as_u64().unwrap() > 0);
    let streamed: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(streamed, text);
    let end = &events[events.len() - 2];
    assert_eq!(
        (&end["delta"]["stop_reason"], &end["usage"]["output_tokens"]),
        (&json!("max_tokens"), &json!(20))
    );
}

#[test]
fn tokens_are_counted_and_found_in_the_cache() {
    let server = Server::mistral(&[]);
    let long = json!([{"role": "user", "content": "The cat sat by the fire. ".repeat(30)}]);
    let (status, counted) =
        server.post_json("/v1/messages/count_tokens", &json!({"model": "mistral", "messages": long}));
    assert_eq!(status, 200, "{counted}");
    let n = counted["input_tokens"].as_u64().unwrap();
    assert_eq!(counted, json!({"input_tokens": n}));
    let usage = || {
        let (_, message) =
            server.post_json("/v1/messages", &request(json!({"messages": long, "max_tokens": 1})));
        let usage = &message["usage"];
        (usage["input_tokens"].as_u64().unwrap(), usage["cache_read_input_tokens"].as_u64().unwrap())
    };
    assert_eq!(usage(), (n, 0));
    let (read, cached) = usage();
    assert!(read + cached == n && cached >= 64 && read > 0, "{read} + {cached} of {n}");
    // A system prompt counts, as a text or as blocks.
    let count = |system: Value| {
        server.post_json("/v1/messages/count_tokens", &json!({"messages": long, "system": system})).1["input_tokens"].as_u64().unwrap()
    };
    let text = count(json!("Be brief."));
    assert!(text > n);
    assert_eq!(
        count(json!([{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}])),
        text
    );
    // What changes with every request of one client is not read.
    let billing = json!({"type": "text", "text": "x-anthropic-billing-header: cch=12345;"});
    assert_eq!(count(json!([billing, {"type": "text", "text": "Be brief."}])), text);
}

#[test]
fn reasons_to_stop_are_told() {
    let server = Server::mistral(&[]);
    let (_, whole) = server.post_json("/v1/messages", &request(json!({})));
    let text = whole["content"][0]["text"].as_str().unwrap();
    let word = text.split_whitespace().nth(3).unwrap();
    let (_, stopped) =
        server.post_json("/v1/messages", &request(json!({"stop_sequences": ["never seen", word]})));
    assert_eq!((&stopped["stop_reason"], &stopped["stop_sequence"]), (&json!("stop_sequence"), &json!(word)));
    assert_eq!(stopped["content"][0]["text"].as_str().unwrap(), text.split(word).next().unwrap());
    let events = events(&server, request(json!({ "stop_sequences": [word] })));
    assert_eq!(
        events[events.len() - 2]["delta"],
        json!({"stop_reason": "stop_sequence", "stop_sequence": word})
    );
    // An empty conversation is answered, as llama-server does.
    assert_eq!(server.post_json("/v1/messages", &request(json!({"messages": []}))).0, 200);
}

#[test]
fn a_format_is_kept() {
    let server = Server::mistral(&[]);
    let schema = json!({"type": "object", "properties": {"legs": {"enum": [2, 4]}}, "required": ["legs"], "additionalProperties": false});
    let format = json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}, "max_tokens": 100, "temperature": 1.5});
    let (status, message) = server.post_json("/v1/messages", &request(format));
    assert_eq!(status, 200, "{message}");
    let pet: Value = serde_json::from_str(message["content"][0]["text"].as_str().unwrap()).expect("JSON");
    assert!(pet == json!({"legs": 2}) || pet == json!({"legs": 4}), "{pet}");
    assert_eq!(message["stop_reason"], "end_turn");
}

#[test]
fn tools_are_called_where_that_is_asked_for() {
    let server = Server::mistral(&["--chat-template", "mistral-v3"]);
    let tools = json!([{"name": "add", "description": "Adds.", "input_schema": {
        "type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": false}}]);
    let asked = request(
        json!({"tools": tools, "tool_choice": {"type": "any", "disable_parallel_tool_use": true}, "max_tokens": 100}),
    );
    let (status, message) = server.post_json("/v1/messages", &asked);
    assert_eq!(status, 200, "{message}");
    assert_eq!(message["stop_reason"], "tool_use", "{message}");
    let block = message["content"].as_array().unwrap().last().unwrap();
    assert_eq!((&block["type"], &block["name"]), (&json!("tool_use"), &json!("add")));
    assert!([json!({"a": 1}), json!({"a": 2})].contains(&block["input"]), "{block}");
    assert_eq!(block["id"].as_str().unwrap().len(), 9);

    let events = events(&server, asked.clone());
    let start = events.iter().find(|event| event["content_block"]["type"] == "tool_use").expect("a call");
    assert_eq!(
        (&start["content_block"]["name"], &start["content_block"]["input"]),
        (&json!("add"), &json!({}))
    );
    let input: String = events.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&input).unwrap(), block["input"]);

    // The result goes back under the id of the call, also one that another service made.
    for id in [block["id"].as_str().unwrap(), "toolu_01A09q90qw90lq917835lq9"] {
        let messages = json!([
            {"role": "user", "content": "What is 1 and 2?"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": "add", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "3"}]},
        ]);
        let (status, message) =
            server.post_json("/v1/messages", &request(json!({"messages": messages, "tools": tools})));
        assert_eq!(status, 200, "{message}");
    }
}

#[test]
fn what_is_wrong_is_said_in_anthropics_form() {
    let server = Server::mistral(&["--api-key", "secret"]);
    let key = [("x-api-key", "secret"), ("anthropic-version", "2023-06-01")];
    let image = json!([{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "aGk="}}]}]);
    for (more, status, kind, words) in [
        (json!({"max_tokens": null}), 400, "invalid_request_error", "max_tokens: found nothing"),
        (json!({"max_tokens": -5}), 400, "invalid_request_error", "max_tokens: found -5"),
        (json!({"messages": 7}), 400, "invalid_request_error", "messages"),
        (
            json!({"messages": [{"role": "robot", "content": "x"}]}),
            400,
            "invalid_request_error",
            "messages[0].role: found \"robot\"",
        ),
        (
            json!({"messages": [{"role": "user", "content": "cat ".repeat(4000)}]}),
            400,
            "invalid_request_error",
            "tokens",
        ),
        (json!({"temperature": "hot"}), 400, "invalid_request_error", "temperature"),
        (
            json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
            400,
            "invalid_request_error",
            "tools[0].type",
        ),
        (json!({"messages": image}), 500, "api_error", "image input is not supported"),
    ] {
        let answer = server.send("POST", "/v1/messages", &key, &request(more.clone()).to_string());
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(
            (answer.status, &body["type"], &body["error"]["type"]),
            (status, &json!("error"), &json!(kind)),
            "{body}"
        );
        assert!(body["error"]["message"].as_str().unwrap().contains(words), "{more}: {body}");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
    let answer =
        server.send("POST", "/v1/messages", &[("x-api-key", "wrong")], &request(json!({})).to_string());
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((answer.status, &body["error"]["type"]), (401, &json!("authentication_error")));
    let bearer = [("authorization", "Bearer secret")];
    assert_eq!(server.send("POST", "/v1/messages", &bearer, &request(json!({})).to_string()).status, 200);
}
