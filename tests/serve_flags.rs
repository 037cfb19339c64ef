//! Flags of `bise serve` act on what the server does.

#![cfg(all(feature = "server", feature = "builtin-model"))]

mod serve_support;

use std::io::{Read, Write};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use serve_support::{Response, Server};

/// A file in a folder, by its path.
fn file(folder: &tempfile::TempDir, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("the folder can be written");
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn text_of(server: &Server, request: &Value) -> String {
    let (status, answer) = server.post_json("/completion", request);
    assert_eq!(status, 200, "{answer}");
    answer["content"].as_str().expect("a text").to_owned()
}

/// `message` of a chat whose answer is this text, with more fields.
fn said(server: &Server, text: &str, more: &Value) -> Value {
    let mut request = json!({"messages": [{"role": "user", "content": "Hi"}], "grammar": format!("root ::= {text:?}"), "max_tokens": 100});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, answer) = server.post_json("/v1/chat/completions", &request);
    assert_eq!(status, 200, "{answer}");
    answer["choices"][0]["message"].clone()
}

#[test]
fn flags_are_defaults_of_requests() {
    let folder = tempfile::tempdir().unwrap();
    let (keys, template) = (
        file(&folder, "keys", "one\n\n two \n"),
        file(&folder, "chat.jinja", "{% for m in messages %}{{ word }}: {{ m.content }}{% endfor %}"),
    );
    let mut command = serve_support::command(&[
        "--alias",
        "second,first",
        "--tags",
        "small, old",
        "--api-key-file",
        &keys,
        "--no-slots",
        "--no-metrics",
        "--no-ui",
        "--no-cache-prompt",
        "-n",
        "5",
        "--seed",
        "7",
        "--temp",
        "1.5",
        "--top-k",
        "30",
        "--min-p",
        "0.01",
        "-c",
        "256",
        "--parallel",
        "2",
        "--chat-template-file",
        &template,
        "--chat-template-kwargs",
        r#"{"word": "hey"}"#,
    ]);
    command.env("LLAMA_ARG_N_PREDICT", "6");
    let server = Server::spawn(command);
    let send = |method: &str, path: &str, key: &str, body: &Value| -> Response {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        server.send(method, path, &[("authorization", &format!("Bearer {key}"))], &body)
    };
    let post = |path: &str, body: Value| {
        let response = send("POST", path, "one", &body);
        assert_eq!(response.status, 200, "{path} {body}: {}", response.body);
        response.json()
    };

    // Every key of the file, and no other.
    let status = |key: &str| send("POST", "/tokenize", key, &json!({"content": "a"})).status;
    assert_eq!(["one", "two", "three", ""].map(status), [200, 200, 401, 401]);

    // Names are in the order of their letters, and any of them will do.
    let model = send("GET", "/v1/models", "one", &Value::Null).json()["data"][0].clone();
    assert_eq!((&model["id"], &model["aliases"]), (&json!("first"), &json!(["first", "second"])));
    assert_eq!(model["tags"], json!(["small", "old"]));
    let prompt = json!({"prompt": "Once upon a time", "model": "second"});
    let first = post("/completion", prompt.clone());

    // How tokens are chosen, and how many; a request has the last word.
    assert_eq!((&first["tokens_predicted"], &first["stop_type"]), (&json!(5), &json!("limit")));
    let settings = &first["generation_settings"];
    for (name, value) in
        [("n_predict", json!(5)), ("seed", json!(7)), ("temperature", json!(1.5)), ("top_k", json!(30))]
    {
        assert_eq!(settings[name], value, "{name}");
    }
    assert_eq!(post("/completion", json!({"prompt": "Once", "n_predict": 9}))["tokens_predicted"], 9);
    let long = |seed: Option<u32>| {
        let mut request = json!({"prompt": "Once upon a time", "n_predict": 40});
        seed.into_iter().for_each(|seed| request["seed"] = seed.into());
        post("/completion", request)["content"].clone()
    };
    assert_eq!(long(None), long(Some(7)));
    assert_ne!(long(None), long(Some(8)));

    // Prompts are read anew, unless a request says otherwise.
    let again = post("/completion", prompt);
    assert_eq!((&again["content"], &again["timings"]["cache_n"]), (&first["content"], &json!(0)));

    // The template, and what is told to it.
    let talk = json!({"messages": [{"role": "user", "content": "you"}]});
    assert_eq!(post("/apply-template", talk)["prompt"], "hey: you");

    // Two requests share the context.
    let props = send("GET", "/props", "one", &Value::Null).json();
    assert_eq!(
        (&props["total_slots"], &props["default_generation_settings"]["n_ctx"]),
        (&json!(2), &json!(128))
    );
    let long = json!({"prompt": "word ".repeat(130)});
    let refused = send("POST", "/completion", "one", &long);
    assert_eq!((refused.status, &refused.json()["error"]["n_ctx"]), (400, &json!(128)), "{}", refused.body);

    // What is not there.
    for (path, flag) in [("/slots", "--no-slots"), ("/metrics", "--no-metrics")] {
        let response = send("GET", path, "one", &Value::Null);
        assert!(response.status == 501 && response.body.contains(flag), "{path}: {}", response.body);
    }
    let page = server.send("GET", "/", &[("accept", "text/html"), ("authorization", "Bearer one")], "");
    assert_eq!(page.header("content-type"), Some("text/plain"));
    let refused = send("POST", "/props", "one", &json!({}));
    assert!(refused.status == 405 && refused.body.contains("--props"), "{}", refused.body);
}

#[test]
fn switches_of_the_server_act() {
    let server = Server::start(&[
        "--props",
        "--metrics",
        "--slots",
        "--ui",
        "--embedding",
        "--pooling",
        "last",
        "--top-k",
        "1",
        "--temp",
        "2",
        "-kvu",
        "-c",
        "256",
        "--parallel",
        "3",
        "-r",
        " ",
        "--reasoning-format",
        "none",
        "--timeout",
        "1",
        "--threads-batch",
        "1",
    ]);
    for path in ["/metrics", "/slots", "/"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    assert_eq!(
        server.send("GET", "/", &[("accept", "text/html")], "").header("content-type"),
        Some("text/html")
    );
    assert_eq!(server.post("/props", &json!({})).status, 200);
    // Every request may fill the context.
    let slots = server.get("/slots").json();
    let contexts: Vec<_> = slots.as_array().unwrap().iter().map(|slot| slot["n_ctx"].clone()).collect();
    assert_eq!(contexts, [256, 256, 256]);

    // Only the best token counts, whatever the temperature.
    let greedy = json!({"prompt": "Once upon a time", "n_predict": 24, "stop": ["@@"], "temperature": 0});
    let hot = json!({"prompt": "Once upon a time", "n_predict": 24, "stop": ["@@"], "seed": 3});
    let text = text_of(&server, &greedy);
    assert_eq!(text_of(&server, &hot), text);
    assert_eq!(server.get("/props").json()["default_generation_settings"]["params"]["stop"], json!([" "]));
    // Where a request names no text that ends it, the server's does.
    let cut = text_of(&server, &json!({"prompt": "Once upon a time", "n_predict": 24}));
    assert!(text.contains(' '), "{text}");
    assert_eq!(Some(cut.as_str()), text.split(' ').next());

    // The last token's vector, as the command has it.
    let line =
        ["embedding", "-p", "A cat sat by the fire", "--pooling", "last", "--embd-output-format", "json"];
    let ran = Command::new(env!("CARGO_BIN_EXE_bise")).args(line).output().unwrap();
    let expected: Value = serde_json::from_slice(&ran.stdout).expect("the command prints JSON");
    let (_, answer) = server.post_json("/v1/embeddings", &json!({"input": "A cat sat by the fire"}));
    let numbers = |value: &Value| -> Vec<f64> {
        value["data"][0]["embedding"]
            .as_array()
            .expect("a vector")
            .iter()
            .map(|n| n.as_f64().unwrap())
            .collect()
    };
    let (is, should) = (numbers(&answer), numbers(&expected));
    assert!(is.len() == should.len() && is.iter().zip(&should).all(|(a, b)| (a - b).abs() < 1e-5));

    // Thoughts stay in the answer, unless a request says otherwise.
    let thought = "<think>Hm.</think>Yes";
    let message = said(&server, thought, &json!({"stop": ["@@"]}));
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!(thought), &Value::Null));
    let message = said(&server, thought, &json!({"stop": ["@@"], "reasoning_format": "auto"}));
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("Yes"), &json!("Hm.")));

    // Who takes longer than a second to ask is not waited for.
    let mut slow = server.connect();
    let start = Instant::now();
    slow.write_all(b"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        .unwrap();
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = slow.read_to_end(&mut rest);
    let seconds = start.elapsed().as_secs_f64();
    assert!((0.5..30.0).contains(&seconds), "{seconds}");
}

#[test]
fn answers_are_left_as_they_are_where_that_is_asked_for() {
    let tool = json!({"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}, "additionalProperties": false}}});
    let request = json!({
        "messages": [{"role": "user", "content": "Hi"}], "tools": [tool], "tool_choice": "required", "parallel_tool_calls": false, "max_tokens": 100
    });
    let choice = |flags: &[&str]| {
        let server = Server::greedy(&[&["--chat-template", "mistral-v3", "-c", "2048"], flags].concat());
        let message = said(&server, "<think>Hm.</think>Yes", &json!({}));
        (server.post("/v1/chat/completions", &request).json()["choices"][0].clone(), message)
    };
    let (choice_of_call, message) = choice(&[]);
    assert_eq!(choice_of_call["message"]["tool_calls"][0]["function"]["name"], "look", "{choice_of_call}");
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("Yes"), &json!("Hm.")));

    let (raw, message) = choice(&["--skip-chat-parsing"]);
    assert_eq!(
        (&raw["message"]["tool_calls"], &raw["finish_reason"]),
        (&Value::Null, &json!("stop")),
        "{raw}"
    );
    assert!(raw["message"]["content"].as_str().unwrap().contains("look"), "{raw}");
    assert_eq!(message["content"], "<think>Hm.</think>Yes");
}

#[test]
fn variables_act_as_their_flags_do() {
    let mut command = serve_support::command(&["--temp", "0", "-n", "4"]);
    for (name, value) in [
        ("LLAMA_ARG_NO_ENDPOINT_SLOTS", "1"),
        ("LLAMA_ARG_ENDPOINT_METRICS", "0"),
        ("LLAMA_ARG_ENDPOINT_PROPS", "1"),
        ("LLAMA_ARG_UI", "off"),
        ("LLAMA_ARG_ALIAS", "mine"),
        ("LLAMA_API_KEY", "key"),
        ("LLAMA_ARG_CTX_SIZE", "256"),
        ("LLAMA_ARG_N_PARALLEL", "2"),
        ("LLAMA_ARG_THINK", "none"),
        ("LLAMA_ARG_CACHE_PROMPT", "0"),
        // What is typed has the last word.
        ("LLAMA_ARG_N_PREDICT", "9"),
    ] {
        command.env(name, value);
    }
    let server = Server::spawn(command);
    let headers = [("authorization", "Bearer key"), ("accept", "text/html")];
    let get = |path: &str| server.send("GET", path, &headers, "");
    assert_eq!(["/slots", "/metrics", "/v1/models"].map(|path| get(path).status), [501, 501, 200]);
    assert_eq!(get("/").header("content-type"), Some("text/plain"));
    let post = |path: &str, body: &Value| server.send("POST", path, &headers, &body.to_string());
    assert_eq!(server.post("/props", &json!({})).status, 401);
    assert_eq!(post("/props", &json!({})).status, 200);
    let props = get("/props").json();
    assert_eq!(
        (&props["total_slots"], &props["default_generation_settings"]["n_ctx"]),
        (&json!(2), &json!(128))
    );
    for _ in 0..2 {
        let answer = post("/completion", &json!({"prompt": "Once upon a time"})).json();
        let found = (&answer["model"], &answer["tokens_predicted"], &answer["timings"]["cache_n"]);
        assert_eq!(found, (&json!("mine"), &json!(4), &json!(0)));
    }
    let thought = json!({
        "messages": [{"role": "user", "content": "Hi"}], "grammar": "root ::= \"<think>a</think>b\"", "max_tokens": 50
    });
    let message = post("/v1/chat/completions", &thought).json()["choices"][0]["message"].clone();
    assert_eq!(message["content"], "<think>a</think>b");
}

#[test]
fn paths_begin_with_the_prefix() {
    let mut command = serve_support::command(&["--api-prefix", "/v/", "--temp", "0"]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut log = std::io::BufReader::new(process.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut log, &mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").expect("it listens").to_owned();
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let headers = [("connection", "close"), ("accept", "text/html")];
        stream.write_all(serve_support::request(&address, "GET", path, &headers, "").as_bytes()).unwrap();
        serve_support::read(&mut std::io::BufReader::new(stream))
    };
    serve_support::eventually("the model is loaded", || get("/v/health").status == 200);
    let there = ["/v/v1/models", "/v/", "/v/ui/main.js", "/health", "/v1/models", "/", "/vv1/models"];
    let statuses = there.map(|path| get(path).status);
    let (page, moved) = (get("/v/"), get("/v"));
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(statuses, [200, 200, 200, 404, 404, 404, 404]);
    // Its files stand below it.
    assert!(page.body.contains("\"ui/main.js\""), "{}", page.body);
    assert_eq!((moved.status, moved.header("location")), (308, Some("/v/")));
}

/// The threads of a server: their names, the CPUs they may use, and their nice values.
#[cfg(target_os = "linux")]
fn threads(server: &Server) -> Vec<(String, String, i32)> {
    let tasks = format!("/proc/{}/task", server.process.id());
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).ok();
    let thread = |task: std::path::PathBuf| {
        let (status, stat) = (read(task.join("status"))?, read(task.join("stat"))?);
        let field =
            |name: &str| Some(status.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned());
        // Behind the name, which may have spaces in it, the nice value is the 17th.
        let nice = stat.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok()?;
        Some((field("Name:")?, field("Cpus_allowed_list:")?, nice))
    };
    std::fs::read_dir(tasks).unwrap().filter_map(|task| thread(task.unwrap().path())).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn threads_that_compute_have_the_cpus_and_the_priority_of_the_flags() {
    let allowed = bise::threads::allowed_cpus().unwrap();
    let (first, last) = (allowed.iter().next().unwrap(), allowed.iter().last().unwrap());
    let plain = threads(&Server::start(&[]));
    let worker = |threads: &[(String, String, i32)]| {
        threads.iter().find(|(name, ..)| name == "bise-scheduler").expect("there is one").clone()
    };
    let (_, all, nice) = worker(&plain);
    assert_eq!(all, allowed.to_string());

    // The worker leads the passes, so with one thread it is the one that computes.
    let mask = format!("{:#x}", 1u128 << last);
    let server = Server::greedy(&["-C", &mask, "--prio", "-1"]);
    assert!(text_of(&server, &json!({"prompt": "Once", "n_predict": 4})).len() > 2);
    let bound = threads(&server);
    // A program that is nicer than that already stays so.
    let low = if server.log().contains("--prio -1 had no effect") { nice } else { 5 };
    assert_eq!(worker(&bound), ("bise-scheduler".to_owned(), last.to_string(), low));
    // Those that read requests go where they like.
    let main = &bound.iter().find(|(name, ..)| name == "bise").expect("the main thread").clone();
    assert_eq!((&main.1, main.2), (&all, nice));

    // Each on a CPU of its own, the worker on the lowest.
    let range = format!("{first}-{last}");
    let server = Server::start(&["--cpu-range", &range, "--cpu-strict", "1", "-t", "1", "-tb", "2"]);
    let strict = threads(&server);
    assert_eq!(worker(&strict).1, first.to_string());
    if allowed.iter().count() >= 2 {
        let second = allowed.iter().nth(1).unwrap().to_string();
        let others = strict.iter().filter(|(name, cpus, _)| name != "bise-scheduler" && *cpus == second);
        assert_eq!(others.count(), 1, "{strict:?}");
    }
}
