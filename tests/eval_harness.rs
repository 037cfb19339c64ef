//! `bise eval` against lm-evaluation-harness 0.4.13, which ran the same model through `transformers` in F32: `eval/reference.py` made the
//! questions and the expectations.
#![cfg(all(unix, feature = "eval", feature = "quantize"))]

mod cli_support;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cli_support::Folder;
use serde_json::Value;

fn data(layout: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/eval/data").join(layout)
}

fn expected() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/eval/expected.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The built-in model in F32, in which activations are not quantized.
fn model() -> &'static Path {
    static MODEL: OnceLock<(Folder, PathBuf)> = OnceLock::new();
    let (_, path) = MODEL.get_or_init(|| {
        let folder = Folder::new();
        let path = folder.path("f32.gguf");
        let small = folder.model();
        folder
            .bise([
                "quantize".as_ref(),
                "--allow-requantize".as_ref(),
                small.as_os_str(),
                path.as_os_str(),
                "F32".as_ref(),
            ])
            .ok();
        (folder, path)
    });
    path
}

/// Runs a command of lm_eval's, over one of the layouts that the data is in.
fn run(name: &str, layout: &str, more: &[&str]) -> (Value, Value) {
    let tasks = expected()[name]["tasks"].clone();
    let tasks: Vec<String> = serde_json::from_value(tasks).unwrap();
    run_tasks(name, &tasks.join(","), layout, more)
}

/// [`run`] with some of the tasks alone.
fn run_tasks(name: &str, tasks: &str, layout: &str, more: &[&str]) -> (Value, Value) {
    let expected = &expected()[name];
    let folder = Folder::new();
    let mut args: Vec<String> =
        ["eval", "-ctk", "f32", "-ctv", "f32", "--log_samples", "--output_path", "out.json"]
            .map(str::to_owned)
            .to_vec();
    args.extend(["-m".to_owned(), model().display().to_string()]);
    args.extend(["--data".to_owned(), data(layout).display().to_string()]);
    args.extend(["--tasks".to_owned(), tasks.to_owned()]);
    if let Some(n) = expected["n_shots"].as_u64() {
        args.extend(["--num_fewshot".to_owned(), n.to_string()]);
    }
    if !expected["limit"].is_null() {
        args.extend(["--limit".to_owned(), expected["limit"].to_string()]);
    }
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    folder.bise(&args).ok();
    let found = serde_json::from_slice(&std::fs::read(folder.path("out.json")).unwrap()).unwrap();
    (found, expected.clone())
}

fn fnv(text: &str) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

/// What a question asked: contexts and continuations.
fn asked(sample: &Value) -> String {
    let pairs = sample["arguments"].as_array().unwrap().iter();
    let text =
        |pair: &Value| format!("{}\0{}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap_or_default());
    pairs.map(text).collect::<Vec<_>>().join("\x01")
}

fn is_near(found: &Value, expected: &Value, tolerance: f64) -> bool {
    match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => (found - expected).abs() <= tolerance,
        _ => found == expected,
    }
}

/// Everything that lm_eval says of a task is what we say.
fn compare(found: &Value, expected: &Value, tasks: &[&str]) {
    for (task, samples) in expected["samples"].as_object().unwrap() {
        if !tasks.is_empty() && !tasks.contains(&task.as_str()) {
            continue;
        }
        let ours = found["samples"][task].as_array().unwrap();
        assert_eq!(ours.len(), samples.as_array().unwrap().len(), "{task}");
        for (i, (ours, sample)) in ours.iter().zip(samples.as_array().unwrap()).enumerate() {
            assert_eq!(sample["asked"], fnv(&asked(ours)), "{task} {i}: {}", asked(ours));
            for (got, want) in
                ours["filtered_resps"].as_array().unwrap().iter().zip(sample["got"].as_array().unwrap())
            {
                match want {
                    Value::String(_) => assert_eq!(got, want, "{task} {i}"),
                    _ => {
                        assert!(is_near(&got[0], &want[0], 1e-3), "{task} {i}: found {got}, expected {want}");
                        assert_eq!(got[1], want[1], "{task} {i}: whether all tokens are the likeliest");
                    }
                }
            }
            for metric in ["acc", "acc_norm", "exact_match"] {
                assert_eq!(ours[metric], sample[metric], "{task} {i}: {metric}");
            }
        }
        assert_eq!(found["n-shot"][task], expected["n-shot"][task], "{task}");
        assert_eq!(found["n-samples"][task], expected["n-samples"][task], "{task}");
        assert_eq!(found["versions"][task].as_f64(), expected["versions"][task].as_f64(), "{task}");
    }
    let mut wanted = vec!["results"];
    wanted.extend((!expected["groups"].is_null()).then_some("groups"));
    for part in wanted {
        for (name, fields) in expected[part].as_object().unwrap() {
            if !tasks.is_empty() && !tasks.contains(&name.as_str()) {
                continue;
            }
            for (field, value) in fields.as_object().unwrap() {
                let ours = &found[part][name][field];
                assert!(is_near(ours, value, 1e-12), "{part} {name} {field}: found {ours}, expected {value}");
            }
        }
    }
    if tasks.is_empty() {
        for (group, members) in expected["group_subtasks"].as_object().unwrap() {
            let names = |list: &Value| {
                let mut names: Vec<String> = serde_json::from_value(list.clone()).unwrap();
                names.sort();
                names
            };
            assert_eq!(names(&found["group_subtasks"][group]), names(members), "{group}");
        }
    }
}

#[test]
fn without_examples_all_is_as_lm_eval_has_it() {
    let (found, expected) = run("zero_shot", "hub", &[]);
    compare(&found, &expected, &[]);
}

#[test]
fn with_examples_all_is_as_lm_eval_has_it() {
    let (found, expected) = run("few_shot", "hub", &["-np", "3", "-ub", "64", "-t", "2"]);
    compare(&found, &expected, &[]);
}

/// The same questions in the files that were published first give the same, and so do subjects in files of their own.
#[test]
fn the_original_files_are_read() {
    let tasks = ["hellaswag", "arc_challenge", "arc_easy", "winogrande", "mmlu_anatomy", "mmlu_marketing"];
    let (found, expected) = run_tasks("few_shot", &tasks.join(","), "original", &[]);
    compare(&found, &expected, &tasks);
}

/// MMLU with five examples of all subjects, as JSON lines, and the other tasks of the announcement.
#[test]
fn the_announcement_s_figures_stand_beside_ours() {
    let folder = Folder::new();
    let link = |name: &str| std::os::unix::fs::symlink(data("hub").join(name), folder.path(name)).unwrap();
    ["hellaswag", "ai2_arc", "trivia_qa", "winogrande"].into_iter().for_each(link);
    let names = folder.bise(["eval", "--list"]).ok();
    let groups = ["mmlu_humanities", "mmlu_other", "mmlu_social_sciences", "mmlu_stem"];
    let subjects = names.text().lines().filter(|name| !groups.contains(name));
    let subjects: Vec<_> = subjects.filter_map(|name| name.strip_prefix("mmlu_")).collect();
    assert_eq!(subjects.len(), 57);
    let row = |subject: &str| {
        format!(
            "{{\"question\": \"\", \"subject\": \"{subject}\", \"choices\": [\"\", \"\", \"\", \"\"], \"answer\": 0}}\n"
        )
    };
    std::fs::create_dir_all(folder.path("mmlu/all")).unwrap();
    folder.write("mmlu/all/test.jsonl", subjects.iter().map(|subject| row(subject)).collect::<String>());
    folder.write(
        "mmlu/all/dev.jsonl",
        subjects.iter().map(|subject| row(subject).repeat(5)).collect::<String>(),
    );
    let ran = folder
        .bise(["eval", "--suite", "mistral-7b", "--data", ".", "--limit", "2", "--json", "out.json"])
        .ok();
    let found: Value = serde_json::from_slice(&std::fs::read(folder.path("out.json")).unwrap()).unwrap();
    let (_, figures) = ran.text().split_once("announced\n").expect("a table");
    for (line, (title, task, field, n_shots, announced)) in figures.lines().zip([
        ("MMLU", "mmlu", "acc,none", 5, "60.1"),
        ("HellaSwag", "hellaswag", "acc_norm,none", 0, "81.3"),
        ("WinoGrande", "winogrande", "acc,none", 0, "75.3"),
        ("ARC-Challenge", "arc_challenge", "acc_norm,none", 0, "55.5"),
        ("TriviaQA", "triviaqa", "exact_match,remove_whitespace", 5, "62.5"),
    ]) {
        let ours = format!("{:.1}", 100.0 * found["results"][task][field].as_f64().unwrap());
        let metric = field.split(',').next().unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words, [title, &n_shots.to_string(), metric, &ours, announced]);
        assert_eq!(found["n-shot"][task], n_shots, "{task}");
    }
    assert!(figures.contains("from a harness of its own"), "{figures}");
}

/// An adapter changes what is found likely, unless its factor is 0.
#[test]
fn adapters_are_obeyed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Folder::new();
    let model = root.join("models/tests/oracles/plain_f32.gguf");
    let adapter = root.join("tests/adapter/every");
    let (model, adapter, data) = (model.to_str().unwrap(), adapter.to_str().unwrap(), data("hub"));
    let responses = |more: &[&str]| {
        let args = [
            "eval",
            "-m",
            model,
            "--tasks",
            "winogrande,arc_easy",
            "--data",
            data.to_str().unwrap(),
            "-L",
            "3",
        ];
        let json = ["--json", "out.json", "--log-samples", "--force"];
        folder.bise(args.iter().chain(&json).chain(more)).ok();
        let found: Value = serde_json::from_slice(&std::fs::read(folder.path("out.json")).unwrap()).unwrap();
        let of = |task: &str| {
            let samples = found["samples"][task].as_array().unwrap().iter();
            samples.map(|sample| sample["resps"].clone()).collect::<Vec<_>>()
        };
        [of("winogrande"), of("arc_easy")].concat()
    };
    let plain = responses(&[]);
    assert_eq!(responses(&["--lora-scaled", &format!("{adapter}:0")]), plain);
    let adapted = responses(&["--lora", adapter]);
    assert!(adapted.iter().zip(&plain).all(|(adapted, plain)| adapted != plain));
    // What is read together does not matter.
    assert_eq!(responses(&["--lora", adapter, "--parallel", "1", "-ub", "7"]), adapted);
}

#[test]
fn a_limit_is_a_part_of_each_task() {
    let (found, expected) = run("five_shot_limit", "hub", &[]);
    compare(&found, &expected, &[]);
}

#[test]
fn a_conversation_is_as_lm_eval_has_it() {
    let (found, expected) = run("chat", "hub", &["--apply_chat_template"]);
    compare(&found, &expected, &[]);
    let (found, expected) =
        run("chat_one_turn", "hub", &["--apply_chat_template", "--fewshot_as_multiturn", "false"]);
    compare(&found, &expected, &[]);
}
