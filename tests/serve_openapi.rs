//! `/openapi.json` says what the server does: methods, responses, and which fields have which types.

#![cfg(all(feature = "cli", feature = "server", feature = "builtin-model", feature = "convert"))]

mod serve_support;
mod story_adapters;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use serve_support::{Response, Server};

struct Document(Value);

impl Document {
    fn of(server: &Server) -> Document {
        let response = server.get("/openapi.json");
        assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
        Document(response.json())
    }

    fn paths(&self) -> &Map<String, Value> {
        self.0["paths"].as_object().unwrap()
    }

    /// A schema that stands by itself.
    fn validator(&self, schema: &Value) -> jsonschema::Validator {
        let mut schema = schema.clone();
        schema["components"] = self.0["components"].clone();
        jsonschema::draft202012::new(&schema).unwrap()
    }

    fn assert_fits(&self, schema: &Value, value: &Value, of: &str) {
        if let Err(error) = self.validator(schema).validate(value) {
            panic!("{of}: {error} at {}: {value}", error.instance_path());
        }
    }

    fn schema(name: &str) -> Value {
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    /// Asserts that a response is one that the operation may have.
    fn assert_describes(&self, path: &str, method: &str, response: &Response) {
        let of = format!("{method} {path}: {} {}", response.status, response.body);
        let operation = &self.paths()[path][method];
        let kinds = operation["responses"][response.status.to_string()]["content"].as_object();
        let kinds = kinds.unwrap_or_else(|| panic!("the status is not described: {of}"));
        let kind = response.header("content-type").unwrap();
        let mut kinds = kinds.iter();
        let described = kinds.find(|(name, _)| name.split(';').next() == Some(kind) || *name == "*/*");
        let schema = &described.unwrap_or_else(|| panic!("{kind} is not described: {of}")).1["schema"];
        let data = &schema["properties"]["data"];
        let parts = [schema, data, &data["else"]];
        let part = parts.iter().find_map(|schema| schema.get("contentSchema"));
        match kind {
            "application/json" => self.assert_fits(schema, &response.json(), &of),
            "application/x-ndjson" => {
                for line in response.body.lines() {
                    self.assert_fits(part.unwrap(), &serde_json::from_str(line).unwrap(), &of);
                }
            }
            "text/event-stream" => {
                for event in response.events().into_iter().filter(|event| *event != "[DONE]") {
                    self.assert_fits(part.unwrap(), &serde_json::from_str(event).unwrap(), &of);
                }
            }
            _ => assert_eq!(schema["type"], "string", "{of}"),
        }
    }
}

/// A folder with two adapters.
struct Adapters(tempfile::TempDir);

impl Adapters {
    fn new() -> Adapters {
        let folder = tempfile::tempdir().unwrap();
        for (seed, name) in [(1, "a.gguf"), (2, "b.gguf")] {
            story_adapters::write_gguf(&folder.path().join(name), seed);
        }
        Adapters(folder)
    }

    /// Flags that load one of them, and let clients load both.
    fn flags(&self) -> [String; 2] {
        let folder = self.0.path().display();
        [format!("--lora={folder}/a.gguf"), format!("--lora-dir={folder}")]
    }
}

/// A path with something in place of its parts.
fn concrete(path: &str) -> String {
    let digest = format!("sha256:{}", "0".repeat(64));
    path.replace("{name}", "x").replace("{id}", "0").replace("{digest}", &digest)
}

/// A request for each path, and the status of its response.
fn requests() -> Vec<(&'static str, Value, u16)> {
    let talk = json!([{"role": "user", "content": "Hi"}]);
    let chat = json!({"messages": talk, "max_tokens": 4});
    let with = |mut body: Value, more: Value| {
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let stream = json!({"stream": true});
    let tool = json!({"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}});
    let text = json!({"prompt": "Once", "max_tokens": 4});
    let respond = json!({"input": "Hi", "max_output_tokens": 4});
    let log_probs = json!({"logprobs": true, "top_logprobs": 2, "return_progress": true, "timings_per_token": true, "n": 2});
    let options = json!({"num_predict": 4, "temperature": 0});
    let ollama = json!({"model": "bise-tiny", "messages": talk, "options": options});
    let generate = json!({"model": "bise-tiny", "prompt": "Hi", "options": options});
    vec![
        ("/v1/chat/completions", chat.clone(), 200),
        ("/v1/chat/completions", with(chat.clone(), log_probs.clone()), 200),
        (
            "/v1/chat/completions",
            with(
                with(chat.clone(), log_probs),
                json!({"stream": true, "stream_options": {"include_usage": true}}),
            ),
            200,
        ),
        (
            "/chat/completions",
            with(chat.clone(), json!({"tools": [tool], "tool_choice": "required", "max_tokens": 60})),
            200,
        ),
        (
            "/chat/completions",
            with(
                chat.clone(),
                json!({"tools": [tool], "tool_choice": "required", "max_tokens": 60, "stream": true}),
            ),
            200,
        ),
        ("/v1/chat/completions", json!({"messages": 7}), 400),
        ("/v1/chat/completions/input_tokens", chat.clone(), 200),
        ("/chat/completions/input_tokens", chat.clone(), 200),
        ("/apply-template", chat.clone(), 200),
        ("/v1/completions", text.clone(), 200),
        ("/v1/completions", with(text.clone(), json!({"logprobs": 2, "n": 2, "echo": true})), 200),
        ("/v1/completions", with(text.clone(), json!({"stream": true, "logprobs": 2})), 200),
        ("/v1/completions", json!({"prompt": "x", "n": 0}), 400),
        ("/v1/completions", json!({"prompt": "x", "suffix": "y"}), 400),
        ("/completion", text.clone(), 200),
        (
            "/completion",
            with(text.clone(), json!({"n_probs": 2, "return_tokens": true, "prompt": ["a", "b"]})),
            200,
        ),
        (
            "/completion",
            with(
                text.clone(),
                json!({"n_probs": 2, "post_sampling_probs": true, "stream": true, "return_progress": true}),
            ),
            200,
        ),
        ("/completion", with(text.clone(), json!({"response_fields": ["content"]})), 200),
        ("/completions", with(text.clone(), stream.clone()), 200),
        ("/tokenize", json!({"content": "Once é", "with_pieces": true}), 200),
        ("/tokenize", json!({"content": ["Once", 3]}), 200),
        ("/detokenize", json!({"tokens": [3, 4]}), 200),
        ("/detokenize", json!({"tokens": [-3]}), 400),
        ("/v1/embeddings", json!({"input": ["a", "b"]}), 200),
        ("/v1/embeddings", json!({"input": "a", "encoding_format": "base64"}), 200),
        ("/embedding", json!({"content": "a"}), 200),
        ("/embeddings", json!({"content": ["a", [3, 4]]}), 200),
        ("/embeddings", json!({"input": ["a", [3, 4]]}), 200),
        ("/v1/responses", respond.clone(), 200),
        ("/responses", with(respond.clone(), stream.clone()), 200),
        ("/v1/responses", json!({}), 400),
        ("/v1/responses/input_tokens", respond.clone(), 200),
        ("/responses/input_tokens", respond, 200),
        ("/v1/messages", chat.clone(), 200),
        ("/v1/messages", with(chat.clone(), stream), 200),
        ("/v1/messages", json!({"messages": talk}), 400),
        ("/v1/messages/count_tokens", chat, 200),
        ("/api/chat", ollama.clone(), 200),
        (
            "/api/chat",
            with(ollama.clone(), json!({"stream": false, "logprobs": true, "top_logprobs": 2})),
            200,
        ),
        ("/api/chat", with(ollama, json!({"model": "unknown"})), 404),
        ("/api/chat", json!({"model": "bise-tiny"}), 200),
        ("/api/generate", generate.clone(), 200),
        ("/api/generate", with(generate.clone(), json!({"stream": false})), 200),
        ("/api/generate", with(generate, json!({"think": "hard"})), 400),
        ("/api/embed", json!({"model": "bise-tiny", "input": ["a", "b"]}), 200),
        ("/api/embed", json!({"model": "bise-tiny"}), 200),
        ("/api/embeddings", json!({"model": "bise-tiny", "prompt": "a"}), 200),
        ("/api/show", json!({"model": "bise-tiny"}), 200),
        ("/api/show", json!({"name": "bise-tiny", "verbose": true}), 200),
        ("/props", json!({}), 200),
        ("/lora-adapters", json!([]), 200),
        ("/lora-adapters", json!([{"id": 0, "scale": 0.5}]), 200),
        ("/lora-adapters", json!([{"id": 7, "scale": 1}]), 400),
        ("/lora-adapters/load", json!({"path": "b.gguf", "name": "b", "scale": 0.25}), 200),
        ("/lora-adapters/load", json!({"path": "../a.gguf"}), 400),
        ("/completion", with(text, json!({"lora": [{"id": 0, "scale": 1}, {"id": 1, "scale": -0.5}]})), 200),
        ("/lora-adapters/unload", json!({"id": 1}), 200),
        ("/lora-adapters/unload", json!({"id": 1}), 400),
    ]
}

#[test]
fn responses_are_as_described() {
    let adapters = Adapters::new();
    let [lora, lora_dir] = adapters.flags();
    let flags = ["--alias", "bise-tiny", "--chat-template", "mistral-v3", "--props", &lora, &lora_dir];
    let server = Server::greedy(&flags);
    let document = Document::of(&server);
    let mut tried = BTreeSet::new();
    for (path, body, status) in requests() {
        let response = server.post(&concrete(path), &body);
        assert_eq!(response.status, status, "{path} {body}: {}", response.body);
        document.assert_describes(path, "post", &response);
        tried.insert(("post", path));
    }
    for path in document.paths().keys() {
        let methods = document.paths()[path].as_object().unwrap();
        if methods.contains_key("get") {
            let name = if path.starts_with("/ui") { "style.css" } else { "bise-tiny" };
            let response = server.get(&path.replace("{name}", name));
            // What one model has no use for.
            let status = if path == "/models/sse" { 501 } else { 200 };
            assert_eq!(response.status, status, "{path}: {}", response.body);
            document.assert_describes(path, "get", &response);
        }
        if methods.contains_key("post") {
            assert!(tried.contains(&("post", &**path)), "{path} is tried with nothing");
        }
    }
    document.assert_describes("/v1/models/{name}", "get", &server.get("/v1/models/unknown"));
    let paged = server.send("GET", "/v1/models?limit=1", &[("anthropic-version", "2023-06-01")], "");
    assert_eq!(paged.json()["has_more"], false);
    document.assert_describes("/v1/models", "get", &paged);
    let page = server.send("GET", "/", &[("accept", "text/html")], "");
    document.assert_describes("/", "get", &page);
    for (path, body) in [("/v1/messages", "{"), ("/api/chat", "{"), ("/tokenize", "{")] {
        let malformed = server.send("POST", path, &[("content-type", "application/json")], body);
        assert_eq!(malformed.status, 400);
        document.assert_describes(path, "post", &malformed);
        let plain = server.send("POST", path, &[("content-type", "text/plain")], "{}");
        assert_eq!(plain.status, 415);
        document.assert_describes(path, "post", &plain);
        let foreign = server.send("POST", path, &[("origin", "http://evil.com")], "{}");
        assert_eq!(foreign.status, 403);
        document.assert_describes(path, "post", &foreign);
    }
}

#[test]
fn other_methods_than_those_described_are_not_allowed() {
    let server = Server::greedy(&[]);
    let document = Document::of(&server);
    for (path, operations) in document.paths() {
        let concrete = concrete(path);
        let mut described: BTreeSet<String> =
            operations.as_object().unwrap().keys().map(|m| m.to_uppercase()).collect();
        if described.contains("GET") {
            described.insert("HEAD".to_owned());
        }
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "TRACE"] {
            if described.contains(method) {
                continue;
            }
            let response = server.send(method, &concrete, &[], "");
            assert_eq!(response.status, 405, "{method} {path}: {}", response.body);
            let allowed = response.header("allow").unwrap().split(',').map(str::to_owned);
            assert_eq!(allowed.collect::<BTreeSet<_>>(), described, "{path}");
        }
    }
}

#[test]
fn keys_are_asked_for_where_the_description_says_so() {
    let server = Server::greedy(&["--api-key", "secret"]);
    let document = Document::of(&server);
    for (path, operations) in document.paths() {
        for (method, operation) in operations.as_object().unwrap() {
            let concrete = concrete(path);
            let response =
                server.send(&method.to_uppercase(), &concrete, &[("content-type", "application/json")], "{}");
            let wants_key = operation.get("security").is_some();
            assert_eq!(response.status == 401, wants_key, "{method} {path}: {}", response.body);
            // What answers HEAD has no body.
            if wants_key && method != "head" {
                document.assert_describes(path, method, &response);
            }
        }
    }
}

/// A field that has another type than the description says is refused, and the message names it: so every field that is described is one that
/// the server reads.
#[test]
fn fields_of_other_types_are_refused_by_name() {
    let adapters = Adapters::new();
    let [lora, lora_dir] = adapters.flags();
    let server = Server::greedy(&["--alias", "bise-tiny", &lora, &lora_dir]);
    let document = Document::of(&server);
    let (mut n_fields, mut taken) = (0, Vec::new());
    for (path, operations) in document.paths() {
        let Some(schema) =
            operations["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str()
        else {
            continue;
        };
        let name = schema.rsplit('/').next().unwrap();
        // No object, and so without fields.
        if name == "AdapterScales" {
            continue;
        }
        let (_, base, _) =
            requests().into_iter().find(|(tried, _, status)| tried == path && *status == 200).unwrap();
        document.assert_fits(&Document::schema(name), &base, name);
        let properties = document.0["components"]["schemas"][name]["properties"].as_object().unwrap();
        for (field, schema) in properties {
            let validator = document.validator(schema);
            let wrong = [json!({"a": [1]}), json!([[true]]), json!(7.5), json!("\u{1}?")];
            let Some(wrong) = wrong.into_iter().find(|wrong| !validator.is_valid(wrong)) else { continue };
            let mut body = base.clone();
            body[field] = wrong;
            let response = server.post(path, &body);
            if response.status == 400 && response.body.contains(&**field) {
                document.assert_describes(path, "post", &response);
            } else {
                taken.push(format!("{path} {field}: {body}: {} {}", response.status, response.body));
            }
            n_fields += 1;
        }
    }
    assert!(taken.is_empty(), "{}", taken.join("\n"));
    assert!(n_fields > 300, "{n_fields} fields");
}
