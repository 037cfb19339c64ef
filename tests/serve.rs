//! `bise serve` from the outside: answers, streams, errors, access, and its end.

#![cfg(all(feature = "cli", feature = "server", feature = "builtin-model"))]

mod serve_support;

use serde_json::{Value, json};
use serve_support::Server;

const STORY: &str = ", a kind boy named Hugo lived in a cottage with a";

fn completion(more: Value) -> Value {
    let mut body = json!({"prompt": "Once upon a time", "n_predict": 12});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn texts_are_continued_in_every_interface_alike() {
    let server = Server::greedy(&[]);
    let native = server.post("/completion", &completion(json!({}))).json();
    assert_eq!(native["content"], STORY);
    assert_eq!((&native["stop_type"], &native["tokens_predicted"]), (&json!("limit"), &json!(12)));
    let openai = server
        .post("/v1/completions", &json!({"prompt": "Once upon a time", "max_tokens": 12, "n": 2}))
        .json();
    assert_eq!(
        (&openai["choices"][0]["text"], &openai["choices"][1]["text"]),
        (&json!(STORY), &json!(STORY))
    );
    assert_eq!(openai["usage"]["completion_tokens"], 24);
    let streamed = server.post("/completion", &completion(json!({"stream": true})));
    let events: Vec<Value> =
        streamed.events().iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let text: String = events.iter().map(|event| event["content"].as_str().unwrap()).collect();
    assert_eq!((text.as_str(), &events.last().unwrap()["stop"]), (STORY, &json!(true)));
    let stopped = server.post("/completion", &completion(json!({"stop": [" named"]}))).json();
    assert_eq!((&stopped["content"], &stopped["stopping_word"]), (&json!(", a kind boy"), &json!(" named")));
    let tokens =
        server.post("/tokenize", &json!({"content": "Once upon a time", "add_special": true})).json();
    let by_tokens = server.post("/completion", &completion(json!({"prompt": tokens["tokens"]}))).json();
    assert_eq!(by_tokens["content"], STORY);
}

#[test]
fn a_chat_stream_has_the_role_first_and_the_usage_last() {
    let server = Server::greedy(&[]);
    let body = json!({
        "model": "any", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 6, "stream": true, "ignore_eos": true,
        "stream_options": {"include_usage": true}, "unknown": {"is": "ignored"},
    });
    let response = server.post("/v1/chat/completions", &body);
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    let events = response.events();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": null}));
    let [.., finish, usage] = &chunks[..] else { panic!("{chunks:?}") };
    assert_eq!(
        (&finish["choices"][0]["delta"], &finish["choices"][0]["finish_reason"]),
        (&json!({}), &json!("length"))
    );
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(6)));
    assert!(chunks.iter().all(|chunk| chunk["model"] == "any" && chunk["id"] == chunks[0]["id"]));
    // The same as a whole.
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    let mut whole = body.clone();
    whole["stream"] = false.into();
    let whole = server.post("/v1/chat/completions", &whole).json();
    assert_eq!(whole["choices"][0]["message"], json!({"role": "assistant", "content": text}));
}

#[test]
fn answers_follow_schemas_and_grammars() {
    let server = Server::greedy(&[]);
    let ask = |more: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 40});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/chat/completions", &body)
    };
    let schema =
        json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["red", "blue"]}}});
    let answer = ask(json!({"response_format": schema})).json();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap().trim();
    assert!(["\"red\"", "\"blue\""].contains(&text), "{text}");
    let answer = ask(json!({"grammar": "root ::= \"a\"{5}"})).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "aaaaa");
    for wrong in [
        json!({"grammar": "root ::= (x"}),
        json!({"response_format": {"type": "sound"}}),
        json!({"response_format": {"type": "json_object", "schema": {"type": "hiccup"}}}),
    ] {
        assert_eq!(ask(wrong.clone()).status, 400, "{wrong}");
    }
}

#[test]
fn what_is_wrong_with_a_request_is_said_and_harms_nobody() {
    let server = Server::greedy(&["-c", "256", "-np", "2"]);
    let error = |path: &str, body: Value, status: u16| {
        let response = server.post(path, &body);
        assert_eq!(response.status, status, "{body}: {}", response.body);
        response.json()["error"].clone()
    };
    let found = error("/completion", completion(json!({"top_k": "many"})), 400);
    assert_eq!(
        found["message"],
        "top_k: found string \"many\", expected a whole number from -2147483648 to 2147483647"
    );
    assert_eq!((&found["type"], &found["param"]), (&json!("invalid_request_error"), &json!("top_k")));
    for field in ["n_predict", "n_probs", "id_slot", "top_k", "min_keep", "mirostat", "n"] {
        for extreme in [json!(i64::MIN), json!(u64::MAX), json!(1.5), json!("x"), json!([1])] {
            error("/completion", completion(json!({field: extreme})), 400);
        }
    }
    for prompt in [json!([]), json!([1, -5]), json!([999_999]), json!({"x": 1}), json!(true)] {
        error("/completion", completion(json!({"prompt": prompt})), 400);
    }
    // Too long: with numbers, also where a stream was asked for.
    let long = "the quick brown fox ".repeat(100);
    for stream in [false, true] {
        let found = error("/completion", completion(json!({"prompt": long, "stream": stream})), 400);
        assert_eq!((&found["type"], &found["n_ctx"]), (&json!("exceed_context_size_error"), &json!(128)));
        assert!(found["n_prompt_tokens"].as_u64().unwrap() > 128);
    }
    let json_type = [("content-type", "application/json")];
    for body in ["{\"prompt\": ", "", "[]", "nonsense", &"[".repeat(100_000)] {
        assert_eq!(server.send("POST", "/completion", &json_type, body).status, 400);
    }
    assert_eq!(server.send("POST", "/completion", &[("content-type", "text/plain")], "{}").status, 415);
    assert_eq!(server.status_of_a_long_body(40 << 20), 413);
    assert_eq!(server.get("/nothing").status, 404);
    assert_eq!(server.get("/completion").status, 405);
    assert_eq!(server.post("/completion", &completion(json!({}))).json()["content"], STORY);
    let slots = server.get("/slots").json();
    assert!(slots.as_array().unwrap().iter().all(|slot| slot["is_processing"] == false), "{slots}");
}

#[test]
fn keys_hosts_and_origins() {
    let server = Server::greedy(&["--api-key", "one,two", "--cors-origins", "https://chat.example.org"]);
    let status = |headers: &[(&str, &str)]| server.send("GET", "/props", headers, "").status;
    assert_eq!((status(&[]), status(&[("authorization", "Bearer three")])), (401, 401));
    assert_eq!((status(&[("authorization", "Bearer two")]), status(&[("x-api-key", "one")])), (200, 200));
    assert_eq!(server.get("/health").status, 200);
    // Commands that ask a server know the key by the same variable.
    #[cfg(feature = "hub")]
    for (key, code) in [("two", 0), ("three", 1)] {
        let ps = std::process::Command::new(env!("CARGO_BIN_EXE_bise"))
            .args(["ps", "--host", &server.address])
            .env("LLAMA_API_KEY", key)
            .output()
            .unwrap();
        assert_eq!(ps.status.code(), Some(code), "{ps:?}");
    }
    let origin = |origin: &str| server.send("GET", "/health", &[("origin", origin)], "");
    assert_eq!(origin("https://evil.example.org").status, 403);
    let allowed = origin("https://chat.example.org");
    assert_eq!(
        (allowed.status, allowed.header("access-control-allow-origin")),
        (200, Some("https://chat.example.org"))
    );
    assert_eq!(server.send("GET", "/health", &[("host", "evil.example.org")], "").status, 403);
}

#[test]
fn embeddings_are_numbers_or_base64() {
    let server = Server::greedy(&["--pooling", "mean"]);
    let ask = |more: Value| {
        let mut body = json!({"input": ["The cat sat.", "A dog."]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/embeddings", &body)
    };
    let numbers = ask(json!({})).json();
    let vector: Vec<f64> =
        numbers["data"][0]["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    assert!((vector.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-4);
    assert_eq!(numbers["data"].as_array().unwrap().len(), 2);
    let coded = ask(json!({"encoding_format": "base64"})).json();
    // Four bytes a number, four letters for three bytes.
    assert_eq!(coded["data"][0]["embedding"].as_str().unwrap().len(), (4 * vector.len()).div_ceil(3) * 4);
    assert_eq!(ask(json!({"input": [[1, 5], "x"]})).status, 200);
    assert_eq!(ask(json!({"input": [""], "encoding_format": "hex"})).status, 400);
}

#[test]
fn counts_add_up() {
    let server = Server::greedy(&["--no-slots"]);
    let cached =
        |body: &Value| server.post("/completion", body).json()["timings"]["cache_n"].as_u64().unwrap();
    let body = completion(json!({"prompt": "the quick brown fox ".repeat(40), "ignore_eos": true}));
    assert_eq!(cached(&body), 0);
    assert!(cached(&body) >= 64);
    let metrics = server.get("/metrics");
    assert!(metrics.header("process-start-time-unix").is_some());
    assert!(metrics.body.contains("\nllamacpp:tokens_predicted_total 24"), "{}", metrics.body);
    assert!(metrics.body.contains("\nllamacpp:requests_processing 0"), "{}", metrics.body);
    assert_eq!(server.get("/slots").status, 501);
    assert_eq!(server.get("/v1/models").json()["data"][0]["id"], "bise-tiny");
}

#[cfg(unix)]
#[test]
fn a_client_that_goes_away_frees_its_slot_and_a_signal_ends_the_server() {
    use std::time::{Duration, Instant};

    let mut server = Server::greedy(&["-np", "1", "-c", "4096"]);
    let body = json!({"prompt": "Once", "n_predict": -1, "ignore_eos": true, "stream": true});
    let stream = server.begin("/completion", &body);
    let is_busy = || server.get("/slots").json()[0]["is_processing"] == true;
    let start = Instant::now();
    while !is_busy() {
        assert!(start.elapsed() < Duration::from_secs(10), "it does not begin");
    }
    drop(stream);
    let gone = Instant::now();
    while is_busy() {
        assert!(gone.elapsed() < Duration::from_millis(500), "it goes on for nobody");
    }
    let (code, took) = server.terminate();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
}
