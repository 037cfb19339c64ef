//! Ollama's interface of `bise serve`, as its clients use it.

mod serve_support;

use serde_json::{Value, json};
use serve_support::Server;

/// Names the model as Ollama's clients do.
const MODEL: &str = "mistral";

fn greedy(n: usize) -> Value {
    json!({"temperature": 0, "num_predict": n})
}

/// The lines of a stream.
fn lines(server: &Server, path: &str, request: &Value) -> Vec<Value> {
    let answer = server.send("POST", path, &[], &request.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    answer.body.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

fn error(server: &Server, path: &str, request: &Value) -> (u16, String) {
    let (status, body) = server.post_json(path, request);
    let fields = body.as_object().expect("an object");
    assert_eq!(fields.len(), 1, "{body}");
    (status, body["error"].as_str().expect("a text").to_owned())
}

#[test]
fn the_root_and_the_version() {
    let server = Server::mistral(&[]);
    let root = server.send("GET", "/", &[], "");
    assert_eq!((root.status, root.body.as_str()), (200, "Ollama is running"));
    let head = server.send("HEAD", "/", &[], "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let (status, version) = server.get_json("/api/version");
    assert_eq!(status, 200);
    let version = version["version"].as_str().unwrap();
    let numbers: Vec<u32> = version.split('.').map(|number| number.parse().expect("a number")).collect();
    assert!(numbers >= vec![0, 6, 4], "VS Code asks for 0.6.4 or later, found {version}");
    assert_eq!(server.send("HEAD", "/api/version", &[], "").status, 200);
    assert_eq!(server.send("HEAD", "/api/tags", &[], "").status, 200);
}

#[test]
fn models_are_listed_and_described() {
    let server = Server::mistral(&["--ollama-version", "9.9.9"]);
    assert_eq!(server.get_json("/api/version").1, json!({"version": "9.9.9"}));
    let (_, tags) = server.get_json("/api/tags");
    let model = &tags["models"][0];
    assert_eq!((&model["name"], &model["model"]), (&json!("mistral:latest"), &json!("mistral:latest")));
    assert_eq!(model["details"]["family"], "llama");
    assert_eq!(model["details"]["families"], json!(["llama"]));
    assert_eq!(model["details"]["format"], "gguf");
    assert_eq!(model["details"]["parameter_size"], "8.13M");
    assert_eq!(model["details"]["quantization_level"], "Q4_K_M");
    assert_eq!(model["size"], 5_175_936);
    assert_eq!(model["digest"].as_str().unwrap().len(), 64);
    assert!(model["modified_at"].as_str().unwrap().ends_with('Z'));
    let (_, ps) = server.get_json("/api/ps");
    let loaded = &ps["models"][0];
    assert_eq!(loaded["name"], "mistral:latest");
    assert_eq!(loaded["digest"], model["digest"]);
    assert!(loaded["expires_at"].as_str().unwrap() > "2100");
    assert!(loaded["size"].as_u64().unwrap() > 5_000_000 && loaded["size_vram"] == 0);
    assert!(loaded["context_length"].as_u64().unwrap() > 0);

    for name in ["mistral", "mistral:latest"] {
        let (status, shown) = server.post_json("/api/show", &json!({ "model": name }));
        assert_eq!(status, 200, "{shown}");
        assert_eq!(shown["capabilities"], json!(["completion"]));
        assert_eq!(shown["model_info"]["general.architecture"], "llama");
        assert_eq!(shown["model_info"]["llama.context_length"], 2048);
        assert_eq!(shown["model_info"]["general.parameter_count"], 8_130_816);
        assert_eq!(shown["model_info"]["general.basename"], name);
        assert_eq!(shown["model_info"]["tokenizer.ggml.tokens"], json!([]));
        assert!(shown["template"].as_str().unwrap().contains("[INST]"));
        assert!(shown["parameters"].as_str().unwrap().starts_with("num_ctx "));
        assert!(shown["modelfile"].as_str().unwrap().contains("FROM mistral"));
        assert_eq!(shown["license"], "apache-2.0");
        assert_eq!(shown["details"], model["details"]);
    }
    let (_, verbose) = server.post_json("/api/show", &json!({"name": "mistral", "verbose": true}));
    assert_eq!(verbose["model_info"]["tokenizer.ggml.tokens"].as_array().unwrap().len(), 4096);
}

#[test]
fn a_chat_as_it_comes_and_as_a_whole() {
    let server = Server::mistral(&[]);
    let mut request = json!({
        "model": MODEL, "messages": [{"role": "user", "content": "Tell me a story about a cat."}], "options": greedy(20),
        "tools": [],
    });
    let lines = lines(&server, "/api/chat", &request);
    let (last, rest) = lines.split_last().unwrap();
    let mut text = String::new();
    for line in rest {
        assert_eq!(
            (&line["model"], &line["done"], &line["message"]["role"]),
            (&json!(MODEL), &json!(false), &json!("assistant"))
        );
        assert!(line.get("done_reason").is_none() && line.get("eval_count").is_none());
        text += line["message"]["content"].as_str().unwrap();
    }
    assert!(text.len() > 20, "{text:?}");
    assert_eq!(
        (&last["done"], &last["done_reason"], &last["eval_count"]),
        (&json!(true), &json!("length"), &json!(20))
    );
    assert!(last["prompt_eval_count"].as_u64().unwrap() > 5);
    for duration in ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration"] {
        assert!(last[duration].is_u64(), "{duration}: {last}");
    }
    assert!(last["total_duration"].as_u64() >= last["eval_duration"].as_u64());

    request["stream"] = json!(false);
    let (status, whole) = server.post_json("/api/chat", &request);
    assert_eq!(status, 200);
    assert_eq!(whole["message"], json!({"role": "assistant", "content": text}));
    assert_eq!(
        (&whole["done"], &whole["done_reason"], &whole["eval_count"]),
        (&json!(true), &json!("length"), &json!(20))
    );
    // The same model by its OpenAI name says the same.
    let (_, openai) = server.post_json(
        "/v1/chat/completions",
        &json!({"model": MODEL, "messages": request["messages"], "max_tokens": 20, "temperature": 0}),
    );
    assert_eq!(openai["choices"][0]["message"]["content"], text);
}

#[test]
fn a_text_raw_or_with_the_template_and_its_conversation() {
    let server = Server::mistral(&[]);
    let raw = json!({"model": MODEL, "prompt": "Once upon a time", "raw": true, "options": greedy(12), "stream": false});
    let (_, answer) = server.post_json("/api/generate", &raw);
    let (_, completion) = server
        .post_json("/completion", &json!({"prompt": "Once upon a time", "n_predict": 12, "temperature": 0}));
    assert_eq!(answer["response"], completion["content"]);
    assert!(answer.get("context").is_none() && answer.get("message").is_none());

    let templated = json!({"model": MODEL, "prompt": "Who is Tim?", "system": "Be brief.", "options": greedy(12), "stream": false});
    let (_, first) = server.post_json("/api/generate", &templated);
    let messages =
        json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who is Tim?"}]);
    let (_, chat) = server.post_json(
        "/api/chat",
        &json!({"model": MODEL, "messages": messages, "options": greedy(12), "stream": false}),
    );
    assert_eq!(first["response"], chat["message"]["content"]);
    let context = first["context"].as_array().unwrap();
    // The token that ends an answer is counted, and is none of the text.
    let n_text = first["eval_count"].as_u64().unwrap() - u64::from(first["done_reason"] == "stop");
    assert_eq!(context.len() as u64, first["prompt_eval_count"].as_u64().unwrap() + n_text);

    let second = json!({"model": MODEL, "prompt": "And then?", "context": context, "options": greedy(8), "stream": false});
    let (_, second) = server.post_json("/api/generate", &second);
    assert!(second["prompt_eval_count"].as_u64().unwrap() as usize > context.len());
    let more = second["context"].as_array().unwrap();
    assert_eq!(&more[..context.len()], &context[..], "the conversation goes on");
    let (_, text) = server.post_json("/detokenize", &json!({ "tokens": more }));
    assert_eq!(text["content"].as_str().unwrap().matches("<s>").count(), 1, "{text}");

    // A stream of it has the context in its last line alone.
    let mut streamed = templated;
    streamed["stream"] = json!(true);
    let lines = lines(&server, "/api/generate", &streamed);
    assert_eq!(lines.iter().filter(|line| line.get("context").is_some()).count(), 1);
    assert_eq!(lines.last().unwrap()["context"], first["context"]);
}

#[test]
fn options_decide_how_tokens_are_chosen() {
    let server = Server::mistral(&[]);
    let text = |options: Value| {
        let request =
            json!({"model": MODEL, "prompt": "Once", "raw": true, "stream": false, "options": options});
        let (status, answer) = server.post_json("/api/generate", &request);
        assert_eq!(status, 200, "{answer}");
        answer["response"].as_str().unwrap().to_owned()
    };
    let seeded = json!({"seed": 7, "temperature": 1.5, "num_predict": 16});
    assert_eq!(text(seeded.clone()), text(seeded));
    // A top_k of 1 leaves nothing to chance, whatever the temperature.
    let greedy_text = text(greedy(16));
    assert_eq!(text(json!({"top_k": 1, "temperature": 5, "num_predict": 16})), greedy_text);
    // Unknown options, those of the start, and null are no error.
    assert_eq!(
        text(
            json!({"temperature": 0, "num_predict": 16, "num_gpu": 1, "mystery": "x", "top_p": null, "num_ctx": 512})
        ),
        greedy_text
    );
    let word = greedy_text.split_whitespace().nth(3).unwrap();
    let request = json!({"model": MODEL, "prompt": "Once", "raw": true, "stream": false,
        "options": {"temperature": 0, "num_predict": 16, "stop": [word]}});
    let (_, stopped) = server.post_json("/api/generate", &request);
    assert_eq!(stopped["done_reason"], "stop");
    assert_eq!(stopped["response"].as_str().unwrap(), greedy_text.split(word).next().unwrap());
}

#[test]
fn answers_follow_a_format() {
    let server = Server::mistral(&[]);
    let schema = json!({"type": "object", "properties": {"legs": {"enum": [2, 4]}}, "required": ["legs"], "additionalProperties": false});
    for seed in 0..3 {
        let request = json!({
            "model": MODEL, "messages": [{"role": "user", "content": "A cat."}], "stream": false, "format": schema,
            "options": {"temperature": 1.5, "seed": seed, "num_predict": 100},
        });
        let (status, answer) = server.post_json("/api/chat", &request);
        assert_eq!(status, 200, "{answer}");
        let pet: Value = serde_json::from_str(answer["message"]["content"].as_str().unwrap()).expect("JSON");
        assert!(pet == json!({"legs": 2}) || pet == json!({"legs": 4}), "{pet}");
        assert_eq!(answer["done_reason"], "stop");
    }
    let request = json!({"model": MODEL, "prompt": "A cat.", "stream": false, "format": "json",
        "options": {"temperature": 1, "seed": 1, "num_predict": 200}});
    let (_, answer) = server.post_json("/api/generate", &request);
    if answer["done_reason"] == "stop" {
        let value: Value = serde_json::from_str(answer["response"].as_str().unwrap()).expect("JSON");
        assert!(value.is_object(), "{value}");
    }
}

#[test]
fn log_probabilities_are_told() {
    let server = Server::mistral(&[]);
    let request = json!({"model": MODEL, "prompt": "Once", "raw": true, "stream": false, "logprobs": true, "top_logprobs": 3,
        "options": greedy(5)});
    let (_, answer) = server.post_json("/api/generate", &request);
    let tokens = answer["logprobs"].as_array().unwrap();
    assert_eq!(tokens.len(), 5);
    for token in tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(
            (top.len(), &top[0]["token"], &top[0]["logprob"]),
            (3, &token["token"], &token["logprob"])
        );
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
        assert!(top[1]["logprob"].as_f64() <= top[0]["logprob"].as_f64());
    }
    let text: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(text.trim_start(), answer["response"].as_str().unwrap().trim_start());
}

#[test]
fn texts_are_embedded() {
    let server = Server::mistral(&[]);
    // langchain-ollama sends its options, all of them null.
    let options =
        json!({"mirostat": null, "num_ctx": null, "stop": null, "tfs_z": null, "temperature": null});
    let request =
        json!({"model": MODEL, "input": ["a cat", "a dog", "a cat"], "options": options, "keep_alive": null});
    let (status, answer) = server.post_json("/api/embed", &request);
    assert_eq!(status, 200, "{answer}");
    let vectors = answer["embeddings"].as_array().unwrap();
    assert_eq!((vectors.len(), vectors[0].as_array().unwrap().len()), (3, 256));
    assert!(vectors[0] == vectors[2] && vectors[0] != vectors[1]);
    assert!(answer["prompt_eval_count"].as_u64().unwrap() > 5 && answer["total_duration"].is_u64());
    let (_, openai) = server.post_json("/v1/embeddings", &json!({"model": MODEL, "input": "a cat"}));
    assert_eq!(openai["data"][0]["embedding"], vectors[0]);
    let (_, old) = server.post_json("/api/embeddings", &json!({"model": MODEL, "prompt": "a cat"}));
    assert_eq!(old, json!({"embedding": vectors[0]}));

    let (_, short) =
        server.post_json("/api/embed", &json!({"model": MODEL, "input": "a cat", "dimensions": 8}));
    let short: Vec<f64> =
        short["embeddings"][0].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    assert_eq!(short.len(), 8);
    assert!((short.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5);
    let (_, none) = server.post_json("/api/embed", &json!({"model": MODEL, "input": []}));
    assert_eq!(none["embeddings"], json!([]));

    // Nothing is cut unless it is asked for.
    let long = json!({"model": MODEL, "input": "cat ".repeat(5000)});
    let (status, message) = error(&server, "/api/embed", &long);
    assert!(status == 400 && message.contains("tokens"), "{status} {message}");
    let cut = json!({"model": MODEL, "input": long["input"], "truncate": true});
    let (status, answer) = server.post_json("/api/embed", &cut);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn models_are_loaded_and_unloaded() {
    let server = Server::mistral(&[]);
    let (_, loaded) = server.post_json("/api/chat", &json!({"model": MODEL, "messages": []}));
    assert_eq!((&loaded["done"], &loaded["done_reason"]), (&json!(true), &json!("load")));
    assert_eq!(loaded["message"], json!({"role": "assistant", "content": ""}));
    let (_, unloaded) = server.post_json("/api/generate", &json!({"model": MODEL, "keep_alive": 0}));
    assert_eq!((&unloaded["done_reason"], &unloaded["response"]), (&json!("unload"), &json!("")));
    let n_loaded = || server.get_json("/api/ps").1["models"].as_array().unwrap().len();
    serve_support::eventually("the model is out of memory", || n_loaded() == 0);
    // It is told about all the same, and comes back by itself.
    assert_eq!(server.get_json("/api/tags").1["models"].as_array().unwrap().len(), 1);
    assert_eq!(server.post_json("/api/show", &json!({"model": MODEL})).0, 200);
    let request = json!({"model": MODEL, "prompt": "Once", "raw": true, "stream": false, "options": greedy(2), "keep_alive": "300ms"});
    let (status, answer) = server.post_json("/api/generate", &request);
    assert_eq!((status, &answer["eval_count"]), (200, &json!(2)));
    assert_eq!(n_loaded(), 1);
    let expires = server.get_json("/api/ps").1["models"][0]["expires_at"].as_str().unwrap().to_owned();
    assert!(expires.as_str() < "2100", "{expires}");
    serve_support::eventually("the model has left memory by itself", || n_loaded() == 0);
    // For ever, again.
    server.post_json("/api/generate", &json!({"model": MODEL, "keep_alive": -1}));
    let expires = server.get_json("/api/ps").1["models"][0]["expires_at"].as_str().unwrap().to_owned();
    assert!(expires.as_str() > "2100", "{expires}");
}

#[test]
fn what_is_wrong_is_said_in_ollamas_form() {
    let server = Server::mistral(&[]);
    let talk = json!([{"role": "user", "content": "Hi"}]);
    for (path, request, status, words) in [
        ("/api/chat", json!({"model": "nobody", "messages": talk}), 404, "model 'nobody' not found"),
        ("/api/generate", json!({"model": "nobody:7b"}), 404, "model 'nobody:7b' not found"),
        ("/api/show", json!({"model": "../../etc/passwd"}), 404, "model '../../etc/passwd' not found"),
        ("/api/embed", json!({"model": "nobody", "input": "x"}), 404, "model 'nobody' not found"),
        ("/api/chat", json!({"messages": talk}), 400, "model is required"),
        ("/api/show", json!({}), 400, "model is required"),
        (
            "/api/chat",
            json!({"model": MODEL, "messages": talk, "think": true}),
            400,
            "\"mistral\" does not support thinking",
        ),
        ("/api/chat", json!({"model": MODEL, "messages": talk, "think": "hard"}), 400, "invalid think value"),
        (
            "/api/chat",
            json!({"model": MODEL, "messages": talk, "tools": [{"type": "function", "function": {"name": "f"}}]}),
            400,
            "\"mistral\" does not support tools",
        ),
        (
            "/api/generate",
            json!({"model": MODEL, "prompt": "x", "suffix": "y"}),
            400,
            "\"mistral\" does not support insert",
        ),
        (
            "/api/generate",
            json!({"model": MODEL, "prompt": "x", "template": "{{ .Prompt }}"}),
            400,
            "template: ",
        ),
        (
            "/api/generate",
            json!({"model": MODEL, "prompt": "x", "raw": true, "system": "y"}),
            400,
            "raw mode does not support template, system, or context",
        ),
        (
            "/api/generate",
            json!({"model": MODEL, "prompt": "x", "images": ["aGk="]}),
            400,
            "image input is not supported",
        ),
        ("/api/generate", json!({"model": MODEL, "prompt": "x", "context": [99_999_999]}), 400, "99999999"),
        (
            "/api/generate",
            json!({"model": MODEL, "prompt": "x", "format": "xml"}),
            400,
            "format: found \"xml\"",
        ),
        ("/api/generate", json!({"model": MODEL, "prompt": "x", "keep_alive": "soon"}), 400, "keep_alive"),
        ("/api/generate", json!({"model": MODEL, "prompt": "x", "shift": true}), 400, "shift: "),
        (
            "/api/generate",
            json!({"model": MODEL, "prompt": 5}),
            400,
            "prompt: found integer `5`, expected a string",
        ),
        (
            "/api/generate",
            json!({"model": MODEL, "prompt": "x", "options": {"top_k": "many"}}),
            400,
            "\"top_k\"",
        ),
        (
            "/api/generate",
            json!({"model": MODEL, "prompt": "x", "options": {"repeat_penalty": -1}}),
            400,
            "repeat_penalty",
        ),
        ("/api/generate", json!({"model": MODEL, "prompt": "cat ".repeat(4000), "raw": true}), 400, "tokens"),
        (
            "/api/chat",
            json!({"model": MODEL, "messages": [{"role": "user", "content": "?", "images": ["x"]}]}),
            400,
            "messages[0].images",
        ),
        ("/api/embed", json!({"model": MODEL, "input": [1]}), 400, "input[0]"),
    ] {
        let (found, message) = error(&server, path, &request);
        assert!(found == status && message.contains(words), "{path} {request}: {found} {message}");
    }
    // Errors before a stream begins have a status of their own, whether or not it was to be one.
    let answer = server.send("POST", "/api/chat", &[], r#"{"model": "mistral""#);
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let plain = server.send("POST", "/api/chat", &[("content-type", "text/plain")], "{}");
    assert_eq!(plain.status, 415);
    // As `curl -d` sends it, which the documentation of this interface is full of.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(server.send("POST", "/api/show", &form, r#"{"model": "mistral"}"#).status, 200);
    for host in ["evil.example", "mistral.evil.example:80"] {
        assert_eq!(server.send("GET", "/api/tags", &[("host", host)], "").status, 403, "{host}");
    }
}

#[test]
fn the_oldest_messages_are_left_out_only_where_that_is_asked_for() {
    let server = Server::mistral(&[]);
    let mut messages = vec![json!({"role": "system", "content": "Be brief."})];
    for _ in 0..40 {
        messages.push(json!({"role": "user", "content": "The cat sat by the fire and slept. ".repeat(10)}));
        messages.push(json!({"role": "assistant", "content": "Yes."}));
    }
    messages.push(json!({"role": "user", "content": "Who sat by the fire?"}));
    let mut request = json!({"model": MODEL, "messages": messages, "options": greedy(4), "stream": false});
    let (status, message) = error(&server, "/api/chat", &request);
    assert!(status == 400 && message.contains("tokens"), "{message}");
    request["truncate"] = json!(true);
    let (status, answer) = server.post_json("/api/chat", &request);
    assert_eq!(status, 200, "{answer}");
    request["_debug_render_only"] = json!(true);
    let (_, rendered) = server.post_json("/api/chat", &request);
    let prompt = rendered["_debug_info"]["rendered_template"].as_str().unwrap();
    assert!(prompt.contains("Be brief.") && prompt.contains("Who sat by the fire?"), "{prompt}");
    assert!(prompt.matches("Yes.").count() < 40);
}

/// The template of mistral-v3 takes tools: a call asked for by an earlier answer, its result, and a call that is enforced.
#[test]
fn tools_go_there_and_back() {
    let server = Server::mistral(&["--chat-template", "mistral-v3"]);
    let (_, shown) = server.post_json("/api/show", &json!({"model": MODEL}));
    assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
    let tools = json!([{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters":
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}}]);
    let messages = json!([
        {"role": "user", "content": "What is 1 and 2?"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1, "b": 2}}}]},
        {"role": "tool", "tool_name": "add", "content": "3"},
    ]);
    let request = json!({"model": MODEL, "messages": messages, "tools": tools, "options": greedy(4), "stream": false,
        "_debug_render_only": true});
    let (status, rendered) = server.post_json("/api/chat", &request);
    assert_eq!(status, 200, "{rendered}");
    let prompt = rendered["_debug_info"]["rendered_template"].as_str().unwrap();
    for part in ["[AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "\"add\""] {
        assert!(prompt.contains(part), "{part}: {prompt}");
    }
}

/// Server and clients read the same variable.
#[test]
fn ollama_host_says_where_to_listen_and_where_to_ask() {
    let program = || {
        let mut command = serve_support::command(&[]);
        // Without the flags of the tests.
        let mut bare = std::process::Command::new(command.get_program());
        bare.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command = bare;
        command.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
        command
    };
    let mut serve = program();
    serve.args(["serve", "--model", "builtin", "--alias", MODEL]).env("OLLAMA_HOST", "http://127.0.0.1:0");
    let server = Server::spawn(serve);
    let ps = program().arg("ps").env("OLLAMA_HOST", &server.address).output().unwrap();
    let text = String::from_utf8(ps.stdout).unwrap();
    assert!(text.lines().nth(1).is_some_and(|row| row.starts_with("mistral:latest ")), "{text}");
    // A flag comes first.
    let mut serve = program();
    serve.args(["serve", "--host", "127.0.0.1", "--port", "0"]).env("OLLAMA_HOST", "192.0.2.1:1");
    assert!(Server::spawn(serve).address.starts_with("127.0.0.1:"));
    for (wrong, found) in
        [("https://127.0.0.1:0", "https"), ("127.0.0.1:0/ollama", "/ollama"), ("box:many", "many")]
    {
        let ran = program().arg("serve").env("OLLAMA_HOST", wrong).output().unwrap();
        let error = String::from_utf8(ran.stderr).unwrap();
        assert!(ran.status.code() == Some(2) && error.contains(found), "{wrong}: {:?} {error}", ran.status);
    }
}
