//! A client that goes away takes its request along, wherever that is: in the queue, while its prompt is read, in the middle of its answer.

#![cfg(all(unix, feature = "server", feature = "cli", feature = "builtin-model"))]

mod serve_support;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serve_support::{PATIENCE, Server, request};

/// What a request may take to be gone.
const PROMISED: Duration = Duration::from_millis(50);
/// Tries, of which one has to be as quick as promised: others may keep the processor from this test.
const TRIES: usize = 6;

/// A request to each interface; an answer goes on until the context is full.
fn interfaces(text: &str) -> Vec<(&'static str, Value)> {
    let messages = json!([{"role": "user", "content": text}]);
    let mut all = Vec::new();
    for stream in [true, false] {
        let texts = [
            ("/completion", json!({"prompt": text})),
            ("/v1/completions", json!({"prompt": text, "max_tokens": 16000})),
            ("/v1/chat/completions", json!({"messages": messages})),
            ("/v1/responses", json!({"input": text})),
            ("/v1/messages", json!({"model": "mistral", "messages": messages, "max_tokens": 16000})),
            ("/api/chat", json!({"model": "mistral", "messages": messages})),
            ("/api/generate", json!({"model": "mistral", "prompt": text})),
        ];
        all.extend(texts.map(|(path, mut body)| {
            body["stream"] = json!(stream);
            (path, body)
        }));
    }
    all
}

fn embeddings(text: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("/v1/embeddings", json!({"input": [text, text]})),
        ("/api/embed", json!({"model": "mistral", "input": text})),
        ("/embedding", json!({"content": text})),
    ]
}

/// Some 12,000 tokens that begin as no other.
fn long(n: usize) -> String {
    format!("{n} ") + &"the quick brown fox jumps over the lazy dog ".repeat(1200)
}

/// One request at a time, and answers that do not end by themselves.
fn server() -> Server {
    Server::greedy(&["-np", "1", "-c", "16384", "--ignore-eos", "--pooling", "mean", "--alias", "mistral"])
}

fn count(server: &Server, name: &str) -> f64 {
    let metrics = server.get("/metrics").body;
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap().parse().unwrap()
}

fn n_running(server: &Server) -> f64 {
    count(server, "llamacpp:requests_processing")
}

fn n_waiting(server: &Server) -> f64 {
    count(server, "llamacpp:requests_deferred")
}

fn wait(what: &str, mut is_true: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    start.elapsed()
}

/// Sends requests, has each client go away once `is_there`, and looks how long it takes until `is_gone`.
fn vanish(
    server: &Server,
    what: &str,
    mut ask: impl FnMut(usize) -> (&'static str, Value),
    is_there: impl Fn() -> bool,
    is_gone: impl Fn() -> bool,
) {
    let mut took = Vec::new();
    for i in 0..TRIES {
        let (path, body) = ask(i);
        let client: TcpStream = server.begin(path, &body);
        wait(&format!("{what}: {path} is there"), &is_there);
        drop(client);
        took.push(wait(&format!("{what}: {path} is gone"), &is_gone));
        if took[i] < PROMISED {
            return;
        }
    }
    panic!("{what}: {:?} took {took:?}", ask(0).0);
}

#[test]
fn in_the_middle_of_an_answer() {
    let server = server();
    for i in 0..interfaces("").len() {
        let is_decoding = || server.get("/slots").json()[0]["next_token"][0]["n_decoded"].as_u64() > Some(2);
        vanish(
            &server,
            "answer",
            |_| interfaces("Once upon a time").swap_remove(i),
            is_decoding,
            || n_running(&server) == 0.0,
        );
    }
}

#[test]
fn while_the_prompt_is_read() {
    let server = server();
    let n = interfaces("").len();
    let is_reading = || {
        let slot = &server.get("/slots").json()[0];
        let is_read = slot["n_prompt_tokens_processed"].as_u64() > Some(0);
        slot["is_processing"] == true && is_read
    };
    for i in 0..n {
        let ask = |attempt| interfaces(&long(TRIES * i + attempt)).swap_remove(i);
        vanish(&server, "prompt", ask, is_reading, || n_running(&server) == 0.0);
    }
    for i in 0..3 {
        let ask = |_| embeddings(&long(0)).swap_remove(i);
        vanish(&server, "text to embed", ask, || n_running(&server) > 0.0, || n_running(&server) == 0.0);
    }
    // None of these came to its end.
    assert_eq!(count(&server, "llamacpp:tokens_predicted_total"), 0.0);
}

#[test]
fn in_the_queue() {
    let server = server();
    let mut blocker = None;
    for i in 0..interfaces("").len() {
        let ask = |_| {
            // It ends when its context is full.
            if n_running(&server) == 0.0 {
                blocker = Some(server.begin("/completion", &json!({"prompt": "Once", "stream": true})));
                wait("the slot is taken", || n_running(&server) == 1.0);
            }
            interfaces("Once upon a time").swap_remove(i)
        };
        vanish(&server, "queue", ask, || n_waiting(&server) == 1.0, || n_waiting(&server) == 0.0);
    }
    drop(blocker);
    wait("the slot is free", || n_running(&server) == 0.0);
}

/// What a client has sent beyond its request does not hide that it is gone.
#[test]
fn with_more_in_the_pipe() {
    use std::io::Write;

    let server = server();
    let body = json!({"prompt": "Once upon a time"});
    for (stream, more) in
        [(false, "\r\n"), (true, "\r\n"), (false, "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")]
    {
        let mut body = body.clone();
        body["stream"] = json!(stream);
        let text = request(&server.address, "POST", "/completion", &[], &body.to_string()) + more;
        let mut took = Vec::new();
        while took.last().is_none_or(|took| *took >= 2 * PROMISED) {
            assert!(took.len() < TRIES, "{more:?} took {took:?}");
            let mut client = server.connect();
            client.write_all(text.as_bytes()).unwrap();
            wait("it is there", || n_running(&server) == 1.0);
            drop(client);
            took.push(wait("it is gone", || n_running(&server) == 0.0));
        }
    }
    // Half-closed is as good as gone: the difference cannot be seen.
    let client = server.begin("/completion", &body);
    wait("it is there", || n_running(&server) == 1.0);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    wait("it is gone", || n_running(&server) == 0.0);
}
