//! What goes wrong around `bise serve`, and what it does about it: bad numbers in a model, clients that stall, a disk that is full.

#![cfg(all(unix, feature = "server", feature = "cli", feature = "builtin-model"))]

mod infinite_embedding;
mod serve_support;

use std::io::{BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use infinite_embedding::with_infinite_embedding;
use serde_json::{Value, json};
use serve_support::{Server, eventually, read, request};

#[test]
fn a_request_that_meets_bad_numbers_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    with_infinite_embedding(300, &path);
    let server =
        Server::greedy(&["-m", path.to_str().unwrap(), "-np", "4", "-c", "4096", "--pooling", "mean"]);
    let good = json!({"prompt": "Once upon a time", "n_predict": 60, "ignore_eos": true});
    let expected = server.post("/completion", &good).json()["content"].clone();
    let texts = std::thread::scope(|scope| {
        let good: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| server.post("/completion", &good).json()["content"].clone()))
            .collect();
        let bad = json!({"prompt": [1, 300, 5], "n_predict": 5});
        // In the prompt, and in the middle of an answer; it is chosen because the request says so.
        let fatal = json!({"prompt": [1, 5], "n_predict": 9, "logit_bias": [[300, 1e6]]});
        for body in [&bad, &fatal] {
            let failed = server.post("/completion", body);
            assert_eq!(failed.status, 500, "{}", failed.body);
            let error = &failed.json()["error"];
            assert!(error["message"].as_str().unwrap().contains("are not finite"), "{error}");
            assert_eq!(error["type"], "server_error");
            let mut streamed = body.clone();
            streamed["stream"] = json!(true);
            let streamed = server.post("/completion", &streamed);
            let last: Value = serde_json::from_str(streamed.events().last().unwrap()).unwrap();
            assert_eq!(last["error"]["code"], 500, "{}", streamed.body);
        }
        let embedded = server.post("/v1/embeddings", &json!({"input": [[1, 5], [300, 5]]}));
        assert!(embedded.status == 500 && embedded.body.contains("input 1: "), "{}", embedded.body);
        good.into_iter().map(|good| good.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(texts.iter().all(|text| *text == expected), "{texts:?}");
    assert_eq!(server.post("/completion", &good).json()["content"], expected);
    let slots = server.get("/slots").json();
    assert!(slots.as_array().unwrap().iter().all(|slot| slot["is_processing"] == false), "{slots}");
}

#[test]
fn clients_that_stall_are_not_waited_for() {
    let server = Server::greedy(&["--timeout", "1"]);
    let start = Instant::now();
    // In the middle of the headers, and of the body.
    let mut headless = server.connect();
    headless.write_all(b"POST /completion HTTP/1.1\r\nhost: local").unwrap();
    let mut bodiless = server.connect();
    let text = request(&server.address, "POST", "/completion", &[], &json!({"prompt": "x"}).to_string());
    bodiless.write_all(&text.as_bytes()[..text.len() - 3]).unwrap();
    let response = read(&mut BufReader::new(bodiless));
    assert_eq!(response.status, 408, "{}", response.body);
    assert!(response.body.contains("the body does not come"), "{}", response.body);
    headless.read_to_end(&mut Vec::new()).unwrap();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    // A body that comes slowly, but comes, is fine.
    let mut slow = server.connect();
    let (head, body) = text.split_at(text.find("\r\n\r\n").unwrap() + 4);
    slow.write_all(head.as_bytes()).unwrap();
    for part in body.as_bytes().chunks(body.len() / 4) {
        slow.write_all(part).unwrap();
        std::thread::sleep(Duration::from_millis(400));
    }
    assert_eq!(read(&mut BufReader::new(slow)).status, 200);
}

#[test]
fn a_client_that_does_not_read_keeps_nobody_waiting() {
    let server = Server::greedy(&["-np", "2", "-c", "2048"]);
    // Far more than sockets hold.
    let body = json!({"prompt": "Once", "n": 4, "n_predict": 400, "n_probs": 100, "ignore_eos": true, "stream": true});
    let deaf = server.begin("/completion", &body);
    // Its jobs come to their end, though nobody reads what they say.
    eventually("every job is over", || {
        server.get("/slots").json().as_array().unwrap().iter().all(|slot| slot["is_processing"] == false)
            && server.get("/metrics").body.contains("requests_deferred 0")
    });
    let other = server.post("/completion", &json!({"prompt": "Once upon a time", "n_predict": 4}));
    assert_eq!(other.json()["content"], ", a kind boy");
    // Nothing was lost on the way.
    let response = read(&mut BufReader::new(deaf));
    let ends = response.events().iter().filter(|event| event.contains("\"stop\":true")).count();
    assert_eq!((response.status, ends), (200, 4));
}

#[test]
fn looking_takes_no_time_whatever_is_running() {
    let server = Server::greedy(&["-np", "4", "-c", "65536"]);
    let long = "the quick brown fox jumps over the lazy dog ".repeat(1200);
    let is_over = AtomicBool::new(false);
    let busy = [
        ("/completion", json!({"prompt": long, "n_predict": 50})),
        ("/completion", json!({"prompt": "Once", "n_predict": 300, "ignore_eos": true})),
        ("/tokenize", json!({"content": long.repeat(4), "with_pieces": true})),
        (
            "/completion",
            json!({"prompt": "x", "n_predict": 50, "grammar": format!("root ::= ({}){{1,200}}", "[a-z]{3,60} \" \"? ".repeat(4))}),
        ),
        ("/v1/embeddings", json!({"input": vec![&long[..9000]; 2]})),
    ];
    let mut took = Vec::new();
    std::thread::scope(|scope| {
        for (path, body) in &busy {
            scope.spawn(|| {
                while !is_over.load(SeqCst) {
                    let _ = server.post(path, body);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        for path in ["/health", "/slots", "/metrics", "/v1/models", "/props"].repeat(12) {
            let start = Instant::now();
            assert_eq!(server.get(path).status, 200, "{path}");
            took.push((start.elapsed(), path));
            std::thread::sleep(Duration::from_millis(20));
        }
        is_over.store(true, SeqCst);
    });
    took.sort();
    // Others may keep the processor from this test now and then.
    let (median, slow) = (took[took.len() / 2], took[took.len() * 9 / 10]);
    assert!(median.0 < Duration::from_millis(50), "{median:?}");
    assert!(slow.0 < Duration::from_millis(100), "{slow:?} of {took:?}");
}

#[test]
fn two_servers_share_a_cache_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().to_str().unwrap();
    let start = || Server::greedy(&["--cache-dir", cache, "--sliding-window", "0", "-c", "4096", "-np", "2"]);
    let (first, second) = (start(), start());
    let body = |n: usize| {
        let prompt = format!("{n} ") + &"the quick brown fox jumps over the lazy dog ".repeat(60);
        json!({"prompt": prompt, "n_predict": 5})
    };
    let expected: Vec<Value> = (0..4).map(|n| first.post("/completion", &body(n)).json()).collect();
    eventually("its pages are written", || {
        let n_cached = |n| second.post("/completion", &body(n)).json()["timings"]["cache_n"].as_u64();
        (0..4).all(|n| n_cached(n) >= Some(64))
    });
    // Both at once, and one is killed meanwhile.
    let mut first = first;
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (second, expected) = (&second, &expected);
            scope.spawn(move || {
                let answer = second.post("/completion", &body(n % 4)).json();
                assert_eq!(answer["content"], expected[n % 4]["content"]);
            });
        }
        let _ = first.process.kill();
    });
    // What is broken on the disk is seen, and read anew.
    drop(second);
    let mut pages = Vec::new();
    let mut folders = vec![folder.path().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { pages.push(path) }
        }
    }
    assert!(pages.len() > 8, "{pages:?}");
    for (i, page) in pages.iter().enumerate() {
        let mut bytes = std::fs::read(page).unwrap();
        match i % 4 {
            0 => bytes.truncate(bytes.len() / 2),
            1 => *bytes.last_mut().unwrap() ^= 1,
            2 => bytes.clear(),
            _ => bytes[40] ^= 0x10,
        }
        std::fs::write(page, bytes).unwrap();
    }
    let third = start();
    for n in 0..4 {
        let answer = third.post("/completion", &body(n)).json();
        assert_eq!(answer["content"], expected[n]["content"]);
        assert!(answer["timings"]["cache_n"].as_u64() < Some(64), "no page is sound: {}", answer["timings"]);
    }
    assert!(third.log().contains("a cached page is damaged and dropped"), "{}", third.log());
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_costs_a_line_and_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    // No file may be longer than a few kB; a page is longer.
    let mut shell = std::process::Command::new("sh");
    let serve = format!(
        "ulimit -f 8; exec \"$0\" serve --model builtin --port 0 --temp 0 --sliding-window 0 --cache-dir {}",
        folder.path().display()
    );
    shell.args(["-c", &serve, env!("CARGO_BIN_EXE_bise")]).stderr(std::process::Stdio::piped());
    let server = Server::spawn(shell);
    let body = json!({"prompt": "the quick brown fox jumps over the lazy dog ".repeat(60), "n_predict": 5});
    let answer = server.post("/completion", &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    eventually("it is said", || server.log().contains("no pages are written to the cache"));
    let again = server.post("/completion", &body).json();
    assert_eq!(again["content"], answer.json()["content"]);
    assert!(again["timings"]["cache_n"].as_u64().unwrap() > 300, "memory is not concerned");
    assert_eq!(server.log().matches("no pages are written to the cache").count(), 1, "{}", server.log());
}

#[test]
fn a_model_that_nobody_uses_sleeps_and_is_woken() {
    let server = Server::greedy(&["--sleep-idle-seconds", "1"]);
    let status = || server.get("/v1/models").json()["data"][0]["status"]["value"].clone();
    let body = json!({"prompt": "Once upon a time", "n_predict": 4});
    assert_eq!(server.post("/completion", &body).json()["content"], ", a kind boy");
    assert_eq!(status(), "loaded");
    // Looking does not keep it awake, nor wake it.
    eventually("it sleeps", || {
        assert_eq!((server.get("/health").status, server.get("/slots").status), (200, 200));
        assert_eq!(server.get("/metrics").status, 200);
        status() == "sleeping"
    });
    assert_eq!(server.get("/props").status, 200);
    assert_eq!(status(), "sleeping");
    let start = Instant::now();
    assert_eq!(server.post("/completion", &body).json()["content"], ", a kind boy");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(status(), "loaded");
    // One that is busy stays.
    let long = json!({"prompt": "Once", "n_predict": 1500, "ignore_eos": true, "stream": true});
    let answer = read(&mut BufReader::new(server.begin("/completion", &long)));
    let last: Value = serde_json::from_str(answer.events().last().unwrap()).unwrap();
    assert_eq!(last["tokens_predicted"], 1500);
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("\nllamacpp:tokens_predicted_total 1508"), "counts go on: {metrics}");
}
