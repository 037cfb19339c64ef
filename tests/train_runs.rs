//! `bise train` as a program: what it writes, what it refuses, and that a run's result depends on nothing that it should not.
#![cfg(all(feature = "cli", feature = "train", feature = "builtin-model"))]

mod cli_support;
mod train_support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use cli_support::{Folder, Ran};
use serde_json::Value;
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
    let flags = "-o out --save-every 2 --iters 40 --report-every 5 --eval-every 3 --log log.jsonl";
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
    assert_same_records(&records(&cut.path("log.jsonl")), &records(&whole.path("log.jsonl")));
}

/// Compares logs but for times and memory.
fn assert_same_records(found: &[Value], expected: &[Value]) {
    let iterations = |records: &[Value]| {
        records
            .iter()
            .map(|record| (record["iteration"].clone(), record["val_loss"].is_f64()))
            .collect::<Vec<_>>()
    };
    assert_eq!(iterations(found), iterations(expected));
    for (found, expected) in found.iter().zip(expected) {
        for key in ["label_tokens", "trained_tokens"] {
            assert_eq!(found[key], expected[key], "{key}: {found}, {expected}");
        }
        for key in ["train_loss", "val_loss", "learning_rate", "gradient_norm"] {
            let is_same = match (found[key].as_f64(), expected[key].as_f64()) {
                (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * b.abs(),
                (a, b) => a == b,
            };
            assert!(is_same, "{key}: {found}, {expected}");
        }
    }
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
        ("--rope-freq-base 20000", "--rope-freq-base: found 20000, expected 10000"),
        ("--rope-scale 2", "--rope-scaling: found linear, expected none"),
        ("--sliding-window 64", "--sliding-window: found 64, expected 256"),
        ("--override-kv general.name=str:other", "the model's general.name: found other, expected "),
    ] {
        let ran = train(&folder, &format!("-o out --resume {flags}"));
        assert!(ran.error().contains(named), "{}", ran.stderr);
    }
    // What the file says anyway.
    train(&folder, "-o out --resume --sliding-window 256").ok();
    let rows = fs::read_to_string(folder.path("data/train.jsonl")).unwrap();
    folder.write("data/train.jsonl", rows.replace("Pip", "Pit"));
    for flags in ["", "--dry-run"] {
        let ran = train(&folder, &format!("-o none --resume {flags}"));
        assert!(ran.error().contains("none: found no checkpoint"), "{}", ran.stderr);
        let ran = train(&folder, &format!("-o out --resume {flags}"));
        assert!(ran.error().contains("the rows of --data: found "), "{}", ran.stderr);
    }
    // A constant rate does not know where it ends.
    folder.write("data/train.jsonl", &rows);
    train(&folder, "-o longer --schedule constant --iters 4").ok();
    let ran = train(&folder, "-o longer --schedule constant --iters 8 --resume --dry-run").ok();
    assert!(ran.text().starts_with("prediction: the last 4 of 8 steps over "), "{}", ran.text());
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
    let config: Value = serde_json::from_slice(&config).unwrap();
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
    assert!(!ran.stderr.contains("prediction"), "{}", ran.stderr);
    assert!(!folder.path("out").exists());
    let ran = folder.bise("train --data data/train.jsonl --dry-run --eval-every 5".split(' ')).ok();
    assert!(ran.stderr.contains("--eval-every has no effect: there is no valid.jsonl"), "{}", ran.stderr);
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

/// Presses Ctrl-C when a run has printed `text`: what it says at last.
#[cfg(unix)]
fn interrupted_at(folder: &Folder, line: &str, text: &str) -> String {
    let mut child =
        folder.command(line.split_whitespace()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut seen = String::new();
    while !seen.contains(text) {
        assert!(std::io::BufRead::read_line(&mut out, &mut seen).unwrap() > 0, "{seen}");
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    stderr.lines().last().unwrap().to_owned()
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_what_was_learned() {
    let folder = Folder::new();
    write_data(&folder);
    let line = "train --data data --iters 100000 --batch-size 4 --rank 4 -o out --save-every 100000 --report-every 1";
    let error = interrupted_at(&folder, line, "step 3/");
    assert!(error.contains("of 100000 steps; the same command with --resume goes on"), "{error}");
    let names: Vec<_> = fs::read_dir(folder.path("out")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

/// A long evaluation is interrupted behind step 2, and comes again.
#[cfg(unix)]
#[test]
fn an_evaluation_that_was_interrupted_is_made_when_the_run_goes_on() {
    let folder = Folder::new();
    write_data(&folder);
    let few = fs::read_to_string(folder.path("data/valid.jsonl")).unwrap() + "\n";
    folder.write("data/valid.jsonl", few.repeat(200));
    let line = "train --data data --iters 4 --batch-size 4 --rank 4 -o out --report-every 2 --eval-every 2 --val-batches -1 --log log.jsonl";
    let error = interrupted_at(&folder, line, "step 2/4: loss");
    assert!(error.contains("checkpoint-2 has 2 of 4 steps"), "{error}");
    folder.write("data/valid.jsonl", few);
    folder.bise(line.split_whitespace().chain(["--resume"])).ok();
    let of = |record: &Value| (record["iteration"].as_u64().unwrap(), record["val_loss"].is_f64());
    let found: Vec<_> = records(&folder.path("log.jsonl")).iter().map(of).collect();
    assert_eq!(found, [(0, true), (2, false), (2, true), (4, false), (4, true)]);
}

#[test]
fn checkpoints_of_other_programs_stay() {
    let folder = Folder::new();
    write_data(&folder);
    fs::create_dir_all(folder.path("out/checkpoint-100")).unwrap();
    for name in ["adapter_model.safetensors", "optimizer.pt", "trainer_state.json"] {
        folder.write(&format!("out/checkpoint-100/{name}"), "theirs");
    }
    let ran = train(&folder, "-o out --iters 2");
    assert!(ran.error().contains("out: found an adapter or a checkpoint"), "{}", ran.stderr);
    train(&folder, "-o out --iters 2 --force").ok();
    train(&folder, "-o out --iters 1 --force").ok();
    assert!(!folder.path("out/checkpoint-2").exists() && folder.path("out/checkpoint-1").exists());
    assert_eq!(fs::read_dir(folder.path("out/checkpoint-100")).unwrap().count(), 3);
    // One that a checkpoint would have to take the place of.
    fs::rename(folder.path("out/checkpoint-100"), folder.path("out/checkpoint-2")).unwrap();
    let ran = train(&folder, "-o out --iters 2 --force");
    assert!(
        ran.error().contains("checkpoint-2: found a folder with files of something else"),
        "{}",
        ran.stderr
    );
    assert_eq!(fs::read_dir(folder.path("out/checkpoint-2")).unwrap().count(), 3);
    assert!(folder.path("out/checkpoint-1").exists());
}

#[test]
fn reports_replace_nothing_else() {
    let folder = Folder::new();
    write_data(&folder);
    let long = "-o out --schedule constant --log log.jsonl --plot curve.svg --report-every 1";
    train(&folder, &format!("{long} --iters 2")).ok();
    folder.write("notes.txt", "mine");
    for (flags, message) in [
        ("--log notes.txt", "notes.txt: found a file that is no log of this run"),
        ("--plot notes.txt", "notes.txt: found a file that is no curve of bise train"),
        ("--log curve.svg", "curve.svg: found a file that is no log of this run"),
    ] {
        let ran = train(&folder, &format!("-o out --schedule constant --resume --iters 4 {flags}"));
        assert!(ran.error().contains(message), "{}", ran.stderr);
    }
    assert_eq!(fs::read_to_string(folder.path("notes.txt")).unwrap(), "mine");
    train(&folder, &format!("{long} --iters 4 --resume")).ok();
    let records = records(&folder.path("log.jsonl"));
    assert_eq!(records.iter().filter(|record| record["train_loss"].is_f64()).count(), 4);
    let before = fs::read(folder.path("out/adapter.gguf")).unwrap();
    for (flags, message) in [
        ("--plot out/adapter.gguf -o other --init out/adapter.gguf", "found a file that is read here"),
        ("--plot out/adapter.gguf -o other --init out", "found a file that is read here"),
        ("--log out/adapter_config.json -o out", "found a file of the adapter that is written"),
        ("--log both -o other --plot ./both", "both: found it in --log and --plot"),
        ("-o out --init out/checkpoint-4", "out: found the adapter of --init, which is read here"),
    ] {
        let line = format!("train --data data --iters 1 --force {flags}");
        let ran = folder.bise(line.split_whitespace());
        assert!(ran.error().contains(message), "{flags}: {}", ran.stderr);
    }
    assert!(fs::read(folder.path("out/adapter.gguf")).unwrap() == before);
    assert!(folder.path("out/checkpoint-4").exists() && !folder.path("other").exists());
}

#[test]
fn numbers_that_are_too_large_are_refused_or_predicted() {
    let folder = Folder::new();
    write_data(&folder);
    for rank in ["18446744073709551615", "1000000000000000", "100000"] {
        let line = format!("train --data data --rank {rank} --iters 1 -o out");
        let ran = folder.bise(line.split_whitespace());
        assert!(ran.error().contains(&format!("--rank {rank}: expected no more than ")), "{}", ran.stderr);
    }
    let ran =
        folder.bise("train --data data --rank 256 --targets all --max-memory 64M -o out".split_whitespace());
    assert!(ran.error().contains("--rank 256: found room for "), "{}", ran.stderr);
    for steps in ["--iters 18446744073709551615", "--epochs 18446744073709551615"] {
        let line = format!("train --data data {steps} --eval-every 1 --dry-run");
        let ran = folder.bise(line.split_whitespace()).ok();
        assert!(ran.text().starts_with("prediction: 18446744073709551615 steps"), "{}", ran.text());
    }
}

#[test]
fn weights_that_stop_being_finite_name_the_step() {
    let folder = Folder::new();
    write_data(&folder);
    let ran = train(&folder, "-o out --lr 1e300 --iters 1");
    assert!(ran.error().contains("step 1: found the weight "), "{}", ran.stderr);
    assert_eq!(fs::read_dir(folder.path("out")).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn reports_that_cannot_be_written_cost_no_step() {
    let folder = Folder::new();
    write_data(&folder);
    let line = "train --data data/train.jsonl --iters 100000 --rank 4 -o out --report-every 1";
    let mut command = folder.command(line.split_whitespace());
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let error = stderr.lines().last().unwrap();
    assert!(error.contains(" of 100000 steps, and --resume goes on"), "{error}");
    let names: Vec<_> = fs::read_dir(folder.path("out")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    if Path::new("/dev/full").exists() {
        let line =
            "train --data data/train.jsonl --iters 5 --rank 4 -o full --report-every 3 --log /dev/full";
        let ran = folder.bise(line.split_whitespace());
        let error = ran.error();
        assert!(
            error.contains("/dev/full: cannot write the file") && error.contains("has 3 of 5 steps"),
            "{error}"
        );
        assert!(folder.path("full/checkpoint-3/training_state.safetensors").is_file());
    }
}

/// The second record comes when a checkpoint was saved.
#[cfg(target_os = "linux")]
#[test]
fn a_run_that_saves_stays_below_its_prediction() {
    let folder = Folder::new();
    write_data(&folder);
    let line = "train --data data/train.jsonl --iters 2 --rank 128 --targets all -o out --save-every 1 --report-every 1 --log log";
    let ran = folder.bise(line.split_whitespace()).ok();
    let predicted = ran.stderr.lines().find_map(|line| line.split_once("; ")?.1.split_once(" of memory"));
    let (number, unit) = predicted.expect("a prediction").0.split_once(' ').expect("a number and its unit");
    let unit = match unit {
        "MB" => 1e6,
        "GB" => 1e9,
        other => panic!("{other}"),
    };
    let predicted = number.parse::<f64>().unwrap() * unit;
    let peak = records(&folder.path("log"))[1]["peak_memory"].as_f64().unwrap();
    assert!(peak < 1.05 * predicted, "{peak} of {predicted}");
}
