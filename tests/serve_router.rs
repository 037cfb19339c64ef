//! `bise serve` without a model: those of a folder and of the hub's stores, by name, loaded and unloaded.

#![cfg(all(feature = "cli", feature = "server", feature = "builtin-model"))]

mod cli_support;
mod serve_support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use cli_support::Folder;
use serde_json::{Value, json};
use serve_support::{Response, Server};

/// A router with the models of a folder, and its folder.
struct Router {
    server: Server,
    folder: Folder,
}

impl Router {
    /// Copies of the small model by these names.
    fn start(models: &[&str], flags: &[&str]) -> Router {
        Router::start_with(models, flags, &[])
    }

    fn start_with(models: &[&str], flags: &[&str], variables: &[(&str, &str)]) -> Router {
        let folder = Folder::new();
        let model = folder.model();
        std::fs::create_dir(folder.path("models")).unwrap();
        for name in models {
            std::fs::copy(&model, folder.path(&format!("models/{name}.gguf"))).unwrap();
        }
        Router::open(folder, flags, variables)
    }

    fn open(folder: Folder, flags: &[&str], variables: &[(&str, &str)]) -> Router {
        let base = ["serve", "--models-dir", "models", "--port", "0", "--temp", "0", "-c", "1024", "-t", "1"];
        let mut command = folder.command(base.iter().chain(flags));
        command.envs(variables.iter().copied());
        Router { server: Server::spawn(command), folder }
    }

    fn status(&self, name: &str) -> Value {
        let listed = self.server.get("/models").json();
        let models = listed["data"].as_array().unwrap();
        models.iter().find(|model| model["id"] == name).unwrap_or_else(|| panic!("{name}: {listed}"))["status"].clone()
    }

    fn is(&self, name: &str, status: &str) -> bool {
        self.status(name)["value"] == status
    }

    fn wait_for(&self, name: &str, status: &str) {
        wait(&format!("{name} is {status}"), || self.is(name, status));
    }

    fn complete(&self, model: &str, n: usize) -> Response {
        let request = json!({"model": model, "prompt": "Once upon a time", "n_predict": n, "temperature": 0});
        self.server.post("/completion", &request)
    }

    /// A stream of so many tokens, which has begun.
    fn stream(&self, model: &str, n: usize) -> BufReader<TcpStream> {
        let body = json!({
            "model": model, "prompt": "Once upon a time", "n_predict": n, "stream": true, "ignore_eos": true
        });
        let mut stream = send(&self.server, "POST", "/completion", &body.to_string());
        let mut line = String::new();
        while !line.starts_with("data: ") {
            line.clear();
            assert!(stream.read_line(&mut line).unwrap() > 0, "the stream begins");
        }
        stream
    }

    /// Names and statuses of models as they change from now on.
    fn events(&self) -> Receiver<(String, String)> {
        let mut stream = send(&self.server, "GET", "/models/sse", "");
        let (sender, events) = channel();
        // The head of the response comes before anything can happen.
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert!(line.contains("200"), "{line}");
        std::thread::spawn(move || {
            for line in stream.lines().map_while(Result::ok) {
                let Some(event) = line.strip_prefix("data: ") else { continue };
                let event: Value = serde_json::from_str(event).unwrap();
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let mut status = text(&event["data"]["status"]);
                if event["data"]["failed"] == true {
                    status = "failed".to_owned();
                }
                if event["event"] == "model_status" && sender.send((text(&event["model"]), status)).is_err() {
                    break;
                }
            }
        });
        events
    }
}

fn send(server: &Server, method: &str, path: &str, body: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json");
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    BufReader::new(stream)
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn content(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()["content"].as_str().unwrap().to_owned()
}

#[test]
fn models_are_loaded_by_requests_and_by_hand() {
    let router = Router::start(&["a", "b"], &[]);
    assert!(router.is("a", "unloaded") && router.is("b", "unloaded") && router.is("builtin", "unloaded"));
    let events = router.events();
    let alone = content(
        &Server::greedy(&["-c", "1024"])
            .post("/completion", &json!({"prompt": "Once upon a time", "n_predict": 24})),
    );
    assert_eq!(content(&router.complete("a", 24)), alone);
    assert!(router.is("a", "loaded") && router.is("b", "unloaded"));
    let loaded = router.server.post("/models/load", &json!({"model": "b"}));
    assert_eq!(loaded.json(), json!({"success": true}));
    router.wait_for("b", "loaded");
    let again = router.server.post("/models/load", &json!({"model": "b"}));
    assert_eq!((again.status, &again.json()["error"]["message"]), (400, &json!("model is already running")));
    let ps = router.server.get("/api/ps").json();
    let names: Vec<&Value> = ps["models"].as_array().unwrap().iter().map(|model| &model["name"]).collect();
    assert_eq!(names, [&json!("a:latest"), &json!("b:latest")]);
    assert!(ps["models"][0]["size"].as_u64().unwrap() > 5_000_000, "{ps}");

    let unloaded = router.server.post("/models/unload", &json!({"model": "a"}));
    assert_eq!(unloaded.json(), json!({"success": true}));
    assert!(router.is("a", "unloaded"));
    let again = router.server.post("/models/unload", &json!({"model": "a"}));
    assert_eq!((again.status, &again.json()["error"]["message"]), (400, &json!("model is not running")));
    assert_eq!(router.server.post("/models/unload", &json!({"model": "none"})).status, 404);
    let told: Vec<(String, String)> = events.try_iter().collect();
    let told: Vec<(&str, &str)> =
        told.iter().map(|(name, status)| (name.as_str(), status.as_str())).collect();
    assert_eq!(
        told,
        [("a", "loading"), ("a", "loaded"), ("b", "loading"), ("b", "loaded"), ("a", "unloaded")]
    );

    let props = router.server.get("/props").json();
    assert_eq!((&props["role"], &props["max_instances"]), (&json!("router"), &json!(4)));
    assert_eq!(router.server.get("/props?model=a").json()["default_generation_settings"]["n_ctx"], 1024);
    assert_eq!(router.server.get("/slots").json().as_array().unwrap().len(), 4);
    assert_eq!(router.server.get("/health").status, 200);
    assert!(router.server.get("/metrics").body.contains("llamacpp:tokens_predicted_total 24"));
    // One that comes later is there, too; one that goes is not.
    std::fs::copy(router.folder.path("models/a.gguf"), router.folder.path("models/c.gguf")).unwrap();
    assert_eq!(content(&router.complete("c", 24)), alone);
    std::fs::remove_file(router.folder.path("models/c.gguf")).unwrap();
    let listed = router.server.get("/v1/models").body;
    assert!(!listed.contains("\"c\""), "{listed}");
    wait("it goes", || router.server.get("/api/ps").json()["models"].as_array().unwrap().len() == 1);
    assert_eq!(router.complete("c", 1).status, 404);
}

#[test]
fn a_model_on_its_way_out_holds_up_nobody_but_those_who_want_it() {
    let router = Router::start(&["a", "b"], &["--models-wait", "1", "--shutdown-grace", "0"]);
    // Its file is looked at for whoever asks about it.
    assert!(router.server.get("/v1/models/b").json()["meta"]["n_ctx_train"].is_u64());
    let _a = router.stream("a", 900);
    let unload = json!({"model": "a"});
    assert_eq!(router.server.post("/models/unload", &unload).status, 200);
    let waits =
        send(&router.server, "POST", "/completion", r#"{"model": "a", "prompt": "x", "n_predict": 1}"#);
    let start = Instant::now();
    assert_eq!(router.complete("b", 1).status, 200);
    let took = start.elapsed();
    assert!(router.is("a", "loaded"), "it is still on its way");
    assert!(took < Duration::from_secs(1), "{took:?}");
    drop(waits);
}

#[test]
fn answers_of_a_model_on_its_way_out_are_cut_with_a_word_at_the_end() {
    let mut router = Router::start(&["a"], &["--shutdown-grace", "0"]);
    let mut stream = router.stream("a", 900);
    assert_eq!(router.server.post("/models/unload", &json!({"model": "a"})).status, 200);
    assert_eq!(router.server.terminate().0, Some(0));
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("the answer was cut"), "{rest}");
}

#[test]
fn one_model_has_no_router() {
    let server = Server::greedy(&[]);
    for path in ["/models/load", "/models/unload"] {
        let refused = server.post(path, &json!({"model": "builtin"}));
        assert_eq!((refused.status, &refused.json()["error"]["type"]), (501, &json!("not_supported_error")));
    }
    assert_eq!(server.get("/models/sse").status, 501);
}

#[test]
fn unknown_names_are_told_in_each_form_and_paths_are_no_names() {
    let router = Router::start(&["a"], &[]);
    let (server, hello) = (&router.server, json!([{"role": "user", "content": "Hello"}]));
    let path = router.folder.path("models/a.gguf").display().to_string();
    for name in [
        "nope",
        "nope:latest",
        "hf.co/user/repo:Q4_K_M",
        "user/repo",
        "./a",
        "models/a.gguf",
        "../models/a",
        "a/../a",
        path.as_str(),
        "file:///etc/passwd",
        "https://example.com/m.gguf",
        "a\u{0}",
        "..",
        "a b",
        "A",
        "~/a",
    ] {
        let openai = server.post("/v1/chat/completions", &json!({"model": name, "messages": hello}));
        assert_eq!(
            (openai.status, &openai.json()["error"]["type"]),
            (404, &json!("not_found_error")),
            "{name}"
        );
        let anthropic =
            server.post("/v1/messages", &json!({"model": name, "max_tokens": 1, "messages": hello}));
        let error = anthropic.json();
        assert_eq!((anthropic.status, &error["type"]), (404, &json!("error")), "{name}");
        assert_eq!(error["error"]["type"], "not_found_error");
        for path in ["/api/chat", "/api/generate", "/api/show", "/api/embed"] {
            let ollama =
                server.post(path, &json!({"model": name, "messages": hello, "prompt": "x", "input": "x"}));
            assert_eq!(
                (ollama.status, ollama.json()),
                (404, json!({"error": format!("model '{name}' not found")})),
                "{path}"
            );
        }
        assert_eq!(server.post("/tokenize", &json!({"model": name, "content": "x"})).status, 404);
    }
    for name in ["a", "a:latest", "a.gguf", "builtin", "builtin:latest"] {
        assert_eq!(content(&router.complete(name, 1)).len(), 1, "{name}");
    }
    for body in [
        json!({"messages": hello}),
        json!({"model": "", "messages": hello}),
        json!({"model": null, "messages": hello}),
    ] {
        let missing = server.post("/v1/chat/completions", &body);
        assert_eq!((missing.status, &missing.json()["error"]["param"]), (400, &json!("model")), "{body}");
    }
}

#[test]
fn a_load_that_fails_is_the_error_of_those_who_asked() {
    let router = Router::start(&["good", "cut", "text"], &["--models-max", "1"]);
    let file = |name: &str| router.folder.path(&format!("models/{name}.gguf"));
    let bytes = std::fs::read(file("good")).unwrap();
    std::fs::write(file("cut"), &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(file("text"), "not a model").unwrap();
    content(&router.complete("good", 2));
    let events = router.events();
    let failures: Vec<Response> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..16).map(|_| scope.spawn(|| router.complete("cut", 2))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    for failure in failures {
        let message = failure.json()["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(failure.status, 500);
        assert!(
            message.starts_with("model 'cut' cannot be opened: ") && message.contains("cut.gguf"),
            "{message}"
        );
    }
    assert_eq!(router.complete("text", 2).status, 500);
    let status = router.status("cut");
    assert_eq!((&status["value"], &status["failed"]), (&json!("unloaded"), &json!(true)), "{status}");
    // Nothing had to go for them.
    assert!(router.is("good", "loaded"));
    assert!(events.try_iter().all(|(_, status)| status == "failed"));
    content(&router.complete("good", 2));
    // Mended, it is opened.
    std::fs::write(file("cut"), &bytes).unwrap();
    content(&router.complete("cut", 2));
    assert!(router.is("cut", "loaded") && router.is("good", "unloaded"));
}

#[test]
fn many_who_ask_at_once_have_it_loaded_once() {
    let router = Router::start(&["a"], &["--parallel", "8"]);
    let events = router.events();
    let answers: Vec<String> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..32).map(|_| scope.spawn(|| content(&router.complete("a", 8)))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let told: Vec<String> = events.try_iter().map(|(_, status)| status).collect();
    assert_eq!(told, ["loading", "loaded"]);
}

#[test]
fn the_model_that_nobody_asked_for_longest_goes_and_never_a_busy_one() {
    let router = Router::start(&["a", "b", "c"], &["--models-max", "2", "-c", "32768"]);
    for name in ["a", "b", "a", "c"] {
        content(&router.complete(name, 1));
    }
    assert!(router.is("a", "loaded") && router.is("b", "unloaded") && router.is("c", "loaded"));
    // `a` was asked for before `c`, but it is busy.
    let mut busy = router.stream("a", 8000);
    content(&router.complete("c", 1));
    content(&router.complete("b", 1));
    assert!(router.is("a", "loaded") && router.is("b", "loaded") && router.is("c", "unloaded"));
    // Both are busy: whoever comes waits for the first that is not.
    let other = router.stream("b", 30000);
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| router.complete("c", 1));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!router.is("c", "loaded"));
        let mut last = String::new();
        for line in (&mut busy).lines().map_while(Result::ok) {
            if line.starts_with("data: ") {
                last = line;
            }
            if last.contains("\"stop\":true") {
                break;
            }
        }
        assert!(last.contains("\"tokens_predicted\":8000"), "{last}");
        drop(busy);
        waiting.join().unwrap()
    });
    content(&waiting);
    assert!(router.is("b", "loaded") && router.is("a", "unloaded"));
    drop(other);
}

#[test]
fn where_all_are_busy_and_nobody_waits_the_refusal_has_numbers() {
    let router = Router::start(&["a", "b"], &["--models-max", "1", "--models-wait", "0", "-c", "32768"]);
    let busy = router.stream("a", 30000);
    let refused = router.complete("b", 1);
    let error = refused.json()["error"].clone();
    assert_eq!((refused.status, &error["type"]), (503, &json!("unavailable_error")), "{error}");
    assert_eq!((&error["max_models"], &error["n_loaded"]), (&json!(1), &json!(1)));
    assert!(error["n_bytes"].as_u64().unwrap() > 5_000_000 && refused.header("retry-after").is_some());
    // Unloaded by hand, it answers to the end, and nobody gets it meanwhile.
    assert_eq!(router.server.post("/models/unload", &json!({"model": "a"})).status, 200);
    drop(busy);
    wait("it goes", || router.is("a", "unloaded"));
    content(&router.complete("b", 1));
}

#[test]
fn a_ceiling_on_memory_is_for_all_models_together() {
    let small = Router::start(&["a"], &["--max-memory", "16M"]);
    let refused = small.complete("a", 1);
    let error = refused.json()["error"].clone();
    assert_eq!(refused.status, 503, "{error}");
    let number = |name: &str| error[name].as_u64().unwrap_or_else(|| panic!("{name}: {error}"));
    assert_eq!(number("max_bytes"), 16 << 20);
    assert!(error["message"].as_str().unwrap().contains("16.8 MB of --max-memory"), "{error}");
    drop(small);
    // Room for one and a half, and a little for what a program grows by.
    let limit = number("program_bytes") + number("n_bytes") * 3 / 2 + (4 << 20);
    let router = Router::start(&["a", "b"], &["--max-memory", &limit.to_string()]);
    for name in ["a", "b", "a"] {
        content(&router.complete(name, 4));
        let loaded = router.server.get("/api/ps").json()["models"].as_array().unwrap().len();
        assert_eq!((router.is(name, "loaded"), loaded), (true, 1), "{name}");
    }
}

#[test]
fn models_stay_as_long_as_requests_say() {
    let router = Router::start_with(&["a"], &[], &[("OLLAMA_KEEP_ALIVE", "10m")]);
    let ask = |keep_alive: Value| {
        let request = json!({"model": "a", "prompt": "Hi", "raw": true, "stream": false, "keep_alive": keep_alive, "options": {"num_predict": 1}});
        let answer = router.server.post("/api/generate", &request);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    };
    let seconds = || {
        let ps = router.server.get("/api/ps").json();
        let expires: jiff::Timestamp = ps["models"][0]["expires_at"].as_str().unwrap().parse().unwrap();
        expires.as_second() - jiff::Timestamp::now().as_second()
    };
    ask(json!(null));
    assert!((595..=600).contains(&seconds()));
    ask(json!("1h"));
    assert!((3595..=3600).contains(&seconds()));
    ask(json!(-1));
    assert!(seconds() > 3_153_600_000);
    content(&router.complete("a", 1));
    assert!((595..=600).contains(&seconds()));
    ask(json!(0));
    router.wait_for("a", "unloaded");
    ask(json!("300ms"));
    assert!(router.is("a", "loaded"));
    router.wait_for("a", "unloaded");
    // Without a prompt, a model is only loaded or unloaded.
    let loaded = router.server.post("/api/generate", &json!({"model": "a", "keep_alive": "5m"})).json();
    assert_eq!((&loaded["done_reason"], &loaded["response"]), (&json!("load"), &json!("")));
    assert!(router.is("a", "loaded") && (295..=300).contains(&seconds()));
    let unloaded =
        router.server.post("/api/chat", &json!({"model": "a", "messages": [], "keep_alive": 0})).json();
    assert_eq!((&unloaded["done_reason"], &unloaded["message"]["content"]), (&json!("unload"), &json!("")));
    assert!(router.is("a", "unloaded"));
    // Nothing is loaded to be unloaded.
    let events = router.events();
    router.server.post("/api/generate", &json!({"model": "a", "keep_alive": 0}));
    assert!(events.recv_timeout(Duration::from_millis(200)).is_err());
}

#[test]
fn an_idle_model_sleeps_and_is_woken() {
    let router = Router::start(&["a"], &["--sleep-idle-seconds", "1", "--no-models-autoload"]);
    let refused = router.complete("a", 4);
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body.contains("is not loaded"), "{}", refused.body);
    let request = json!({"model": "a", "prompt": "Once upon a time", "n_predict": 4});
    let awake = content(&router.server.post("/completion?autoload=true", &request));
    assert_eq!(router.server.post("/completion?autoload=perhaps", &request).status, 400);
    router.wait_for("a", "sleeping");
    // One that sleeps is woken by any request; one that is unloaded is not.
    assert_eq!(content(&router.complete("a", 4)), awake);
    router.server.post("/models/unload", &json!({"model": "a"}));
    assert_eq!(router.complete("a", 4).status, 400);
    assert_eq!(router.server.post("/completion?autoload=false", &request).status, 400);
}

#[test]
fn presets_are_flags_of_single_models() {
    let folder = Folder::new();
    folder.model();
    std::fs::create_dir(folder.path("models")).unwrap();
    std::fs::copy(folder.path("model.gguf"), folder.path("models/a.gguf")).unwrap();
    folder.write("presets.ini", "[*]\ntemp = 0\n[a]\nc = 256\n[aa]\nload-on-startup = true\n[turned]\nmodel = model.gguf\nalias = other\nrope-freq-base = 100\nload-on-startup = true\n");
    let router = Router::open(folder, &["--models-preset", "presets.ini"], &[("LLAMA_ARG_TOP_K", "7")]);
    router.wait_for("turned", "loaded");
    for line in
        ["preset [aa] is about no model that is here", "load-on-startup of [aa]: model 'aa' not found"]
    {
        assert!(router.server.log().contains(line), "{line}: {}", router.server.log());
    }
    let (plain, turned) = (content(&router.complete("a", 16)), content(&router.complete("other", 16)));
    assert_ne!(plain, turned);
    assert_eq!(content(&router.complete("builtin", 16)), plain);
    // What is typed (`-c 1024`) has the last word.
    let settings = &router.server.get("/props?model=a").json()["default_generation_settings"];
    // Variables are for models with a preset, too.
    assert_eq!((&settings["n_ctx"], &settings["params"]["top_k"]), (&json!(1024), &json!(7)));
    let folder = Folder::new();
    folder.write("presets.ini", "[a]\nc = many\n");
    let error = folder.bise(["serve", "--models-preset", "presets.ini", "--port", "0"]);
    assert!(error.misuse().contains("section [a], from line 2"), "{}", error.stderr);
    for flags in [["--models-dir", "nowhere"], ["--alias", "x"]] {
        folder.bise(["serve", "--port", "0"].iter().chain(&flags)).misuse();
    }
    folder.bise(["serve", "-m", "builtin", "--models-max", "2", "--port", "0"]).misuse();
}
