//! A router under load: memory and threads come back, and answers are those of each model alone.

#![cfg(all(feature = "cli", feature = "server", feature = "builtin-model"))]

mod cli_support;
mod serve_support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cli_support::Folder;
use serde_json::json;
use serve_support::Server;

/// Three models that answer differently.
const PRESETS: &str = "\
[a]
model = model.gguf
[b]
model = model.gguf
rope-freq-base = 3000
[c]
model = model.gguf
rope-freq-base = 300
";

fn router(flags: &[&str]) -> (Server, Folder) {
    let folder = Folder::new();
    folder.model();
    folder.write("presets.ini", PRESETS);
    let base = ["serve", "--models-preset", "presets.ini", "--port", "0", "-c", "512", "-t", "2"];
    let command = folder.command(base.iter().chain(flags));
    (Server::spawn(command), folder)
}

fn complete(server: &Server, model: &str, i: usize) -> String {
    let prompt = format!("{} there was a {}", ["Once", "Then", "One day"][i % 3], ["cat", "dog"][i / 3 % 2]);
    let request = json!({"model": model, "prompt": prompt, "n_predict": 24, "seed": i, "temperature": 0.7});
    let answer = server.post("/completion", &request);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["content"].as_str().unwrap().to_owned()
}

#[test]
fn answers_are_those_of_each_model_alone() {
    let (server, _folder) = router(&["--models-max", "3"]);
    let mut alone = HashMap::new();
    for model in ["a", "b", "c"] {
        for i in 0..12 {
            alone.insert((model, i), complete(&server, model, i));
        }
    }
    assert!((0..12).any(|i| alone[&("a", i)] != alone[&("b", i)] && alone[&("b", i)] != alone[&("c", i)]));
    drop(server);
    // Less room than models, and others that load and unload them meanwhile.
    let (server, _folder) = router(&["--models-max", "2"]);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Relaxed);
                    if n >= 200 {
                        break;
                    }
                    let model = ["a", "b", "c"][n * 7 % 3];
                    assert_eq!(
                        complete(&server, model, n % 12),
                        alone[&(model, n % 12)],
                        "request {n} to {model}"
                    );
                }
            });
        }
        scope.spawn(|| {
            for i in 0.. {
                if next.load(Relaxed) >= 200 {
                    break;
                }
                let (path, model) = (["/models/unload", "/models/load"][i % 2], ["a", "b", "c"][i % 3]);
                let status = server.post(path, &json!({"model": model})).status;
                assert!(status == 200 || status == 400, "{path} {model}: {status}");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    });
}

/// Anonymous memory, swapped or not, in bytes, and the number of threads.
#[cfg(target_os = "linux")]
fn taken(server: &Server) -> (usize, usize) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    let number = |name: &str| -> usize {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    ((number("RssAnon:") + number("VmSwap:")) << 10, number("Threads:"))
}

#[cfg(target_os = "linux")]
#[test]
fn memory_and_threads_come_back() {
    let (server, _folder) = router(&["--models-max", "2", "-c", "4096"]);
    let cycle = || {
        for model in ["a", "b"] {
            complete(&server, model, 0);
        }
        let full = taken(&server);
        for model in ["a", "b"] {
            let unloaded = server.post("/models/unload", &json!({"model": model}));
            assert_eq!(unloaded.status, 200, "{}", unloaded.body);
        }
        // Threads that the runtime keeps for a while end by themselves.
        (full, taken(&server))
    };
    let before = taken(&server);
    // What is kept from the first load on: the team of threads, what the allocator has of the program's own.
    let (_, (base, threads)) = cycle();
    let mut last = (base, threads);
    for i in 0..20 {
        let ((full, n_full), empty) = cycle();
        assert!(full > base + (1 << 20), "cycle {i}: {full} bytes with models, {base} without");
        // Two models have one team: beside that, a thread for each.
        assert!(n_full <= threads + 2 + 4, "cycle {i}: {n_full} threads with two models, {threads} without");
        last = empty;
    }
    let grown = last.0.saturating_sub(base);
    assert!(grown < base / 20 + (1 << 20), "from {base} to {} bytes; {before:?} at the start", last.0);
    let start = Instant::now();
    while taken(&server).1 > threads + 1 {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{} threads, {threads} after the first cycle",
            taken(&server).1
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}
