//! Ollama's calls that pull, make, copy and remove models, and the commands that ask a server.

#![cfg(all(feature = "cli", feature = "server", feature = "builtin-model"))]

mod cli_support;
mod hub_support;
mod serve_support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bise::hub::Sha256;
use cli_support::Folder;
use hub_support::{HuggingFace, Reply, Server as Remote};
use serde_json::{Value, json};
use serve_support::{MODEL_FILE, Response, Server, eventually};

/// What lets a server ask others: nothing is on the network otherwise.
const ONLINE: &[(&str, &str)] = &[("HF_HUB_OFFLINE", "")];

/// A server of all models in its folder, which is everything it knows of this machine.
struct Host {
    server: Server,
    folder: Folder,
}

impl Host {
    fn start(flags: &[&str], variables: &[(&str, &str)]) -> Host {
        Host::open(Folder::new(), flags, variables)
    }

    fn open(folder: Folder, flags: &[&str], variables: &[(&str, &str)]) -> Host {
        let base = ["serve", "--port", "0", "-c", "1024", "-t", "1"];
        let mut command = folder.command(base.iter().chain(flags));
        command.envs(variables.iter().copied());
        Host { server: Server::spawn(command), folder }
    }

    fn post(&self, path: &str, body: Value) -> Response {
        self.server.post(path, &body)
    }

    /// The lines of a stream.
    fn lines(&self, path: &str, body: Value) -> Vec<Value> {
        let answer = self.post(path, body);
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("application/x-ndjson")),
            "{}",
            answer.body
        );
        answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn names(&self) -> Vec<String> {
        let tags = self.server.get("/api/tags").json();
        let models = tags["models"].as_array().unwrap();
        models.iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect()
    }

    fn error(&self, path: &str, body: Value) -> (u16, String) {
        let answer = self.post(path, body);
        (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
    }

    /// A command of the program, about this server.
    fn run(&self, args: &[&str]) -> cli_support::Ran {
        let mut command = self.folder.command(args);
        command.env("OLLAMA_HOST", &self.server.address);
        self.folder.finish(&mut command, b"")
    }

    fn blobs(&self) -> PathBuf {
        let folders = [".local/share/bise/models/blobs", "home/.local/share/bise/models/blobs"];
        let found = folders.iter().map(|folder| self.folder.path(folder)).find(|folder| folder.is_dir());
        found.unwrap_or_else(|| self.folder.path(folders[0]))
    }
}

/// A registry of Ollama's with one model, `library/m:t`.
fn registry(weights: Vec<u8>) -> Remote {
    let mut blobs: Vec<(String, Vec<u8>)> = Vec::new();
    let mut layer = |kind: &str, bytes: &[u8]| {
        let digest = Sha256::of(bytes);
        blobs.push((format!("/v2/library/m/blobs/sha256:{digest}"), bytes.to_vec()));
        json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let image = |kind: &str| format!("application/vnd.ollama.image.{kind}");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": layer("application/vnd.docker.container.image.v1+json", br#"{"model_format":"gguf"}"#),
        "layers": [
            layer(&image("model"), &weights),
            layer(&image("system"), b"Be brief."),
            layer(&image("params"), br#"{"temperature":0,"num_predict":7}"#),
        ],
    });
    Remote::start(move |request| {
        if request.path == "/v2/library/m/manifests/t" {
            return Reply::text(manifest.to_string());
        }
        match blobs.iter().find(|(path, _)| *path == request.path) {
            Some((_, bytes)) => Reply::file(request, bytes, "x"),
            None => Reply::status(404),
        }
    })
}

#[test]
fn a_model_is_pulled_and_served_at_once() {
    let remote = registry(fs::read(MODEL_FILE).unwrap());
    let host = Host::start(&[], ONLINE);
    let name = format!("{}/library/m:t", remote.address);
    let refused = host.error("/api/pull", json!({"model": format!("http://{name}")}));
    assert_eq!(refused.0, 400);
    assert!(refused.1.contains("\"insecure\": true"), "{}", refused.1);
    let lines = host.lines("/api/pull", json!({"model": format!("http://{name}"), "insecure": true}));
    assert_eq!(lines[0], json!({"status": "pulling manifest"}));
    assert_eq!(lines.last().unwrap(), &json!({"status": "success"}));
    let whole = lines.iter().find(|line| line["total"] == 5_175_936 && line["completed"] == 5_175_936);
    let digest = format!("sha256:{}", Sha256::of(&fs::read(MODEL_FILE).unwrap()));
    assert_eq!(whole.unwrap_or_else(|| panic!("{lines:?}"))["digest"], digest);
    assert_eq!(host.names(), [name.clone(), "builtin:latest".to_owned()]);
    // Its parameters are in force, but for what a request says.
    let ask = |more: Value| {
        let mut request = json!({"model": name, "prompt": "Hello", "stream": false});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        host.post("/api/generate", request).json()["eval_count"].clone()
    };
    assert_eq!((ask(json!({})), ask(json!({"options": {"num_predict": 3}}))), (json!(7), json!(3)));
    let chat = json!({"model": name, "messages": [{"role": "user", "content": "Hello"}]});
    let openai = host.post("/v1/chat/completions", chat.clone()).json();
    assert_eq!(openai["usage"]["completion_tokens"], 7);
    let prompt = host.post("/apply-template", chat).json()["prompt"].as_str().unwrap().to_owned();
    assert!(prompt.contains("Be brief."), "{prompt}");
    // A second time, without lines in between.
    let again =
        host.post("/api/pull", json!({"name": format!("http://{name}"), "insecure": true, "stream": false}));
    assert_eq!(again.json(), json!({"status": "success"}));
    let gone = host.post("/api/pull", json!({"model": format!("http://{}/library/m:none", remote.address), "insecure": true, "stream": false}));
    assert_eq!(gone.status, 404, "{}", gone.body);
    let streamed = host.lines(
        "/api/pull",
        json!({"model": format!("http://{}/library/m:none", remote.address), "insecure": true}),
    );
    assert!(streamed.last().unwrap()["error"].as_str().unwrap().contains("no such model"), "{streamed:?}");
    for name in ["", "../x", "/etc/passwd", "./m.gguf", "https://example.com/m.gguf", "a b"] {
        assert_eq!(host.error("/api/pull", json!({"model": name})).0, 400, "{name}");
    }
}

#[test]
fn models_of_hugging_face_are_pulled_and_removed() {
    let hub = HuggingFace::new("user/repo", &[("tiny-Q4_K_M.gguf", &fs::read(MODEL_FILE).unwrap())]);
    let remote = Remote::start(move |request| hub.reply(request));
    let host = Host::start(&[], &[("HF_ENDPOINT", &remote.url("")), ONLINE[0]]);
    let lines = host.lines("/api/pull", json!({"model": "hf.co/user/repo"}));
    assert_eq!(lines.last().unwrap(), &json!({"status": "success"}), "{lines:?}");
    assert_eq!(host.names()[0], "hf.co/user/repo:Q4_K_M");
    for name in [
        "hf.co/user/repo:Q4_K_M",
        "hf.co/user/repo",
        "user/repo:Q4_K_M",
        "user/repo",
        "hf.co/user/repo:q4_k_m",
    ] {
        let answer = host.post("/completion", json!({"model": name, "prompt": "Once", "n_predict": 1}));
        assert_eq!(
            (answer.status, &answer.json()["model"]),
            (200, &json!("hf.co/user/repo:Q4_K_M")),
            "{name}: {}",
            answer.body
        );
    }
    let delete =
        |name: &str| host.server.send("DELETE", "/api/delete", &[], &json!({"model": name}).to_string());
    assert_eq!(delete("hf.co/user/repo").status, 200);
    assert_eq!(host.names(), ["builtin:latest"]);
    eventually("it leaves memory", || host.server.get("/api/ps").json()["models"] == json!([]));
    assert_eq!(delete("hf.co/user/repo").status, 404);
}

#[test]
fn a_model_is_made_from_a_blob_copied_and_removed() {
    let host = Host::start(&[], &[]);
    let bytes = fs::read(MODEL_FILE).unwrap();
    let digest = format!("sha256:{}", Sha256::of(&bytes));
    let path = format!("/api/blobs/{digest}");
    assert_eq!(host.server.send("HEAD", &path, &[], "").status, 404);
    let send = |path: &str, bytes: &[u8], announced: usize| {
        let mut stream = host.server.connect();
        write!(stream, "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {announced}\r\n\r\n").unwrap();
        // A server that refuses closes the connection before everything was sent.
        let _ = stream.write_all(bytes);
        if bytes.len() < announced {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        let mut head = String::new();
        let _ = std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut head);
        head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok())
    };
    // Cut, wrong, and a path: nothing of it stays.
    send(&path, &bytes[..1000], bytes.len());
    assert_eq!(send(&path, &bytes[1..], bytes.len() - 1), Some(400));
    for wrong in ["sha256:..%2f..%2fetc", "sha256:00", "md5:00", "..%2f..%2fx", &digest["sha256:".len()..]] {
        assert_eq!(host.server.send("HEAD", &format!("/api/blobs/{wrong}"), &[], "").status, 400, "{wrong}");
        assert_eq!(send(&format!("/api/blobs/{wrong}"), b"x", 1), Some(400), "{wrong}");
    }
    eventually("nothing is left", || fs::read_dir(host.blobs()).map_or(0, Iterator::count) == 0);
    let missing =
        host.error("/api/create", json!({"model": "tiny", "files": {"m.gguf": digest}, "stream": false}));
    assert_eq!(missing.0, 404, "{}", missing.1);
    assert_eq!(send(&path, &bytes, bytes.len()), Some(201));
    assert_eq!(send(&path, &bytes, bytes.len()), Some(200));
    assert_eq!(host.server.send("HEAD", &path, &[], "").status, 200);

    let made = host.lines(
        "/api/create",
        json!({
            "model": "tiny", "files": {"m.gguf": digest}, "system": "You are a cat.", "license": ["Apache-2.0", "MIT"],
            "parameters": {"temperature": 0, "num_predict": 5, "stop": ["dog", "bird"], "num_ctx": 512},
            "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Meow"}],
            "template": "{{ .Prompt }}",
        }),
    );
    let statuses: Vec<&str> = made.iter().map(|line| line["status"].as_str().unwrap()).collect();
    assert!(statuses[0].contains("Go's template language"), "{statuses:?}");
    assert_eq!(statuses[1..], ["creating model", "writing manifest", "success"]);
    let shown = host.post("/api/show", json!({"model": "tiny"})).json();
    assert_eq!((&shown["system"], &shown["license"]), (&json!("You are a cat."), &json!("Apache-2.0\nMIT")));
    assert_eq!(shown["messages"][1], json!({"role": "assistant", "content": "Meow"}));
    let parameters = shown["parameters"].as_str().unwrap();
    for line in [
        "num_ctx                        512",
        "stop                           \"dog\"",
        "num_predict                    5",
    ] {
        assert!(parameters.lines().any(|found| found == line), "{line}: {parameters}");
    }
    let modelfile = shown["modelfile"].as_str().unwrap();
    assert!(
        modelfile.contains("SYSTEM You are a cat.") && modelfile.contains("MESSAGE assistant Meow"),
        "{modelfile}"
    );
    // It says so, and keeps to it.
    let prompt =
        |body: Value| host.post("/apply-template", body).json()["prompt"].as_str().unwrap().to_owned();
    let said = prompt(json!({"model": "tiny", "messages": [{"role": "user", "content": "Who?"}]}));
    assert!(said.contains("You are a cat.") && said.contains("Meow") && said.contains("Who?"), "{said}");
    for role in ["system", "developer"] {
        let own = prompt(
            json!({"model": "tiny", "messages": [{"role": role, "content": "You are a dog."}, {"role": "user", "content": "Who?"}]}),
        );
        assert!(
            own.contains("You are a dog.") && !own.contains("cat") && own.contains("Meow"),
            "{role}: {own}"
        );
    }
    assert_eq!(host.server.get("/props?model=tiny").json()["default_generation_settings"]["n_ctx"], 1024);
    let answer = host
        .post(
            "/api/chat",
            json!({"model": "tiny", "messages": [{"role": "user", "content": "Who?"}], "stream": false}),
        )
        .json();
    assert!(answer["eval_count"].as_u64().unwrap() <= 5, "{answer}");

    // From a model; what it says stays unless there is something else.
    let made = host.post(
        "/api/create",
        json!({"model": "kitten", "from": "tiny", "parameters": {"num_predict": 2}, "stream": false}),
    );
    assert_eq!(made.json(), json!({"status": "success"}));
    let shown = host.post("/api/show", json!({"model": "kitten"})).json();
    assert_eq!(shown["system"], "You are a cat.");
    assert!(shown["parameters"].as_str().unwrap().contains("num_predict                    2"), "{shown}");
    // A template that makes no sense makes no model.
    let (status, message) = host.error(
        "/api/create",
        json!({"model": "kitten", "from": "tiny", "template": "{% if messages %}{{ x ", "stream": false}),
    );
    assert!(
        status == 400 && message.starts_with("template: the chat template is not valid Jinja: line 1"),
        "{status} {message}"
    );
    assert_eq!(host.post("/api/show", json!({"model": "kitten"})).json()["system"], "You are a cat.");
    let old = host.post(
        "/api/create",
        json!({"name": "old", "modelfile": "FROM tiny\nSYSTEM You are old.\n", "stream": false}),
    );
    assert_eq!(old.status, 200, "{}", old.body);
    assert_eq!(host.post("/api/show", json!({"model": "old"})).json()["system"], "You are old.");

    assert_eq!(host.post("/api/copy", json!({"source": "tiny", "destination": "me/copy:v1"})).status, 200);
    assert_eq!(host.post("/api/show", json!({"model": "me/copy:v1"})).json()["system"], "You are a cat.");
    let delete = |name: &str| {
        host.server.send("DELETE", "/api/delete", &[], &json!({"model": name}).to_string()).status
    };
    assert_eq!((delete("tiny"), delete("tiny"), delete("builtin")), (200, 404, 400));
    // Others need its weights.
    assert_eq!(host.server.send("HEAD", &path, &[], "").status, 200);
    assert_eq!((delete("kitten:latest"), delete("me/copy:v1"), delete("old")), (200, 200, 200));
    assert_eq!(host.server.send("HEAD", &path, &[], "").status, 404);
    assert_eq!(host.names(), ["builtin:latest"]);
}

#[test]
fn what_cannot_be_made_copied_or_pushed_is_told() {
    let host = Host::start(&[], &[]);
    let create = |more: Value| {
        let mut request = json!({"model": "mine", "stream": false});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        host.error("/api/create", request)
    };
    for (request, status, words) in [
        (json!({}), 400, "neither 'from' or 'files'"),
        (json!({"from": "nope-nope"}), 502, "nope-nope"),
        (json!({"from": "/etc/passwd"}), 400, "from: found \"/etc/passwd\""),
        (json!({"from": "./m.gguf"}), 400, "from: found"),
        (json!({"from": "builtin"}), 400, "built-in"),
        (json!({"from": "x", "files": {"a": "sha256:00"}}), 400, "found both"),
        (json!({"files": {"a": "sha256:00"}}), 400, "files.a"),
        (json!({"files": {"a": 7}}), 400, "files.a"),
        (json!({"files": {"a": "x", "b": "y"}}), 400, "2 files"),
        (json!({"from": "x", "adapters": {"a": "sha256:00"}}), 400, "adapters"),
        (json!({"from": "x", "quantize": "q4_K_M"}), 400, "quantize"),
        (json!({"from": "x", "parameters": {"temprature": 1}}), 400, "temprature"),
        (json!({"from": "x", "parameters": {"top_k": {}}}), 400, "parameters.top_k"),
        (json!({"from": "x", "messages": [{"role": "cat", "content": "x"}]}), 400, "messages[0].role"),
        (json!({"from": "x", "license": 7}), 400, "license"),
        (json!({"modelfile": "SYSTEM x"}), 400, "no FROM"),
        (json!({"modelfile": "FROM ./m.gguf"}), 400, "from: found"),
        (json!({"model": "../mine", "from": "x"}), 400, "not the name of a model"),
        (json!({"model": "builtin", "from": "x"}), 400, "not a name"),
        (json!({"model": "", "from": "x"}), 400, "model is required"),
    ] {
        // Without the network, what is not here cannot be pulled.
        let (found, message) = create(request.clone());
        assert!(message.contains(words), "{request}: {found} {message}");
        assert_eq!(found, status, "{request}: {message}");
    }
    let text = Sha256::of(b"no model");
    assert_eq!(host.server.send("POST", &format!("/api/blobs/sha256:{text}"), &[], "no model").status, 201);
    let (status, message) = create(json!({"files": {"m.gguf": format!("sha256:{text}")}}));
    assert!(status == 400 && message.contains("is no model"), "{status} {message}");
    for (request, status) in [
        (json!({"source": "none", "destination": "x"}), 404),
        (json!({"source": "builtin", "destination": "x"}), 400),
        (json!({"source": "builtin", "destination": "../x"}), 400),
        (json!({"source": "builtin"}), 400),
        (json!({"source": "/etc/passwd", "destination": "x"}), 404),
    ] {
        assert_eq!(host.error("/api/copy", request.clone()).0, status, "{request}");
    }
    let (status, message) = host.error("/api/push", json!({"model": "mine"}));
    assert!(status == 501 && message.contains("not pushed"), "{status} {message}");
}

/// A model in Ollama's own store.
fn ollama_store(root: &Path) {
    let weights = fs::read(MODEL_FILE).unwrap();
    fs::create_dir_all(root.join("blobs")).unwrap();
    let layer = |kind: &str, bytes: &[u8]| {
        let digest = Sha256::of(bytes);
        fs::write(root.join(format!("blobs/sha256-{digest}")), bytes).unwrap();
        json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": layer("application/vnd.docker.container.image.v1+json", b"{}"),
        "layers": [
            layer("application/vnd.ollama.image.model", &weights),
            layer("application/vnd.ollama.image.template", b"[INST] {{ .Prompt }} [/INST]"),
        ],
    });
    let folder = root.join("manifests/registry.ollama.ai/library/theirs");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("latest"), manifest.to_string()).unwrap();
}

#[test]
fn the_commands_about_a_server_ask_it() {
    let folder = Folder::new();
    let store = folder.path("ollama");
    ollama_store(&store);
    let host = Host::open(folder, &[], &[("OLLAMA_MODELS", store.to_str().unwrap())]);
    // What Ollama has is served without a download, and stays its own.
    let answer = host.post("/api/chat", json!({"model": "theirs", "messages": [{"role": "user", "content": "Hi"}], "stream": false, "options": {"num_predict": 2}}));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let theirs = host.server.send("DELETE", "/api/delete", &[], r#"{"model": "theirs"}"#);
    assert!(theirs.status == 400 && theirs.body.contains("ollama rm"), "{}", theirs.body);
    let ps = host.run(&["ps"]).ok();
    let rows: Vec<Vec<&str>> = ps.text().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]);
    assert_eq!((rows.len(), rows[1][0], &rows[1][4..6]), (2, "theirs:latest", &["100%", "CPU"][..]));
    assert!(ps.text().contains(" minutes from now"), "{}", ps.text());
    host.run(&["stop", "theirs"]).ok();
    assert_eq!(host.run(&["ps"]).ok().text().lines().count(), 1);
    let unknown = host.run(&["stop", "nope"]);
    assert!(unknown.error().contains("model 'nope' not found"), "{}", unknown.stderr);
    // `run` needs no server, and opens the model by itself.
    let mut run = host.folder.command(["run", "theirs", "Hello", "--temp", "0", "-n", "4"]);
    run.env("OLLAMA_MODELS", &store);
    assert!(!host.folder.finish(&mut run, b"").ok().text().is_empty());
    assert_eq!(host.run(&["ps"]).ok().text().lines().count(), 1);
}

#[test]
fn without_a_server_the_commands_say_so() {
    let folder = Folder::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for args in [&["ps"][..], &["stop", "mistral"]] {
        let mut command = folder.command(args);
        command.env("OLLAMA_HOST", format!("127.0.0.1:{port}"));
        let ran = folder.finish(&mut command, b"");
        assert!(ran.error().contains("no server answers there"), "{}", ran.stderr);
    }
}

#[test]
fn a_client_that_goes_away_ends_its_download() {
    let weights = hub_support::bytes(3 << 20, 7);
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&sent);
    let remote = registry(weights);
    // Every answer of the registry takes its time.
    let slow = Remote::start(move |request| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(300));
        Reply::redirect(remote.url(&request.path))
    });
    let host = Host::start(&[], ONLINE);
    let name = format!("http://{}/library/m:t", slow.address);
    let stream = host.server.begin("/api/pull", &json!({"model": name, "insecure": true}));
    drop(stream);
    std::thread::sleep(Duration::from_millis(1500));
    let n = sent.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(sent.load(std::sync::atomic::Ordering::Relaxed), n, "it goes on");
    assert_eq!(host.names(), ["builtin:latest"]);
}
