//! Requests of all interfaces.

use serde_json::{Value, json};

/// A request.
#[derive(Clone, Debug)]
pub struct Case {
    pub path: &'static str,
    pub body: String,
}

impl Case {
    /// A name for what is asked.
    pub fn key(&self) -> String {
        format!("{} {}", self.path, self.body)
    }
}

/// Numbers that are the same in every run.
pub struct Random(u32);

impl Random {
    pub fn new(seed: u32) -> Random {
        let mut random = Random(seed);
        (0..3).for_each(|_| random.step());
        random
    }

    fn step(&mut self) {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.step();
        (self.0 >> 8) as usize % n
    }

    pub fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// Texts that begin alike, so that the prefix cache has something to find.
fn text(random: &mut Random) -> String {
    let story = "Once upon a time there was a little girl who lived with her cat in a house by the sea. ";
    let n = [0, 0, 1, 2, 8][random.below(5)];
    let ends = ["One day", "The cat", "She said", "Tim and Hugo", "A dog ran to", "The old man"];
    format!("{}{}", story.repeat(n), random.of(&ends))
}

/// A request like many that are sent to servers; some of them make no sense.
pub fn case(random: &mut Random) -> Case {
    let (n, seed) = (1 + random.below(40), random.below(1000));
    let temperature = random.of(&[json!(0), json!(0.7), json!(1.5)]).clone();
    let stream = random.below(2) == 0;
    let text = text(random);
    let messages =
        json!([{"role": "system", "content": "You tell stories."}, {"role": "user", "content": text}]);
    let schema = json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 99}},
        "required": ["name", "age"], "additionalProperties": false});
    let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
        "properties": {"city": {"enum": ["Nice", "Arles"]}}, "required": ["city"], "additionalProperties": false}}}]);
    let options = json!({"temperature": temperature, "seed": seed, "num_predict": n});
    let completion =
        json!({"prompt": text, "n_predict": n, "seed": seed, "temperature": temperature, "stream": stream});
    let chat = json!({"messages": messages, "max_tokens": n, "seed": seed, "temperature": temperature, "stream": stream,
        "stream_options": {"include_usage": stream}});
    let with = |base: &Value, more: Value| {
        let mut base = base.clone();
        base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        base
    };
    let (path, body) = match random.below(30) {
        0..=2 => ("/completion", completion),
        3 => ("/completion", with(&completion, json!({"n_probs": 5, "stop": ["the", "."]}))),
        4 => ("/completion", with(&completion, json!({"n": 3}))),
        5 => (
            "/completion",
            with(&completion, json!({"prompt": [1, 300 + seed, 400, 500], "return_tokens": true})),
        ),
        6 => ("/completion", with(&completion, json!({"grammar": "root ::= (\"yes\" | \"no\") [a-z]{3}"}))),
        7 => ("/completion", with(&completion, json!({"json_schema": schema, "n_predict": 60}))),
        8 => (
            "/v1/completions",
            json!({"prompt": [text, "The end"], "max_tokens": n, "seed": seed, "temperature": temperature, "stream": stream, "n": 2}),
        ),
        9 => (
            "/v1/completions",
            json!({"prompt": text, "max_tokens": n, "seed": seed, "temperature": temperature, "stream": stream, "logprobs": 3}),
        ),
        10..=12 => ("/v1/chat/completions", chat),
        13 => ("/v1/chat/completions", with(&chat, json!({"n": 3, "logprobs": true, "top_logprobs": 2}))),
        14 => (
            "/v1/chat/completions",
            with(
                &chat,
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, "max_tokens": 60}),
            ),
        ),
        15 => (
            "/v1/chat/completions",
            with(&chat, json!({"tools": tools, "tool_choice": "required", "max_tokens": 100})),
        ),
        16 => (
            "/v1/responses",
            json!({"input": text, "max_output_tokens": n.max(16), "temperature": 0, "stream": stream, "store": false}),
        ),
        17 => (
            "/v1/messages",
            json!({"model": "mistral", "messages": [{"role": "user", "content": text}], "max_tokens": n, "temperature": 0, "stream": stream}),
        ),
        18 => (
            "/api/chat",
            json!({"model": "mistral", "messages": messages, "options": options, "stream": stream}),
        ),
        19 => (
            "/api/generate",
            json!({"model": "mistral", "prompt": text, "raw": true, "options": options, "stream": stream}),
        ),
        20 => (
            "/api/generate",
            json!({"model": "mistral", "prompt": text, "format": schema, "options": with(&options, json!({"num_predict": 60})), "stream": stream}),
        ),
        21 => ("/v1/embeddings", json!({"input": [text, "A cat.", "The sea"]})),
        22 => ("/api/embed", json!({"model": "mistral", "input": [text, "x"]})),
        23 => ("/embedding", json!({"content": text})),
        24 => ("/tokenize", json!({"content": text, "with_pieces": true})),
        25 => (
            "/v1/chat/completions",
            with(&chat, json!({"messages": [{"role": "user", "content": "too long ".repeat(400)}]})),
        ),
        26 => ("/completion", with(&completion, json!({"temperature": "hot"}))),
        27 => ("/v1/messages", json!({"messages": "none"})),
        28 => return Case { path: "/api/chat", body: "{\"model\": \"mistral\", \"messages\": [".to_owned() },
        // Until the context is full.
        _ => {
            ("/completion", with(&completion, json!({"n_predict": -1, "ignore_eos": true, "prompt": "The"})))
        }
    };
    Case { path, body: body.to_string() }
}
