//! `bise perplexity` on llama-perplexity's files of questions: `eval/llama_perplexity.py` wrote the files and what llama-perplexity b11434
//! prints about them.
#![cfg(all(feature = "eval", feature = "quantize"))]

mod cli_support;

use std::path::{Path, PathBuf};

use cli_support::Folder;

fn tasks(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/eval/tasks").join(file)
}

/// Equal words; numbers with a point in them may differ by what rounding does to a mean of log-probabilities.
fn is_same(ours: &str, theirs: &str) -> bool {
    let (ours, theirs): (Vec<_>, Vec<_>) =
        (ours.split_whitespace().collect(), theirs.split_whitespace().collect());
    ours.len() == theirs.len()
        && ours.iter().zip(&theirs).all(|(a, b)| {
            a == b || matches!((a.parse::<f64>(), b.parse::<f64>()), (Ok(a), Ok(b)) if a < 0.0 && (a - b).abs() < 1e-3)
        })
}

#[test]
fn questions_are_scored_as_by_llama_perplexity() {
    let folder = Folder::new();
    let (small, model) = (folder.model(), folder.path("f32.gguf"));
    let quantize = [
        "quantize".as_ref(),
        "--allow-requantize".as_ref(),
        small.as_os_str(),
        model.as_os_str(),
        "F32".as_ref(),
    ];
    folder.bise(quantize).ok();
    let expected = include_str!("eval/llama_perplexity.txt");
    for run in expected.split("$ ").skip(1) {
        let (flags, lines) = run.split_once('\n').unwrap();
        let flags = flags.replace(" -np 8", "");
        let mut args = vec!["perplexity".to_owned(), "-m".to_owned(), model.display().to_string()];
        args.extend(["-ctk", "f32", "-ctv", "f32"].map(str::to_owned));
        args.extend(flags.split(' ').map(|word| match word.contains('.') {
            true => tasks(word).display().to_string(),
            false => word.to_owned(),
        }));
        let ran = folder.bise(&args).ok();
        let (ours, theirs): (Vec<_>, Vec<_>) = (ran.text().lines().collect(), lines.lines().collect());
        assert_eq!(ours.len(), theirs.len(), "{flags}: {}", ran.text());
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!(is_same(ours, theirs), "{flags}: found {ours}, expected {theirs}");
        }
    }
}

#[test]
fn files_that_are_not_sound_are_named() {
    let folder = Folder::new();
    let error = |flag: &str, content: &[u8]| {
        folder.write("file", content);
        let ran = folder.bise(["perplexity", flag, "-bf", "file"]);
        ran.error().strip_prefix("bise: error: file: ").expect("the file is named").to_owned()
    };
    assert_eq!(error("--hellaswag", b"a\n0\nb\n"), "found 3 lines, expected six for each question");
    assert_eq!(
        error("--hellaswag", b"a\n4\nb\nc\nd\ne\n"),
        "line 2: found '4', expected the number of an ending, 0 to 3"
    );
    assert_eq!(error("--hellaswag", b""), "found no questions, expected some");
    assert_eq!(error("--hellaswag", b"\xff"), "found no UTF-8 at byte 0, expected a text");
    assert_eq!(error("--winogrande", b"0,no gap,a,b,1\n"), "found no questions, expected some");
    let long = format!("{}\n0\na\nb\nc\nd\n", "word ".repeat(3000));
    assert!(error("--hellaswag", long.as_bytes()).starts_with("question 1: found 30"), "it does not fit");
    let whole = std::fs::read(tasks("multiple_choice.bin")).unwrap();
    assert_eq!(
        error("--multiple-choice", &[0xff; 4]),
        "byte 4: found the end of the file at 4, expected 17179869180 bytes of positions of questions"
    );
    let cut = error("--multiple-choice", &whole[..whole.len() - 1]);
    assert!(cut.starts_with("question 13: byte ") && cut.contains("found the end of the file at"), "{cut}");
    for n in (0..whole.len()).step_by(7) {
        assert!(error("--multiple-choice", &whole[..n]).contains("expected"));
        if n > 200 {
            break;
        }
    }
}

#[test]
fn flags_of_a_text_do_not_go_with_questions() {
    let folder = Folder::new();
    for flags in [
        &["--hellaswag", "--winogrande"][..],
        &["--hellaswag", "--chunks", "2"],
        &["--winogrande", "--hellaswag-tasks", "3"],
        &["--multiple-choice", "--ppl-stride", "2"],
        &["--hellaswag", "--hellaswag-tasks", "0"],
        &["--hellaswag", "--kl-divergence-base", "x"],
        &["--hellaswag"],
    ] {
        let ran = folder.bise(["perplexity"].iter().chain(flags));
        assert_eq!(ran.code, 2, "{flags:?}: {}", ran.stderr);
    }
    // A last line without a newline is left out, as llama-perplexity leaves it out, and named.
    folder.write(
        "w.csv",
        "0,The cat saw the _ there and then,dog,bird,1\n1,The cat saw the _ there and then,dog,bird,1\n",
    );
    let ran = folder.bise(["perplexity", "--winogrande", "-f", "w.csv"]).ok();
    assert_eq!(ran.text().lines().count(), 1);
    assert!(ran.stderr.contains("bise: warning: line 2: left out"), "{}", ran.stderr);
    assert_eq!(folder.bise(["perplexity", "--winogrande", "-bf", "w.csv"]).ok().text().lines().count(), 2);
}
