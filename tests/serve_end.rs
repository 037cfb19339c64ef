//! How `bise serve` ends: answers under way come to their end, nothing new is begun, and nobody holds it up.

#![cfg(all(unix, feature = "server", feature = "cli", feature = "builtin-model"))]

mod serve_support;

use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serve_support::{Server, command, eventually, read, request};

/// A request whose answer takes a second or more.
fn long(stream: bool) -> Value {
    json!({"prompt": "Once", "n_predict": 3000, "ignore_eos": true, "stream": stream})
}

fn server(more: &[&str]) -> Server {
    Server::greedy(&[&["-np", "1", "-c", "4096"], more].concat())
}

/// Waits until a stream has begun, and returns what is still to be read.
fn begun(server: &Server) -> BufReader<std::net::TcpStream> {
    let mut stream = BufReader::new(server.begin("/completion", &long(true)));
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream begins");
    }
    stream
}

/// The last event of a stream.
fn last_event(mut stream: BufReader<std::net::TcpStream>) -> Value {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let last = text.lines().rev().find_map(|line| line.strip_prefix("data: ")).expect("an event");
    serde_json::from_str(last).unwrap()
}

#[test]
fn answers_under_way_end_and_new_requests_are_refused() {
    let mut server = server(&["--shutdown-grace", "60"]);
    let stream = begun(&server);
    // One in the queue is under way as well.
    let queued = server.begin(
        "/v1/chat/completions",
        &json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}),
    );
    eventually("it is in the queue", || server.get("/metrics").body.contains("requests_deferred 1"));
    server.signal("TERM");
    eventually("it is told", || server.get("/health").status == 503);
    for (path, body) in [
        ("/completion", json!({"prompt": "Once"})),
        ("/v1/messages", json!({"messages": [], "max_tokens": 1})),
        ("/api/chat", json!({"messages": []})),
        ("/tokenize", json!({"content": "x"})),
    ] {
        let refused = server.post(path, &body);
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{path}");
        assert_eq!(refused.header("connection"), Some("close"));
        assert!(refused.body.contains("the server is shutting down"), "{}", refused.body);
    }
    assert_eq!(server.get("/metrics").status, 200);
    let last = last_event(stream);
    assert_eq!((&last["stop_type"], &last["tokens_predicted"]), (&json!("limit"), &json!(3000)));
    let queued = read(&mut BufReader::new(queued)).json();
    assert_eq!(queued["usage"]["completion_tokens"], 3);
    let (code, took) = server.wait();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(3), "it ends with the last answer: {took:?}");
}

#[test]
fn answers_that_take_longer_than_they_may_are_cut_and_say_so() {
    let mut server = server(&["--shutdown-grace", "0"]);
    let stream = begun(&server);
    let whole = server.begin("/completion", &long(false));
    eventually("it is in the queue", || server.get("/metrics").body.contains("requests_deferred 1"));
    let (code, took) = server.terminate();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(3), "{took:?}");
    let last = last_event(stream);
    assert!(last["error"]["message"].as_str().unwrap().contains("the answer was cut"), "{last}");
    let whole = read(&mut BufReader::new(whole));
    assert!(whole.status == 503 && whole.body.contains("the answer was cut"), "{whole:?}");
    assert!(server.log().contains("--shutdown-grace"), "{}", server.log());
}

#[test]
fn a_second_signal_does_not_wait() {
    for signals in [["TERM", "TERM"], ["INT", "INT"], ["TERM", "INT"]] {
        let mut server = server(&["--shutdown-grace", "60"]);
        let stream = begun(&server);
        server.signal(signals[0]);
        eventually("it is told", || server.log().contains("ending"));
        server.signal(signals[1]);
        let (code, took) = server.wait();
        assert_eq!(code, Some(130), "{}", server.log());
        assert!(took < Duration::from_secs(3), "{took:?}");
        eventually("it is said", || server.log().contains("ended by a second signal"));
        drop(stream);
    }
}

#[test]
fn connections_without_a_request_hold_nobody_up() {
    let mut server = server(&["--shutdown-grace", "60"]);
    let silent = server.connect();
    // One that has had its answer, and may ask again.
    let mut kept = server.connect();
    kept.write_all(request("localhost", "GET", "/health", &[], "").as_bytes()).unwrap();
    assert_eq!(read(&mut BufReader::new(kept.try_clone().unwrap())).status, 200);
    let (code, took) = server.terminate();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(3), "{took:?}");
    drop((silent, kept));
}

#[test]
fn a_model_that_cannot_be_opened_ends_the_server() {
    let output = command(&["-m", "/no/such/model.gguf"]).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(message.contains("bise: error: ") && message.contains("/no/such/model.gguf"), "{message}");
}

#[test]
fn what_was_read_is_on_the_disk_before_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--cache-dir", folder.path().to_str().unwrap(), "--sliding-window", "0"];
    let prompt = "the quick brown fox jumps over the lazy dog ".repeat(150);
    let body = json!({"prompt": prompt, "n_predict": 1});
    let mut first = server(&flags);
    let read = first.post("/completion", &body).json();
    let n_prompt = read["tokens_evaluated"].as_u64().unwrap();
    assert!(n_prompt > 1000 && read["timings"]["cache_n"] == 0, "{}", read["timings"]);
    assert_eq!(first.terminate().0, Some(0));
    let second = server(&flags);
    let start = Instant::now();
    let again = second.post("/completion", &body).json();
    let n_cached = again["timings"]["cache_n"].as_u64().unwrap();
    assert!(n_cached + 64 >= n_prompt - 1, "{n_cached} of {n_prompt} in {:?}", start.elapsed());
    assert_eq!(again["content"], read["content"]);
}
