//! The examples do what the engine does.
#![cfg(feature = "builtin-model")]

mod support;

use std::io::Write;
use std::process::Stdio;

use engine::sampling::SamplingParams;
use engine::{Engine, SessionOptions};
use support::{Build, command, compile, stderr, stdout, succeed};

/// A greedy story of the model inside the library, by the engine itself.
fn story(prompt: &str, n: usize) -> String {
    let engine = Engine::builtin().unwrap();
    let mut session = engine.session(&SessionOptions::default()).unwrap();
    let pieces: Result<String, _> = session.generate(prompt, &SamplingParams::greedy(), n).unwrap().collect();
    format!("{prompt}{}", pieces.unwrap())
}

#[test]
fn generate_writes_the_engines_text() {
    for build in [Build::Shared, Build::Static] {
        let output = succeed(&mut command(&compile("examples/generate.c", build)));
        let whole = story("Once upon a time", 48);
        let until_stop = whole.split("\n\n").next().unwrap();
        assert_eq!(stdout(&output), format!("{until_stop}\n"));
    }
}

#[test]
fn the_instruction_set_asked_for_is_used() {
    let program = compile("examples/generate.c", Build::Shared);
    let plain = succeed(&mut command(&program));
    for isa in engine::Isa::available() {
        let mut limited = command(&program);
        let output = succeed(limited.args(["-o", &format!("isa={}", isa.name()), "-o", "threads=1"]));
        assert!(stderr(&output).contains(&format!("1 threads, {}\n", isa.name())), "{}", stderr(&output));
        assert_eq!(output.stdout, plain.stdout, "{isa}");
    }
}

#[test]
fn story_writes_the_same_from_cpp() {
    let output = succeed(&mut command(&compile("examples/story.cpp", Build::Shared)));
    assert_eq!(stdout(&output), story("Once upon a time", 48) + "\n");
}

#[test]
fn together_writes_what_each_alone_would() {
    let output = succeed(&mut command(&compile("examples/together.c", Build::Shared)));
    let prompts = ["Once upon a time", "The old fisherman", "In the garden"];
    let want: String = prompts.map(|prompt| story(prompt, 24) + "\n").concat();
    assert_eq!(stdout(&output), want);
}

#[test]
fn chat_answers_and_keeps_what_it_has_read() {
    let mut chat = command(&compile("examples/chat.c", Build::Shared));
    let mut child = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"Hello!\nWho are you?\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let kept: Vec<usize> = stderr(&output)
        .lines()
        .filter_map(|line| line.strip_prefix("kept ")?.split(' ').next()?.parse().ok())
        .collect();
    assert!(kept.len() == 2 && kept[0] == 0 && kept[1] > 4, "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().filter(|line| !line.is_empty()).count(), 2, "{}", stdout(&output));
}

#[test]
fn cancel_ends_a_call_and_goes_on() {
    let output = succeed(&mut command(&compile("examples/cancel.c", Build::Shared)));
    assert_eq!(stdout(&output), "cancelled after some pieces, then went on\n");
}

#[test]
fn embed_tells_like_from_unlike() {
    let output = succeed(&mut command(&compile("examples/embed.c", Build::Shared)));
    let rows: Vec<Vec<f64>> = stdout(&output)
        .lines()
        .map(|line| line.split(' ').map(|number| number.parse().unwrap()).collect())
        .collect();
    assert_eq!(rows.len(), 3);
    (0..3).for_each(|i| assert!((rows[i][i] - 1.0).abs() < 0.0011, "{rows:?}"));
    assert!(rows[0][1] > rows[0][2] && rows[0][1] < 1.0, "{rows:?}");
}

#[test]
fn an_error_names_the_file() {
    let mut missing = command(&compile("examples/generate.c", Build::Shared));
    let output = support::run(missing.args(["-m", "no-such-model.gguf"]));
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(message.starts_with("BISE_ERROR_FILE: ") && message.contains("no-such-model.gguf"), "{message}");
}
