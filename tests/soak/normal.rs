//! Answers without what may differ from one time to the next.

use serde_json::Value;

use crate::serve_support::Response;

/// Fields that tell when, where and how an answer was made.
const PASSING: [&str; 19] = [
    "id",
    "item_id",
    "response_id",
    "created",
    "created_at",
    "completed_at",
    "timings",
    "id_slot",
    "total_duration",
    "load_duration",
    "prompt_eval_duration",
    "eval_duration",
    "cached_tokens",
    "cache_read_input_tokens",
    // Anthropic's are those that were not cached.
    "input_tokens",
    "cache_creation_input_tokens",
    "total_tokens",
    "cache_n",
    "cache_prompt",
];

/// The status, and what the response says. Events of several answers to one request come as each is ready: here those of one stand together.
pub fn normal(response: &Response) -> (u16, Value) {
    let mut values = match response.header("content-type") {
        Some("text/event-stream") => {
            let events = response.events().into_iter().filter(|event| *event != "[DONE]");
            events.map(parse).collect()
        }
        Some("application/x-ndjson") => response.body.lines().map(parse).collect(),
        _ => vec![parse(&response.body)],
    };
    // Anthropic's signs of life come where nothing else does for a while.
    values.retain(|value| value["type"] != "ping");
    values.iter_mut().for_each(strip);
    // It stands with the answer that is over last.
    let chunks = values.iter_mut().filter(|value| value["object"] == "text_completion");
    let usage: Vec<Value> = chunks.filter_map(|chunk| chunk.as_object_mut()?.remove("usage")).collect();
    values.extend(usage);
    values.sort_by_key(|event| {
        let choice = event["choices"].get(0).map(|choice| &choice["index"]);
        let of_completion = event.get("stop").map(|_| &event["index"]);
        choice.or(of_completion).and_then(Value::as_u64).unwrap_or(u64::MAX)
    });
    (response.status, Value::Array(values))
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

fn strip(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Object(fields) => {
            fields.retain(|name, _| !PASSING.contains(&name.as_str()));
            fields.values_mut().for_each(strip);
        }
        _ => {}
    }
}

/// Where two answers first differ, and how.
pub fn difference(a: &Value, b: &Value) -> Option<String> {
    let inside = |at: String, inner: Option<String>| inner.map(|inner| format!("/{at}{inner}"));
    match (a, b) {
        _ if a == b => None,
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            let mut pairs = x.iter().zip(y).enumerate();
            pairs.find_map(|(i, (x, y))| inside(i.to_string(), difference(x, y)))
        }
        (Value::Object(x), Value::Object(y)) if x.keys().eq(y.keys()) => {
            x.keys().find_map(|name| inside(name.clone(), difference(&x[name], &y[name])))
        }
        _ => Some(format!(": {a}, and alone {b}").chars().take(2000).collect()),
    }
}
