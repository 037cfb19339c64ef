//! What editors and chat programs ask of a server, and what they read of its answers.
//!
//! The requests in `tests/programs` are written from the programs' sources, which each file names; they are not recorded. The JSON schemas
//! beside them are what the sources read: fields that the program does without are not required.

#![cfg(all(feature = "cli", feature = "server", feature = "builtin-model"))]

mod serve_support;

use serde_json::{Value, json};
use serve_support::{Response, Server};

/// Answers of chats whose length a program leaves open have so many tokens here.
const LENGTH: u32 = 6;

/// A request of a program, and what it does with the answer.
struct Step<'a> {
    of: String,
    json: &'a Value,
}

impl Step<'_> {
    fn send(&self, server: &Server) -> Response {
        let method = self.json["method"].as_str().unwrap();
        let headers = self.json["headers"].as_object();
        let headers: Vec<(&str, &str)> =
            headers.into_iter().flatten().map(|(name, value)| (&**name, value.as_str().unwrap())).collect();
        let mut body = self.json["body"].clone();
        if let Some(limit) = self.json["limit"].as_str() {
            let field = limit.split('.').fold(&mut body, |object, name| &mut object[name]);
            *field = LENGTH.into();
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        server.send(method, self.json["path"].as_str().unwrap(), &headers, &body)
    }

    fn check(&self, response: &Response) {
        let of = &self.of;
        assert_eq!(
            response.status,
            self.json["status"].as_u64().unwrap_or(200) as u16,
            "{of}: {}",
            response.body
        );
        let kind = |name| self.json.get(name).is_some();
        let content_type = match (kind("lines"), kind("events")) {
            (true, _) => "application/x-ndjson",
            (_, true) => "text/event-stream",
            _ => "application/json",
        };
        assert_eq!(response.header("content-type"), Some(content_type), "{of}");
        if let Some(id) = self.json["request_id"].as_str() {
            assert_eq!(response.header("x-request-id"), Some(id), "{of}");
        }
        if kind("answer") {
            self.check_part("answer", &response.json());
            return;
        }
        let read =
            |part: &str| serde_json::from_str(part).unwrap_or_else(|error| panic!("{of}: {error}: {part}"));
        let parts: Vec<Value> = if kind("lines") {
            response.body.lines().map(read).collect()
        } else {
            let mut events = response.events();
            // llama-server's own interface has none.
            let is_completion = self.json["path"] == "/completion";
            assert!(is_completion || events.pop() == Some("[DONE]"), "{of}: {}", response.body);
            events.into_iter().map(read).collect()
        };
        let each = if kind("lines") { "lines" } else { "events" };
        assert!(parts.len() > 1, "{of}: {}", response.body);
        parts.iter().for_each(|part| self.check_part(each, part));
        self.check_part("last", parts.last().unwrap());
    }

    fn check_part(&self, name: &str, part: &Value) {
        let schema = jsonschema::draft202012::new(&self.json[name]).unwrap();
        if let Err(error) = schema.validate(part) {
            panic!("{}, {name}: {error} at {}: {part}", self.of, error.instance_path());
        }
    }
}

/// Sends what a program sends.
fn replay(server: &Server, program: &str) {
    let program: Value = serde_json::from_str(program).unwrap();
    let name = program["program"].as_str().unwrap();
    assert!(!program["written_from"].as_array().unwrap().is_empty(), "{name}");
    for (i, json) in program["steps"].as_array().unwrap().iter().enumerate() {
        let step = Step { of: format!("{name}, step {i}: {}", json["path"]), json };
        step.check(&step.send(server));
    }
}

macro_rules! programs {
    ($($name:ident)*) => {
        #[test]
        fn programs_find_what_they_look_for() {
            let server = Server::mistral(&["--chat-template", "mistral-v3"]);
            $(replay(&server, include_str!(concat!("programs/", stringify!($name), ".json")));)*
        }
    };
}

programs! { aider_litellm cline_and_roo continue open_webui vscode_copilot zed }

/// The schemas are not such that everything fits.
#[test]
fn answers_that_a_program_cannot_read_are_noticed() {
    let zed: Value = serde_json::from_str(include_str!("programs/zed.json")).unwrap();
    let step = Step { of: String::new(), json: &zed["steps"][0] };
    let tags = json!({"models": [{"name": "mistral:latest", "modified_at": "x", "size": 1, "digest": "x", "details":
        {"format": "gguf", "family": "llama", "parameter_size": "7B"}}]});
    let outcome = std::panic::catch_unwind(|| step.check_part("answer", &tags));
    assert!(outcome.unwrap_err().downcast_ref::<String>().unwrap().contains("quantization_level"));
}
