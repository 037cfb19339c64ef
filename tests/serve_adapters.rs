//! Adapters on a server: loaded, scaled, asked for by number and by name, and unloaded, while others are answered with other ones.

#![cfg(all(feature = "cli", feature = "server", feature = "builtin-model", feature = "convert"))]

mod cli_support;
mod serve_support;
mod story_adapters;

use std::collections::BTreeSet;
use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;

use bise::adapter::{Adapter, Adapters};
use bise::sampling::SamplingParams;
use bise::{Engine, SessionOptions};
use serde_json::{Value, json};
use serve_support::{Server, command, eventually};

const PROMPT: &str = "Once upon a time";

/// Longer than a page of keys and values, so that there is something to find in the cache.
const STORY: &str = "Once upon a time there was a little girl named Lily. She loved to play outside in the sunshine with her dog. One day she \
                     found a big red ball in the park, and she wanted to show it to her mom. Her mom smiled and said that it was a nice ball. \
                     Then a boy came and asked if he could play with it too, and Lily said yes. They played until the sun went down and";

/// A folder with the adapters `a.gguf`, `b` (a folder of PEFT), `c.gguf` and `d.gguf`.
struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        for (i, name) in ["a.gguf", "c.gguf", "d.gguf"].into_iter().enumerate() {
            story_adapters::write_gguf(&folder.path().join(name), 1 + i as u64);
        }
        story_adapters::write_peft(&folder.path().join("b"), 9);
        Folder { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A server with these of them, and more flags.
    fn serve(&self, names: &[&str], flags: &[&str]) -> Server {
        let files: Vec<String> = names.iter().map(|name| self.text(name)).collect();
        let lora = format!("--lora={}", files.join(","));
        let folder = format!("--lora-dir={}", self.folder.path().display());
        Server::greedy(&[&["--alias", "tiny", &*lora, &*folder], flags].concat())
    }
}

/// Gives a folder of PEFT a pattern that no module has.
fn mistype(folder: &std::path::Path) {
    let path = folder.join("adapter_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["rank_pattern"]["q_prj"] = 2.into();
    std::fs::write(path, config.to_string()).unwrap();
}

#[test]
fn what_is_not_used_of_an_adapter_is_logged_when_it_is_read() {
    let folder = Folder::new();
    story_adapters::write_peft(&folder.path("e"), 7);
    ["b", "e"].iter().for_each(|name| mistype(&folder.path(name)));
    let server = folder.serve(&["b", "a.gguf"], &[]);
    let line =
        |name: &str| format!("adapter {}: no tensor belongs to 'q_prj' of rank_pattern", folder.text(name));
    let count = |name: &str| server.log().matches(&line(name)).count();
    eventually("the first is told", || count("b") == 1);
    assert_eq!((count("e"), server.log().contains("WARN")), (0, true), "{}", server.log());
    let (status, _) = server.post_json("/lora-adapters/load", &json!({"path": "e"}));
    assert_eq!(status, 200);
    eventually("the second is told", || count("e") == 1);
    assert_eq!(count("b"), 1);
}

/// The library, which knows what each answer has to be.
struct Library {
    engine: Engine,
    adapters: Vec<Arc<Adapter>>,
}

impl Library {
    fn new(folder: &Folder, names: &[&str]) -> Library {
        let engine = Engine::builtin().unwrap();
        let adapters = names.iter().map(|name| engine.load_adapter(folder.path(name)).unwrap()).collect();
        Library { engine, adapters }
    }

    fn adapters(&self, scales: &[(usize, f32)]) -> Adapters {
        Adapters::new(scales.iter().map(|(id, scale)| (Arc::clone(&self.adapters[*id]), *scale)))
    }

    /// What follows a prompt.
    fn text(&self, scales: &[(usize, f32)], prompt: &str, n: usize) -> String {
        let mut session = self.engine.session(&SessionOptions::default()).unwrap();
        session.set_adapters(self.adapters(scales)).unwrap();
        let pieces = session.generate(prompt, &SamplingParams::greedy(), n).unwrap();
        pieces.map(Result::unwrap).collect()
    }
}

fn lora(scales: &[(usize, f32)]) -> Value {
    scales.iter().map(|(id, scale)| json!({"id": id, "scale": scale})).collect()
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

/// What the server makes of [`PROMPT`], with more fields in the request.
fn text(server: &Server, more: Value) -> String {
    let mut body = json!({"prompt": PROMPT, "n_predict": 24});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, answer) = server.post_json("/completion", &body);
    assert_eq!(status, 200, "{body}: {answer}");
    answer["content"].as_str().unwrap().to_owned()
}

fn scale(server: &Server, scales: &[(usize, f32)]) {
    let (status, answer) = server.post_json("/lora-adapters", &lora(scales));
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
}

fn ids_and_scales(server: &Server) -> Vec<(u64, f64)> {
    let (status, list) = server.get_json("/lora-adapters");
    assert_eq!(status, 200);
    let list = list.as_array().unwrap().iter();
    list.map(|one| (one["id"].as_u64().unwrap(), one["scale"].as_f64().unwrap())).collect()
}

#[test]
fn global_scales_hold_for_requests_that_say_nothing() {
    let folder = Folder::new();
    let library = Library::new(&folder, &["a.gguf", "b"]);
    let scaled = format!("--lora-scaled={}:0.5", folder.text("a.gguf"));
    let server = Server::greedy(&[&scaled, "--lora", &folder.text("b")]);
    let (status, list) = server.get_json("/lora-adapters");
    let one = |id: usize, file: &str, name: &str, scale: f32| json!({"id": id, "path": folder.text(file), "scale": scale, "task_name": "", "prompt_prefix": "", "name": name});
    assert_eq!((status, list), (200, json!([one(0, "a.gguf", "a", 0.5), one(1, "b", "b", 1.0)])));
    let none = library.text(&[], PROMPT, 24);
    let both = library.text(&[(0, 0.5), (1, 1.0)], PROMPT, 24);
    let first = library.text(&[(0, 1.0)], PROMPT, 24);
    assert!(none != both && both != first && none != first, "{none:?} {both:?} {first:?}");
    assert_eq!(text(&server, json!({})), both);
    // As in llama-server, those that are not named are switched off.
    scale(&server, &[(0, 1.0)]);
    assert_eq!(ids_and_scales(&server), [(0, 1.0), (1, 0.0)]);
    assert_eq!(text(&server, json!({})), first);
    scale(&server, &[]);
    assert_eq!(text(&server, json!({})), none);
    // A request has the last word, and an empty list says nothing.
    scale(&server, &[(0, 1.0)]);
    assert_eq!(text(&server, json!({"lora": lora(&[(1, 1.0), (0, 0.5)])})), both);
    assert_eq!(text(&server, json!({"lora": lora(&[(1, 0.0)])})), none);
    assert_eq!(text(&server, json!({"lora": []})), first);
    assert_eq!(text(&server, json!({"lora": null})), first);
    let (_, answer) = server
        .post_json("/completion", &json!({"prompt": PROMPT, "n_predict": 1, "lora": lora(&[(1, 0.5)])}));
    assert_eq!(answer["generation_settings"]["lora"], lora(&[(1, 0.5)]));
}

#[test]
fn requests_with_different_adapters_share_passes_and_are_answered_as_if_alone() {
    let folder = Folder::new();
    let names = ["a.gguf", "b", "c.gguf", "d.gguf"];
    let library = Library::new(&folder, &names);
    let server =
        folder.serve(&names, &["-np", "6", "--kv-unified", "-c", "8192", "--lora-init-without-apply"]);
    assert!(ids_and_scales(&server).iter().all(|(_, scale)| *scale == 0.0));
    let mixes: [&[(usize, f32)]; 8] = [
        &[],
        &[(0, 1.0)],
        &[(1, 1.0)],
        &[(2, 1.0)],
        &[(3, 1.0)],
        &[(0, 0.25)],
        &[(0, 0.5), (3, -0.5)],
        &[(0, 0.3), (1, 0.3), (2, 0.3), (3, 0.3)],
    ];
    let mut asked = Vec::new();
    for (i, mix) in mixes.iter().enumerate() {
        for prompt in [STORY, PROMPT] {
            asked.push((*mix, prompt, 24 + 5 * i));
        }
    }
    let expected: Vec<String> = asked.iter().map(|(mix, prompt, n)| library.text(mix, prompt, *n)).collect();
    let beginning = |text: &String| text.chars().take(20).collect::<String>();
    let different: BTreeSet<String> = expected.iter().step_by(2).map(beginning).collect();
    assert!(different.len() >= 6, "{different:#?}");
    // Twice: the second time, prompts come from the cache, each from that of its own adapters. There is room for all of them.
    for round in 0..2 {
        let answers: Vec<Value> = std::thread::scope(|scope| {
            let threads: Vec<_> = asked
                .iter()
                .map(|(mix, prompt, n)| {
                    let body = json!({"prompt": prompt, "n_predict": n, "lora": lora(mix)});
                    let server = &server;
                    scope.spawn(move || server.post_json("/completion", &body).1)
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for ((asked, answer), expected) in asked.iter().zip(&answers).zip(&expected) {
            assert_eq!(answer["content"], **expected, "{asked:?}: {answer}");
            if round == 1 && asked.1 == STORY {
                assert!(answer["timings"]["cache_n"].as_u64().unwrap() > 64, "{answer}");
            }
        }
    }
}

/// Begins a long answer in a stream, does something once its first tokens are there, and returns the rest of it.
fn while_streaming(server: &Server, body: &Value, n_before: usize, act: impl FnOnce()) -> String {
    let stream = server.begin("/completion", &with(body.clone(), "stream", true.into()));
    let mut stream = std::io::BufReader::new(stream);
    // The head ends in an empty line; events come in chunks, whose lengths are lines too.
    let (mut content, mut n_events, mut act) = (String::new(), 0, Some(act));
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream breaks off: {content}");
        let Some(event) = line.strip_prefix("data: ") else { continue };
        let event: Value = serde_json::from_str(event).unwrap();
        content += event["content"].as_str().unwrap_or_else(|| panic!("{event}"));
        n_events += 1;
        if n_events == n_before {
            act.take().unwrap()();
        }
        if event["stop"] == true {
            assert!(n_events > 2 * n_before, "{n_events} events");
            return content;
        }
    }
}

#[test]
fn new_scales_are_for_new_requests() {
    let folder = Folder::new();
    let library = Library::new(&folder, &["a.gguf"]);
    let server = folder.serve(&["a.gguf"], &[]);
    let body = json!({"prompt": PROMPT, "n_predict": 300, "ignore_eos": true});
    let alone = server.post_json("/completion", &body).1["content"].as_str().unwrap().to_owned();
    let content = while_streaming(&server, &body, 5, || {
        scale(&server, &[]);
        assert_eq!(text(&server, json!({})), library.text(&[], PROMPT, 24));
    });
    assert_eq!(content, alone);
    assert_eq!(ids_and_scales(&server), [(0, 0.0)]);
    scale(&server, &[(0, 1.0)]);
    assert_eq!(text(&server, json!({})), library.text(&[(0, 1.0)], PROMPT, 24));
}

#[test]
fn adapters_are_loaded_and_unloaded_while_answers_use_them() {
    let folder = Folder::new();
    let library = Library::new(&folder, &["a.gguf", "c.gguf"]);
    let server = folder.serve(&["a.gguf"], &[]);
    let (status, loaded) =
        server.post_json("/lora-adapters/load", &json!({"path": "c.gguf", "name": "second", "scale": 0.5}));
    let expected = json!({"id": 1, "name": "second", "path": "c.gguf", "scale": 0.5, "task_name": "", "prompt_prefix": ""});
    assert_eq!((status, loaded), (200, expected));
    assert_eq!(text(&server, json!({})), library.text(&[(0, 1.0), (1, 0.5)], PROMPT, 24));
    let body = json!({"prompt": PROMPT, "n_predict": 300, "ignore_eos": true, "lora": lora(&[(1, 1.0)])});
    let alone = server.post_json("/completion", &body).1["content"].as_str().unwrap().to_owned();
    let content = while_streaming(&server, &body, 5, || {
        assert_eq!(server.post_json("/lora-adapters/unload", &json!({"id": 1})).0, 200);
        let (status, refused) = server.post_json("/completion", &body);
        assert_eq!((status, &refused["error"]["param"]), (400, &json!("lora[0].id")), "{refused}");
        assert_eq!(text(&server, json!({})), library.text(&[(0, 1.0)], PROMPT, 24));
    });
    assert_eq!(content, alone);
    assert_eq!(ids_and_scales(&server), [(0, 1.0)]);
    // A number is not given again.
    let (_, loaded) = server.post_json("/lora-adapters/load", &json!({"path": "b"}));
    assert_eq!((&loaded["id"], &loaded["name"], &loaded["scale"]), (&json!(2), &json!("b"), &json!(1.0)));
    assert_eq!(server.post_json("/lora-adapters/unload", &json!({"id": 1})).0, 400);
}

#[test]
fn an_adapter_is_a_model_by_its_name() {
    let folder = Folder::new();
    let library = Library::new(&folder, &["a.gguf", "b"]);
    let server =
        folder.serve(&["a.gguf", "b"], &["--lora-init-without-apply", "--chat-template", "mistral-v3"]);
    assert_eq!(text(&server, json!({"model": "b"})), library.text(&[(1, 1.0)], PROMPT, 24));
    assert_eq!(text(&server, json!({"model": "tiny"})), library.text(&[], PROMPT, 24));
    assert_eq!(
        text(&server, json!({"model": "b", "lora": lora(&[(0, 1.0)])})),
        library.text(&[(0, 1.0)], PROMPT, 24)
    );

    let (_, models) = server.get_json("/v1/models");
    let listed: Vec<(&str, &Value)> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["id"].as_str().unwrap(), &m["parent"]))
        .collect();
    assert_eq!(listed, [("tiny", &Value::Null), ("a", &json!("tiny")), ("b", &json!("tiny"))]);
    assert_eq!(server.get_json("/v1/models/b").1["root"], folder.text("b"));
    assert_eq!(server.get("/v1/models/c").status, 404);

    // Every interface has both ways.
    let talk = json!([{"role": "user", "content": "Tell me a story."}]);
    let chat = json!({"messages": talk, "max_tokens": 16});
    let ollama = json!({"options": {"num_predict": 16, "temperature": 0}, "stream": false});
    let input = json!({"input": "Tell me a story.", "max_output_tokens": 16});
    for (path, body, at) in [
        ("/v1/chat/completions", chat.clone(), "/choices/0/message/content"),
        ("/v1/completions", json!({"prompt": PROMPT, "max_tokens": 16}), "/choices/0/text"),
        ("/v1/responses", input, "/output/0/content/0/text"),
        ("/v1/messages", chat, "/content/0/text"),
        ("/api/chat", with(ollama.clone(), "messages", talk), "/message/content"),
        ("/api/generate", with(ollama, "prompt", PROMPT.into()), "/response"),
        ("/v1/embeddings", json!({"input": STORY}), "/data/0/embedding"),
        ("/embedding", json!({"content": STORY}), "/0/embedding"),
        ("/api/embed", json!({"input": STORY}), "/embeddings/0"),
        ("/api/embeddings", json!({"prompt": STORY}), "/embedding"),
    ] {
        let ask = |body: Value| {
            let (status, answer) = server.post_json(path, &body);
            assert_eq!(status, 200, "{path} {body}: {answer}");
            answer.pointer(at).unwrap_or_else(|| panic!("{path}: {answer}")).clone()
        };
        let plain = ask(with(body.clone(), "model", "tiny".into()));
        let named = ask(with(body.clone(), "model", "b".into()));
        let numbered = with(body.clone(), "model", "tiny".into());
        let numbered = ask(with(numbered, "lora", lora(&[(1, 1.0)])));
        assert!(named == numbered && named != plain, "{path}: {plain} {named} {numbered}");
    }
}

#[test]
fn pages_on_the_disk_are_those_of_their_adapters() {
    let folder = Folder::new();
    let cache = format!("--cache-dir={}", folder.text("cache"));
    let ask = |server: &Server, scales: &[(usize, f32)]| {
        let body = json!({"prompt": STORY, "n_predict": 8, "lora": lora(scales)});
        let answer = server.post_json("/completion", &body).1;
        (answer["content"].clone(), answer["timings"]["cache_n"].as_u64().unwrap())
    };
    let names = ["a.gguf", "b"];
    let first = {
        let mut server = folder.serve(&names, &[&cache]);
        let first = [ask(&server, &[(0, 1.0)]), ask(&server, &[(1, 1.0)])];
        assert_eq!(first.each_ref().map(|(_, cached)| *cached), [0, 0]);
        assert!(first[0].0 != first[1].0);
        #[cfg(unix)]
        server.terminate();
        first
    };
    // In another order: not the numbers tell them apart, but what is in them.
    let server = folder.serve(&["b", "a.gguf"], &[&cache]);
    assert_eq!(ask(&server, &[(0, 0.5)]).1, 0);
    for (scales, (content, _)) in [([(1, 1.0)], &first[0]), ([(0, 1.0)], &first[1])] {
        let (again, cached) = ask(&server, &scales);
        assert_eq!(again, *content);
        assert!(cached >= 64, "{cached}");
    }
}

#[test]
fn a_model_that_slept_wakes_with_its_adapters() {
    let folder = Folder::new();
    let library = Library::new(&folder, &["a.gguf", "b", "c.gguf"]);
    let server = folder.serve(&["a.gguf"], &["--sleep-idle-seconds", "1"]);
    for path in ["b", "c.gguf"] {
        assert_eq!(server.post("/lora-adapters/load", &json!({"path": path})).status, 200);
    }
    scale(&server, &[(0, 0.5), (1, 0.25)]);
    std::fs::remove_file(folder.path("c.gguf")).unwrap();
    eventually("it sleeps", || server.get_json("/props").1["is_sleeping"] == true);
    assert_eq!(ids_and_scales(&server), [(0, 0.5), (1, 0.25), (2, 0.0)]);
    assert_eq!(text(&server, json!({})), library.text(&[(0, 0.5), (1, 0.25)], PROMPT, 24));
    // What is gone meanwhile is forgotten, and said.
    assert_eq!(ids_and_scales(&server), [(0, 0.5), (1, 0.25)]);
    assert!(server.log().contains("adapter 2 is unloaded"), "{}", server.log());
}

#[test]
fn a_router_has_the_adapters_of_its_presets() {
    let folder = Folder::new();
    let library = Library::new(&folder, &["a.gguf", "b"]);
    let presets = folder.path("presets.ini");
    let (a, b) = (folder.text("a.gguf"), folder.text("b"));
    let model = serve_support::MODEL_FILE;
    std::fs::write(
        &presets,
        format!("[mine]\nmodel = {model}\nlora = {a}\nlora-scaled = {b}:0.5\ntemp = 0\n"),
    )
    .unwrap();
    let home = cli_support::Folder::new();
    home.write("Modelfile", format!("FROM {model}\nADAPTER {a}\nPARAMETER temperature 0\n"));
    home.bise(["create", "tuned"]).ok();
    let command = home.command(["serve", "--port", "0", "--models-preset", &presets.display().to_string()]);
    let server = Server::spawn(command);
    assert_eq!(server.get("/lora-adapters").status, 400);
    assert_eq!(server.get("/lora-adapters?model=mine").json()[1]["scale"], 0.5);
    // Those of a Modelfile are a part of the model.
    assert_eq!(text(&server, json!({"model": "tuned"})), library.text(&[(0, 1.0)], PROMPT, 24));
    // Named by its adapter, the model is loaded.
    assert_eq!(text(&server, json!({"model": "b"})), library.text(&[(1, 0.5)], PROMPT, 24));
    assert_eq!(text(&server, json!({"model": "mine"})), library.text(&[(0, 1.0), (1, 0.5)], PROMPT, 24));
    assert_eq!(server.post("/lora-adapters?model=mine", &lora(&[(1, 1.0)])).status, 200);
    assert_eq!(text(&server, json!({"model": "mine"})), library.text(&[(1, 1.0)], PROMPT, 24));
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let folder = Folder::new();
    std::fs::write(folder.path("torn.gguf"), &std::fs::read(folder.path("a.gguf")).unwrap()[..5000]).unwrap();
    std::fs::copy(serve_support::MODEL_FILE, folder.path("model.gguf")).unwrap();
    std::fs::write(folder.path("note.gguf"), "a secret line\nand another\n").unwrap();
    let server = folder.serve(&["a.gguf"], &[]);
    #[cfg(unix)]
    {
        let outside = tempfile::tempdir().unwrap();
        std::fs::copy(folder.path("c.gguf"), outside.path().join("c.gguf")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("c.gguf"), folder.path("out.gguf")).unwrap();
        std::os::unix::fs::symlink("c.gguf", folder.path("in.gguf")).unwrap();
        let (status, answer) = server.post_json("/lora-adapters/load", &json!({"path": "out.gguf"}));
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains("--lora-dir"), "{status} {answer}");
        let load = json!({"path": "in.gguf", "model": "tiny"});
        let (status, loaded) = server.post_json("/lora-adapters/load", &load);
        assert_eq!(status, 200, "{loaded}");
        assert_eq!(server.post_json("/lora-adapters/unload", &json!({"id": loaded["id"]})).0, 200);
    }
    let completion = |lora: Value| json!({"prompt": PROMPT, "n_predict": 1, "lora": lora});
    for (path, body, words) in [
        ("/completion", completion(json!([{"id": 1, "scale": 1}])), "lora[0].id: found 1"),
        (
            "/completion",
            completion(json!([{"id": 0, "scale": 1}, {"id": -1, "scale": 1}])),
            "lora[1].id: found -1",
        ),
        ("/completion", completion(json!([{"id": 0}])), "lora[0].scale: found nothing"),
        ("/completion", completion(json!([{"scale": 1}])), "lora[0].id: found nothing"),
        (
            "/completion",
            completion(json!([{"id": 0.5, "scale": 1}])),
            "lora[0].id: found floating point `0.5`",
        ),
        ("/completion", completion(json!([{"id": 0, "scale": 1e39}])), "lora[0].scale: found floating point"),
        ("/completion", completion(json!([{"id": 0, "scale": "1"}])), "lora[0].scale: found string"),
        ("/completion", completion(json!({"id": 0, "scale": 1})), "lora: found an object, expected a list"),
        ("/v1/embeddings", json!({"input": "a", "lora": [{"id": 7, "scale": 1}]}), "lora[0].id: found 7"),
        ("/lora-adapters", json!([{"id": 0, "scale": 0.5}, {"id": 3, "scale": 1}]), "[1].id: found 3"),
        ("/lora-adapters", json!({}), "expected a list"),
        ("/lora-adapters/unload", json!({}), "id: found nothing"),
        ("/lora-adapters/unload", json!({"id": 5}), "id: found 5"),
        ("/lora-adapters/load", json!({}), "path: found nothing"),
        ("/lora-adapters/load", json!({"path": "../a.gguf"}), "path: found \"../a.gguf\""),
        ("/lora-adapters/load", json!({"path": folder.text("c.gguf")}), "in that of --lora-dir"),
        ("/lora-adapters/load", json!({"path": "missing.gguf"}), "path: found \"missing.gguf\""),
        ("/lora-adapters/load", json!({"path": "torn.gguf"}), "torn.gguf"),
        ("/lora-adapters/load", json!({"path": "model.gguf"}), "general.type"),
        ("/lora-adapters/load", json!({"path": "c.gguf", "scale": "much"}), "scale: found string"),
        ("/lora-adapters/load", json!({"path": "c.gguf", "name": "a"}), "name: found \"a\""),
        ("/lora-adapters/load", json!({"path": "c.gguf", "name": "tiny"}), "name: found \"tiny\""),
        ("/lora-adapters/load", json!({"path": "c.gguf", "name": "x/y"}), "name: found \"x/y\""),
        ("/lora-adapters/load", json!({"path": "c.gguf", "name": "x:latest"}), "name: found \"x:latest\""),
        ("/lora-adapters/load", json!({"path": "c.gguf", "scales": 0.5}), "scales"),
        (
            "/lora-adapters/load",
            json!({"path": "note.gguf"}),
            "path: found \"note.gguf\", expected a GGUF file",
        ),
    ] {
        let (status, answer) = server.post_json(path, &body);
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(status == 400 && message.contains(words), "{path} {body}: {status} {answer}");
        let told = message.contains("secret") || message.contains(&*folder.folder.path().to_string_lossy());
        let asked = body["path"].as_str().is_some_and(|path| path.starts_with('/'));
        assert!(asked || !told, "{answer}");
    }
    assert_eq!(ids_and_scales(&server), [(0, 1.0)]);

    let closed = Server::greedy(&["--api-key", "secret", "--lora", &folder.text("a.gguf")]);
    for path in ["/lora-adapters", "/lora-adapters/load", "/lora-adapters/unload"] {
        assert_eq!(closed.post(path, &json!({"id": 0, "path": "a.gguf"})).status, 401, "{path}");
    }
    let key = [("authorization", "Bearer secret"), ("content-type", "application/json")];
    let refused = closed.send("POST", "/lora-adapters/load", &key, r#"{"path": "a.gguf"}"#);
    assert!(refused.status == 501 && refused.body.contains("--lora-dir"), "{}", refused.body);
}

#[test]
fn a_server_says_why_it_does_not_start() {
    let folder = Folder::new();
    let fails = |flags: &[&str]| {
        let output = command(flags).stdout(std::process::Stdio::null()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let missing = folder.text("missing.gguf");
    let (code, words) = fails(&["--lora", &missing]);
    assert!(code == 1 && words.contains("missing.gguf"), "{code} {words}");
    for flags in [&["--lora-scaled", "a.gguf"][..], &["--lora-dir", &missing]] {
        let (code, words) = fails(flags);
        assert!(code == 2 && words.contains(flags[0]), "{code} {words}");
    }
}
