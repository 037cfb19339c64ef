//! What `bise eval` says of data that is missing or not sound.
#![cfg(feature = "eval")]

mod cli_support;

use std::fs;
use std::path::{Path, PathBuf};

use bise::eval::{EvalError, LoadedTask, Loader, Selection};
use cli_support::Folder;

fn committed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/eval/data").join(file)
}

/// Writes a file below `data/` of the folder.
fn put(folder: &Folder, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path("data").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

/// The error of reading a task's questions from `data/`, with the folder's own name left out.
fn error(folder: &Folder, task: &str, n_shots: usize) -> String {
    let data = folder.path("data");
    let error = read(&data, task, n_shots).expect_err("an error");
    error
        .to_string()
        .replace(&format!("{}/", data.display()), "")
        .replace(&data.display().to_string(), "data")
}

fn read(data: &Path, task: &str, n_shots: usize) -> Result<usize, EvalError> {
    let tasks = Selection::of([task])?.tasks;
    let mut loader = Loader::new(data);
    let loaded = tasks.iter().map(|task| LoadedTask::read(&mut loader, *task, n_shots, None));
    Ok(loaded.collect::<Result<Vec<_>, _>>()?.iter().map(LoadedTask::n_requests).sum())
}

const WINOGRANDE: &str =
    r#"{"qID": "1", "sentence": "A b _ c.", "option1": "x", "option2": "y", "answer": "1"}"#;

#[test]
fn an_unknown_task_is_named_with_the_nearest() {
    let folder = Folder::new();
    let ran = folder.bise(["eval", "--data", ".", "--tasks", "winogrande,mmlu_anatomi"]);
    assert!(
        ran.misuse()
            .starts_with("bise: error: --tasks: found no task 'mmlu_anatomi', did you mean mmlu_anatomy?"),
        "{}",
        ran.stderr
    );
    let ran = folder.bise(["eval", "--data", ".", "--tasks", "gsm8k"]);
    assert!(
        ran.misuse().contains("'gsm8k'; there are arc_challenge, arc_easy, hellaswag, mmlu"),
        "{}",
        ran.stderr
    );
    let ran = folder.bise(["eval", "--data", ".", "--tasks", ","]);
    assert_eq!(ran.misuse(), "bise: error: --tasks: found no name, expected some (--list prints them)");
    assert!(
        folder.bise(["eval", "--list"]).ok().text().lines().any(|line| line == "mmlu_high_school_us_history")
    );
}

#[test]
fn missing_data_is_named_with_the_command_that_downloads_it() {
    let folder = Folder::new();
    fs::create_dir(folder.path("data")).unwrap();
    for (task, want) in [
        (
            "hellaswag",
            "data: found no data for hellaswag (validation): expected hellaswag/data/validation-*.parquet or \
             hellaswag/default/validation-*.parquet or hellaswag_val.jsonl; to download it: hf download Rowan/hellaswag --repo-type dataset \
             --local-dir hellaswag",
        ),
        (
            "mmlu_anatomy",
            "data: found no data for mmlu_anatomy (test): expected mmlu/anatomy/test-*.parquet or mmlu/all/test-*.parquet; to download it: \
             hf download cais/mmlu --repo-type dataset --include 'all/*' --local-dir mmlu",
        ),
        (
            "triviaqa",
            "data: found no data for triviaqa (validation): expected trivia_qa/rc.nocontext/validation-*.parquet; to download it: hf download \
             mandarjoshi/trivia_qa --repo-type dataset --include 'rc.nocontext/*' --local-dir trivia_qa",
        ),
    ] {
        assert_eq!(error(&folder, task, 0), want);
    }
    let ran = folder.bise(["eval", "--tasks", "hellaswag", "--data", "nowhere"]);
    assert_eq!(ran.error(), "bise: error: nowhere: found no folder, expected one with datasets (--data)");
    let odd = folder.path("it's here");
    fs::create_dir(&odd).unwrap();
    let error = read(&odd, "winogrande", 0).unwrap_err().to_string();
    assert!(error.ends_with(r"/it'\''s here/winogrande'"), "{error}");
}

#[test]
fn datasets_are_found_wherever_hf_download_puts_them() {
    let file = fs::read(committed("hub/winogrande/winogrande_xl/validation-00000-of-00001.parquet")).unwrap();
    let cached =
        "datasets--allenai--winogrande/snapshots/0123abcd/winogrande_xl/validation-00000-of-00001.parquet";
    for place in [
        "winogrande/winogrande_xl/validation-00000-of-00001.parquet",
        "allenai/winogrande/winogrande_xl/validation-00000-of-00001.parquet",
        "winogrande_xl/validation-00000-of-00001.parquet",
        "winogrande/winogrande_xl/validation/0000.parquet",
        "winogrande/winogrande_xl/validation.parquet",
        "winogrande/validation-00000-of-00001.parquet",
        cached,
        &format!("hub/{cached}"),
    ] {
        let folder = Folder::new();
        put(&folder, place, &file);
        assert_eq!(read(&folder.path("data"), "winogrande", 0).unwrap(), 2 * 10, "{place}");
    }
    // The snapshot that `main` is at counts.
    let folder = Folder::new();
    put(&folder, cached, &file);
    put(&folder, &cached.replace("0123abcd", "ffff"), b"not a Parquet file");
    put(&folder, "datasets--allenai--winogrande/refs/main", "0123abcd");
    assert_eq!(read(&folder.path("data"), "winogrande", 0).unwrap(), 20);
}

#[test]
fn a_part_that_is_missing_is_no_smaller_dataset() {
    let folder = Folder::new();
    let name = "ai2_arc/ARC-Challenge/test-00000-of-00002.parquet";
    put(&folder, name, fs::read(committed("hub").join(name)).unwrap());
    assert_eq!(error(&folder, "arc_challenge", 0), format!("{name}: found 1 of 2 files, expected all"));
}

#[test]
fn missing_columns_are_named() {
    let folder = Folder::new();
    let name = "hellaswag/data/validation-00000-of-00001.parquet";
    let other = "hub/winogrande/winogrande_xl/validation-00000-of-00001.parquet";
    put(&folder, name, fs::read(committed(other)).unwrap());
    assert_eq!(
        error(&folder, "hellaswag", 0),
        format!(
            "{name}: found the columns sentence, option1, option2, answer, expected activity_label, ctx_a, ctx_b, endings, label too"
        )
    );
    let name = "hellaswag_val.jsonl";
    fs::remove_dir_all(folder.path("data")).unwrap();
    put(&folder, name, r#"{"activity_label": "a", "ctx_a": "b", "ctx_b": "c", "label": 1}"#);
    assert_eq!(
        error(&folder, "hellaswag", 0),
        format!(
            "{name}: line 1: found no field 'endings', expected activity_label, ctx_a, ctx_b, endings, label"
        )
    );
}

#[test]
fn splits_without_rows_are_named() {
    let name = "winogrande_xl/validation-00000-of-00001.parquet";
    let folder = Folder::new();
    put(&folder, name, fs::read(committed("empty").join(name)).unwrap());
    assert_eq!(error(&folder, "winogrande", 0), format!("{name}: found no rows, expected questions"));
    fs::remove_dir_all(folder.path("data")).unwrap();
    put(&folder, "dev.jsonl", "\n\n");
    assert_eq!(error(&folder, "winogrande", 0), "dev.jsonl: found no rows, expected questions");
    let hub = committed("hub");
    let error = read(&hub, "mmlu_astronomy", 5).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "mmlu/all/dev-00000-of-00001.parquet: found no rows with subject astronomy, expected questions"
        ),
        "{error}"
    );
    let error = read(&hub, "arc_easy", 13).unwrap_err().to_string();
    assert_eq!(
        error,
        "arc_easy: found 12 examples to choose from, expected at least 13 for --num-fewshot 13"
    );
    // One more, as the question may be among them.
    let error = read(&hub, "triviaqa", 12).unwrap_err().to_string();
    assert_eq!(
        error,
        "triviaqa: found 12 examples to choose from, expected at least 13 for --num-fewshot 12"
    );
}

#[test]
fn a_row_that_is_no_question_is_named_by_file_and_line() {
    let folder = Folder::new();
    for (line, want) in [
        ("{", "found no JSON object (EOF while parsing an object at column 1)"),
        ("[1]", "found another JSON value, expected an object"),
        ("{\"sentence\": \"\u{ff}", "found no JSON object (EOF while parsing a string at column 16)"),
        (&WINOGRANDE.replace('_', "-"), "sentence: found no '_', expected one where an option belongs"),
        (
            &WINOGRANDE.replace("\"answer\": \"1\"", "\"answer\": \"\""),
            "answer: found \"\", expected a number from 1 to 2",
        ),
        (
            &WINOGRANDE.replace("\"answer\": \"1\"", "\"answer\": 3"),
            "answer: found 3, expected a number from 1 to 2",
        ),
        (&WINOGRANDE.replace("\"x\"", "null"), "option1: found null, expected a text"),
    ] {
        put(&folder, "dev.jsonl", format!("{WINOGRANDE}\n\n{line}\n"));
        assert_eq!(error(&folder, "winogrande", 0), format!("dev.jsonl: line 3: {want}"));
    }
    let choices = r#"[{"label": "A", "text": "x"}, {"label": "B", "text": "y"}]"#;
    let arc = format!(r#"{{"question": {{"stem": "a?", "choices": {choices}}}, "answerKey": "C"}}"#);
    put(&folder, "ARC-Easy-Test.jsonl", &arc);
    assert_eq!(
        error(&folder, "arc_easy", 0),
        "ARC-Easy-Test.jsonl: line 1: answerKey: found 'C', expected one of A, B"
    );
    // A byte order mark is none of the JSON.
    put(&folder, "ARC-Easy-Test.jsonl", format!("\u{feff}{}", arc.replace("\"C\"", "\"B\"")));
    assert_eq!(read(&folder.path("data"), "arc_easy", 0).unwrap(), 2);
    put(&folder, "ARC-Easy-Test.jsonl", arc.replace(choices, "[{\"label\": \"C\"}]"));
    assert_eq!(
        error(&folder, "arc_easy", 0),
        "ARC-Easy-Test.jsonl: line 1: question.choices: found [{\"label\":\"C\"}], expected a list of objects with the texts label and text"
    );
}

#[test]
fn a_parquet_file_that_was_cut_is_no_shorter_one() {
    let folder = Folder::new();
    let name = "hellaswag/data/validation-00000-of-00001.parquet";
    let whole = fs::read(committed("hub").join(name)).unwrap();
    for n in [0, 1, 7, 100, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
        put(&folder, name, &whole[..n]);
        let error = error(&folder, "hellaswag", 0);
        assert!(
            error.starts_with(&format!("{name}: found a damaged Parquet file, expected a whole one: ")),
            "{error}"
        );
    }
    put(&folder, name, &whole[..whole.len() - 9]);
    let ran = folder.bise(["eval", "--tasks", "hellaswag", "--data", "data"]);
    assert!(ran.error().contains("found a damaged Parquet file"), "{}", ran.stderr);
}

/// Whatever a byte says, there is an error or there are questions.
#[test]
fn damaged_parquet_files_end_in_an_error() {
    let folder = Folder::new();
    let mut n_errors = 0;
    for name in [
        "hellaswag/data/validation-00000-of-00001.parquet",
        "ai2_arc/ARC-Challenge/test-00000-of-00002.parquet",
    ] {
        let whole = fs::read(committed("hub").join(name)).unwrap();
        let path = put(&folder, &name.replace("-of-00002", "-of-00001"), &whole);
        let task = if name.starts_with("hella") { "hellaswag" } else { "arc_challenge" };
        for (i, at) in (0..whole.len()).step_by(23).enumerate() {
            let mut damaged = whole.clone();
            damaged[at] ^= [0xff, 0x01, 0x80, 0x10][i % 4];
            fs::write(&path, damaged).unwrap();
            n_errors += usize::from(read(&folder.path("data"), task, 0).is_err());
        }
    }
    assert!(n_errors > 50, "{n_errors}");
}

#[test]
fn results_are_kept_unless_force_is_given() {
    let folder = Folder::new();
    let data = committed("hub");
    let data = data.to_str().unwrap();
    let args = ["eval", "--tasks", "winogrande", "--data", data, "-L", "2", "--json", "out.json"];
    folder.write("out.json", "mine");
    let error = "bise: error: out.json: found a file, expected none: --force overwrites it";
    assert_eq!(folder.bise(args).error(), error);
    let ran = folder.bise(args.into_iter().chain(["--force"])).ok();
    assert!(ran.text().starts_with("|  Tasks   |Version|Filter|n-shot|Metric|   |"), "{}", ran.text());
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path("out.json")).unwrap()).unwrap();
    assert_eq!(json["n-samples"]["winogrande"], serde_json::json!({"original": 10, "effective": 2}));
    assert!(json["samples"].is_null(), "they were not asked for");
    // What is read stays, whatever flags say.
    put(&folder, "dev.jsonl", WINOGRANDE);
    let json = "data/dev.jsonl";
    let args = ["eval", "--tasks", "winogrande", "--data", "data", "--json", json, "--force"];
    assert_eq!(
        folder.bise(args).error(),
        "bise: error: data/dev.jsonl: found a file in the folder of --data, expected another one to write to"
    );
    assert_eq!(fs::read_to_string(folder.path(json)).unwrap(), WINOGRANDE);
    fs::remove_dir_all(folder.path("data")).unwrap();
    assert_eq!(folder.names(), ["out.json"]);
}

#[test]
fn a_context_without_room_for_an_answer_is_refused() {
    let folder = Folder::new();
    let data = committed("hub");
    let ran = folder.bise(["eval", "--tasks", "triviaqa", "--data", data.to_str().unwrap(), "-c", "256"]);
    assert_eq!(
        ran.error(),
        "bise: error: triviaqa: found a context of 256 tokens, expected more than the 256 that an answer may take (--ctx-size)"
    );
    let ran = folder.bise([
        "eval",
        "--tasks",
        "hellaswag",
        "--data",
        data.to_str().unwrap(),
        "-c",
        "24",
        "-L",
        "3",
    ]);
    assert!(ran.ok().stderr.contains("do not fit the context and were cut on the left"));
}
