//! `bise train` as a program: what it writes, what it refuses, and that a run's result depends on nothing that it should not.
#![cfg(all(feature = "cli", feature = "train", feature = "builtin-model"))]

mod cli_support;
mod train_support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use cli_support::{Folder, Ran};
use train_support::records;

/// Rows of different lengths, some of them of two formats.
fn write_data(folder: &Folder) {
    let names = ["Pip", "Otto", "Mia", "Leo", "Nora", "Hugo", "Ivy", "Max", "Lily", "Tom"];
    let mut rows = String::new();
    for (i, name) in names.iter().enumerate() {
        let tail = "very ".repeat(i % 4);
        rows += &format!("{{\"prompt\": \"Who is {name}?\", \"completion\": \"{name} is {tail}kind.\"}}\n");
        rows += &format!(
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"Is {name} old?\"}}, {{\"role\": \"assistant\", \"content\": \"No.\"}}]}}\n"
        );
    }
    fs::create_dir_all(folder.path("data")).unwrap();
    folder.write("data/train.jsonl", &rows);
    let valid: Vec<&str> = rows.lines().take(4).collect();
    folder.write("data/valid.jsonl", valid.join("\n"));
    folder.write("data/test.jsonl", valid.join("\n"));
}

fn train(folder: &Folder, flags: &str) -> Ran {
    let line = format!("train --data data --iters 8 --batch-size 4 --rank 4 --lr 1e-3 --mask-prompt {flags}");
    folder.bise(line.split_whitespace())
}

const FILES: [&str; 3] = ["adapter_config.json", "adapter_model.safetensors", "adapter.gguf"];

/// The bytes of an adapter in both formats.
fn adapter(folder: &Path) -> Vec<Vec<u8>> {
    FILES[1..].iter().map(|name| fs::read(folder.join(name)).unwrap()).collect()
}

/// The adapter of a folder called `out`, whose name is in its GGUF file.
fn adapter_of(flags: &str) -> Vec<Vec<u8>> {
    let folder = Folder::new();
    write_data(&folder);
    train(&folder, &format!("-o out {flags}")).ok();
    adapter(&folder.path("out"))
}

#[test]
fn the_adapter_does_not_depend_on_threads_batches_or_what_is_kept_in_memory() {
    let first = adapter_of("-t 1");
    for flags in
        ["-t 2", "--batch-size 1 --grad-accum 4", "--batch-size 2 --grad-accum 2", "--no-grad-checkpoint"]
    {
        assert!(adapter_of(flags) == first, "{flags}");
    }
    assert!(adapter_of("--seed 7") != first);
    assert!(adapter_of("--exact") != first);
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_bytes() {
    let (whole, cut) = (Folder::new(), Folder::new());
    write_data(&whole);
    write_data(&cut);
    let flags = "-o out --save-every 2 --iters 40 --report-every 1 --log log.jsonl";
    train(&whole, flags).ok();
    let line = format!("train --data data --batch-size 4 --rank 4 --lr 1e-3 --mask-prompt {flags}");
    let mut child = cut.command(line.split_whitespace()).spawn().unwrap();
    while !cut.path("out/checkpoint-6").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let refused = train(&cut, flags);
    assert!(refused.error().contains("--resume goes on, --force begins anew"), "{}", refused.stderr);
    // Another split of the same rows may go on, too.
    let resumed = train(&cut, &format!("{flags} --batch-size 2 --grad-accum 2 -t 2 --resume")).ok();
    assert!(resumed.stderr.contains("going on behind step "), "{}", resumed.stderr);
    assert!(adapter(&cut.path("out")) == adapter(&whole.path("out")));
    let losses = |folder: &Folder| {
        let of = |record: &serde_json::Value| {
            (record["iteration"].clone(), record["train_loss"].clone(), record["val_loss"].clone())
        };
        records(&folder.path("log.jsonl")).iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(losses(&cut), losses(&whole));
}

#[test]
fn a_run_goes_on_as_it_was_begun_or_not_at_all() {
    let folder = Folder::new();
    write_data(&folder);
    train(&folder, "-o out").ok();
    for (flags, named) in [
        ("--lr 2e-3", "--lr: found 0.002, expected 0.001"),
        ("--iters 9", "--iters (or --epochs): found 9, expected 8"),
        ("--seed 1", "--seed: found 1, expected 42"),
        ("--rank 8", "--rank: found 8, expected 4"),
        ("--targets q,v", "--targets and --num-layers: found attn_q,attn_v in layers 0 to 7"),
        ("--batch-size 8", "--batch-size times --grad-accum: found 8, expected 4"),
        ("--exact", "--exact: found true, expected false"),
        ("--rope-freq-base 20000", "the model: found "),
    ] {
        let ran = train(&folder, &format!("-o out --resume {flags}"));
        assert!(ran.error().contains(named), "{}", ran.stderr);
    }
    let rows = fs::read_to_string(folder.path("data/train.jsonl")).unwrap();
    folder.write("data/train.jsonl", rows.replace("Pip", "Pit"));
    assert!(train(&folder, "-o out --resume").error().contains("the rows of --data: found "));
    let ran = train(&folder, "-o none --resume");
    assert!(ran.error().contains("none: found no checkpoint"), "{}", ran.stderr);
    // A constant rate does not know where it ends.
    folder.write("data/train.jsonl", &rows);
    train(&folder, "-o longer --schedule constant --iters 4").ok();
    train(&folder, "-o longer --schedule constant --iters 8 --resume").ok();
    train(&folder, "-o at-once --schedule constant --iters 8").ok();
    let weights = |name: &str| fs::read(folder.path(name).join(FILES[1])).unwrap();
    assert!(weights("longer") == weights("at-once"));
}

#[test]
fn what_a_run_writes_and_says() {
    let folder = Folder::new();
    write_data(&folder);
    let ran = train(
        &folder,
        "-o out --report-every 4 --eval-every 4 --save-every 4 --test --log log.jsonl --plot curve.svg",
    );
    let lines: Vec<&str> = ran.text().lines().collect();
    let starts = [
        "step 0/8: validation loss",
        "step 4/8: loss",
        "step 4/8: validation",
        "step 8/8: loss",
        "step 8/8: validation",
        "test loss",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
    assert!(
        lines[1].contains(", lr 6.250e-4, gradient norm ") && lines[1].contains(" tokens/s, "),
        "{}",
        lines[1]
    );
    let ran = ran.ok();
    assert!(ran.stderr.contains("prediction: 8 steps over "), "{}", ran.stderr);
    let records = records(&folder.path("log.jsonl"));
    assert_eq!(records.iter().filter(|record| record["val_loss"].is_f64()).count(), 3);
    let losses: Vec<f64> = records.iter().filter_map(|record| record["val_loss"].as_f64()).collect();
    assert!(losses[2] < losses[0], "{losses:?}");
    assert!(fs::read_to_string(folder.path("curve.svg")).unwrap().contains("<polyline"));
    for place in ["out", "out/checkpoint-4", "out/checkpoint-8"] {
        assert!(FILES.iter().all(|name| folder.path(place).join(name).is_file()), "{place}");
    }
    let config = fs::read(folder.path("out/adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(
        (config["r"].as_u64(), config["lora_alpha"].as_f64(), config["lora_dropout"].as_f64()),
        (Some(4), Some(32.0), Some(0.05))
    );
    // What is there stays, unless it is to be overwritten.
    assert!(train(&folder, "-o out").error().contains("found an adapter or a checkpoint"));
    assert!(train(&folder, "-o other --log log.jsonl").error().contains("log.jsonl: found a file"));
    train(&folder, "-o out --iters 2 --force").ok();
    assert!(!folder.path("out/checkpoint-8").exists() && folder.path("out/checkpoint-2").exists());
}

#[test]
fn an_adapter_is_trained_on() {
    let folder = Folder::new();
    write_data(&folder);
    train(&folder, "-o first --rslora --targets all --num-layers 2").ok();
    for init in ["first", "first/adapter.gguf"] {
        let line = format!("train --data data --iters 2 --init {init} -o second --force --lr 0");
        folder.bise(line.split_whitespace()).ok();
        assert!(
            fs::read(folder.path("second").join(FILES[1])).unwrap()
                == fs::read(folder.path("first").join(FILES[1])).unwrap()
        );
    }
    let ran = train(&folder, "--lora first/adapter.gguf -o third");
    assert!(ran.misuse().contains("--init ADAPTER begins with an adapter"), "{}", ran.stderr);
    assert!(train(&folder, "--init first -o second").misuse().contains("--rank cannot be used with --init"));
}

#[test]
fn a_prediction_writes_nothing_and_a_limit_is_kept() {
    let folder = Folder::new();
    write_data(&folder);
    let ran = train(&folder, "-o out --dry-run").ok();
    assert!(ran.text().starts_with("prediction: 8 steps over "), "{}", ran.text());
    assert!(!folder.path("out").exists());
    let ran = train(&folder, "-o out --max-memory 8M");
    assert!(ran.code == 1 && ran.stderr.contains("8"), "{}", ran.stderr);
    assert!(!folder.path("out").exists());
}

#[test]
fn a_run_that_diverges_names_the_step_and_keeps_its_checkpoint() {
    let folder = Folder::new();
    write_data(&folder);
    let ran = train(&folder, "-o out --lr 1e30 --clip 0 --save-every 1 --schedule constant");
    let error = ran.error();
    assert!(error.contains("step ") && error.contains("finite") && error.contains("is kept"), "{error}");
    assert!(!folder.path("out/adapter.gguf").exists());
}

#[test]
fn data_that_cannot_be_learned_from_is_named() {
    let folder = Folder::new();
    write_data(&folder);
    folder.write("data/train.jsonl", "{\"text\": \"a\"}\n{\"text\": 7}\n");
    let ran = folder.bise(["train", "--data", "data"]);
    assert!(
        ran.error().contains("data/train.jsonl:2: text: found a number, expected a string"),
        "{}",
        ran.stderr
    );
    assert!(folder.bise(["train", "--data", "none"]).error().contains("none"));
    fs::remove_file(folder.path("data/train.jsonl")).unwrap();
    assert!(folder.bise(["train", "--data", "data"]).error().contains("data: found no train.jsonl"));
    assert_eq!(folder.names(), ["data"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_no_half_checkpoint() {
    let folder = Folder::new();
    write_data(&folder);
    // The limit of a file's size is met in the first checkpoint, as a full disk would be.
    let line = "ulimit -f 40; exec \"$0\" train --data data --iters 4 --save-every 2 --rank 4 -o out";
    let mut command = std::process::Command::new("bash");
    command.args(["-c", line, env!("CARGO_BIN_EXE_bise")]).current_dir(folder.path(""));
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.lines().last().unwrap().contains("cannot write the file"), "{stderr}");
    assert_eq!(fs::read_dir(folder.path("out")).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_what_was_learned() {
    let folder = Folder::new();
    write_data(&folder);
    let line = "train --data data --iters 100000 --batch-size 4 --rank 4 -o out --save-every 100000 --report-every 1";
    let mut child =
        folder.command(line.split_whitespace()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("step 3/") {
        assert!(std::io::BufRead::read_line(&mut out, &mut seen).unwrap() > 0, "{seen}");
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    let error = stderr.lines().last().unwrap();
    assert!(error.contains("of 100000 steps; the same command with --resume goes on"), "{error}");
    let names: Vec<_> = fs::read_dir(folder.path("out")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
}
