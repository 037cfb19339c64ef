//! Requests that make no sense are refused: with the right status, in the envelope of their interface, and by the name of what is wrong.

#![cfg(all(feature = "cli", feature = "server", feature = "builtin-model"))]

mod serve_support;

use std::io::{BufReader, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serve_support::{Response, Server, read};

/// Lines of `STATUS PATH`, a body, and a part of the message, with a tab between them.
const TABLE: &str = include_str!("golden/refused_requests.txt");

/// The message of a refusal, once its envelope is that of the interface that was asked.
fn message(path: &str, response: &Response) -> String {
    let whole = response.json();
    let error = &whole["error"];
    let message = if path.starts_with("/api/") {
        assert_eq!(whole.as_object().unwrap().len(), 1, "{whole}");
        error
    } else if path.starts_with("/v1/messages") {
        assert_eq!(whole["type"], "error", "{whole}");
        assert!(error["type"].is_string(), "{whole}");
        &error["message"]
    } else {
        assert_eq!(error["code"], response.status, "{whole}");
        assert!(error["type"].is_string(), "{whole}");
        &error["message"]
    };
    message.as_str().unwrap_or_else(|| panic!("{path}: {whole}")).to_owned()
}

#[test]
fn what_is_wrong_is_named_in_every_interface() {
    let server = Server::greedy(&["--alias", "bise-tiny"]);
    let mut n_requests = 0;
    let mut wrong = Vec::new();
    for line in TABLE.lines() {
        let [head, body, part] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (status, path) = head.split_once(' ').unwrap();
        let start = Instant::now();
        let response = server.send("POST", path, &[], body);
        let found = message(path, &response);
        if response.status.to_string() != status || !found.contains(part) {
            wrong.push(format!("{line}\n    found {} {found}", response.status));
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{line}");
        n_requests += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(n_requests > 300, "{n_requests}");
    assert_eq!(server.get("/health").status, 200);
}

const INTERFACES: [(&str, &str); 4] = [
    ("/v1/chat/completions", r#"{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}"#),
    ("/completion", r#"{"prompt": "Hi", "n_predict": 2}"#),
    (
        "/api/generate",
        r#"{"model": "bise-tiny", "prompt": "Hi", "stream": false, "options": {"num_predict": 2}}"#,
    ),
    ("/v1/messages", r#"{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}"#),
];

#[test]
fn bodies_that_are_no_json_objects_of_utf_8() {
    let server = Server::greedy(&["--alias", "bise-tiny"]);
    let refused = |path: &str, body: &[u8], part: &str| {
        let mut stream = server.connect();
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        stream.write_all(body).unwrap();
        let response = read(&mut BufReader::new(stream));
        assert_eq!(response.status, 400, "{path}: {}", response.body);
        let found = message(path, &response);
        assert!(found.contains(part), "{path}: {found}");
    };
    for (path, good) in INTERFACES {
        let with = |more: &str| format!("{}, {more}}}", &good[..good.len() - 1]);
        refused(path, b"", "not valid JSON: EOF");
        refused(path, &good.as_bytes()[..good.len() - 1], "not valid JSON: EOF");
        refused(path, b"[1]", "the body: found a list, expected a JSON object");
        refused(path, &[good.as_bytes(), b"x"].concat(), "trailing characters");
        refused(path, &good.replace("Hi", "H\u{1}i").into_bytes(), "control character");
        let latin = good.replace("Hi", "H?").into_bytes();
        let latin: Vec<u8> = latin.into_iter().map(|byte| if byte == b'?' { 0xE9 } else { byte }).collect();
        refused(path, &latin, "invalid unicode code point");
        refused(path, good.replace("Hi", "\\ud800").as_bytes(), "not valid JSON");
        refused(
            path,
            with(&format!("\"x\": {}{}", "[".repeat(200), "]".repeat(200))).as_bytes(),
            "recursion limit",
        );
        refused(path, "[".repeat(1 << 20).as_bytes(), "recursion limit");
        // What is odd and makes sense all the same.
        for odd in [
            with("\"x\": 1, \"x\": 2"),
            with("\"x\": 1e999"),
            with(&format!("\"x\": {}{}", "[".repeat(100), "]".repeat(100))),
            good.replace("Hi", "a\\u0000b"),
            good.replace("Hi", "\\ud83d\\ude00"),
            format!("\n\t{good} "),
        ] {
            let response = server.send("POST", path, &[], &odd);
            assert_eq!(response.status, 200, "{path} {odd}: {}", response.body);
        }
    }
}

#[test]
fn types_methods_and_headers() {
    let server = Server::greedy(&["--alias", "bise-tiny"]);
    for (path, good) in INTERFACES {
        for kind in [
            "text/plain",
            "text/plain; charset=utf-8",
            "multipart/form-data; boundary=x",
            "application/xml",
            "json",
            "\"",
            "*/*",
        ] {
            let response = server.send("POST", path, &[("content-type", kind)], good);
            assert_eq!(response.status, 415, "{path} {kind}: {}", response.body);
            assert!(
                message(path, &response).starts_with("Content-Type: found "),
                "{path} {kind}: {}",
                response.body
            );
        }
        for kind in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/vnd.api+json",
            "application/x-www-form-urlencoded",
            "",
        ] {
            assert_eq!(
                server.send("POST", path, &[("content-type", kind)], good).status,
                200,
                "{path} {kind}"
            );
        }
        for method in ["GET", "PUT", "DELETE", "PATCH", "TRACE", "FOO"] {
            let response = server.send(method, path, &[], "");
            assert_eq!((response.status, response.header("allow")), (405, Some("POST")), "{method} {path}");
            assert_eq!(message(path, &response), format!("{path} does not take {method}"));
        }
        let long = "x".repeat(40 << 10);
        assert_eq!(server.send("POST", path, &[("x-long", &long)], good).status, 200, "{path}");
        let too_long = "x".repeat(1 << 20);
        assert_eq!(server.send("POST", path, &[("x-long", &too_long)], good).status, 431, "{path}");
        let options = server.send("OPTIONS", path, &[], "");
        assert_eq!((options.status, options.body.as_str()), (200, ""), "{path}");
    }
    let unknown = server.send("POST", "/v2/nothing", &[], "{}");
    assert_eq!(
        (unknown.status, message("/v2/nothing", &unknown).as_str()),
        (404, "there is nothing at /v2/nothing")
    );
    for path in ["/rerank", "/v1/reranking", "/slots/0?action=save"] {
        assert_eq!(server.send("POST", path, &[], "{}").status, 501, "{path}");
    }
}

/// A refusal reaches a client that sends its whole body before it reads: the connection is not reset under it.
#[test]
fn large_bodies_are_read_or_refused_with_the_limit() {
    let server = Server::greedy(&["--alias", "bise-tiny", "--api-key", "secret"]);
    let key = ("authorization", "Bearer secret");
    let words = |n_bytes: usize| "a ".repeat(n_bytes / 2);
    for (path, _) in INTERFACES {
        let content = |n_bytes: usize| {
            let text = words(n_bytes);
            json!({"model": "bise-tiny", "prompt": text, "max_tokens": 1, "messages": [{"role": "user", "content": text}]}).to_string()
        };
        let response = server.send("POST", path, &[key], &content(4 << 20));
        assert_eq!(response.status, 400, "{path}: {}", response.body);
        assert!(message(path, &response).contains("exceeds the available context size"), "{}", response.body);
        let too_large = content(20 << 20);
        let response = server.send("POST", path, &[key], &too_large);
        assert_eq!(response.status, 413, "{path}: {}", response.body);
        assert_eq!(message(path, &response), "the body is too large: expected at most 33554432 bytes");
        let response = server.send("POST", path, &[], &too_large);
        assert_eq!(response.status, 401, "{path}: {}", response.body);
        let response = server.send("POST", path, &[key, ("content-type", "text/plain")], &too_large);
        assert_eq!(response.status, 415, "{path}: {}", response.body);
        assert_eq!(server.send("PUT", path, &[key], &too_large).status, 405, "{path}");
    }
    let embedded =
        server.send("POST", "/v1/embeddings", &[key], &json!({"input": ["a", words(4 << 20)]}).to_string());
    assert_eq!(embedded.status, 400, "{}", embedded.body);
    let error: Value = embedded.json()["error"].clone();
    assert!(error["message"].as_str().unwrap().starts_with("input 1: the request exceeds"), "{error}");
    assert_eq!(
        (error["type"].as_str(), error["n_ctx"].as_u64()),
        (Some("exceed_context_size_error"), Some(2048))
    );
    // Nobody waits for a body that does not come.
    let start = Instant::now();
    assert_eq!(server.status_of_a_long_body(1 << 40), 401);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}
