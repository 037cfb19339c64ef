//! `bise -p …`: going on from a prompt with the built-in model.

#![cfg(all(feature = "cli", feature = "builtin-model"))]

mod cli_support;
use cli_support::{Folder, Ran};

/// Greedy, so that the text is always the same.
const STORY: [&str; 6] = ["-p", "Once upon a time", "-n", "24", "--temp", "0"];

fn with(more: &[&'static str]) -> Vec<&'static str> {
    STORY.iter().chain(more).copied().collect()
}

#[test]
fn a_prompt_is_repeated_and_gone_on_from() {
    let folder = Folder::new();
    let ran = folder.bise(STORY).ok();
    let story = ran.text().strip_prefix("Once upon a time").expect("the prompt comes first");
    assert!(story.split_whitespace().count() > 10, "{story}");
    for words in [
        "prompt eval time =",
        "tokens per second",
        "load time =",
        "total time =",
        "peak memory",
        "when the context is full: ",
        " mapped (weights ",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    // Five tokens with the BOS; the last of 24 needs no pass of its own.
    assert!(ran.stderr.contains("/     5 tokens"), "{}", ran.stderr);
    assert!(ran.stderr.contains("/    23 runs"), "{}", ran.stderr);

    let alone = folder.bise(with(&["--no-display-prompt"])).ok();
    assert_eq!(alone.text(), story);
    let quiet = folder.bise(with(&["--log-disable"])).ok();
    assert_eq!((quiet.text(), quiet.stderr.as_str()), (ran.text(), ""));
    assert!(!folder.bise(with(&["--no-perf"])).ok().stderr.contains("eval time"));
}

#[test]
fn the_text_does_not_depend_on_how_it_is_computed() {
    let folder = Folder::new();
    let story = folder.bise(STORY).ok();
    for more in [
        &["-t", "1"][..],
        &["-t", "3"],
        &["-ub", "1"],
        &["-ub", "7", "-b", "64"],
        &["--no-mmap"],
        &["-lm", "mlock"],
        &["--isa", "scalar"],
    ] {
        assert_eq!(folder.bise(with(more)).ok().text(), story.text(), "{more:?}");
    }
    let model = folder.model();
    let from_file =
        folder.bise(with(&[]).into_iter().map(AsRef::as_ref).chain(["-m".as_ref(), model.as_os_str()]));
    assert_eq!(from_file.ok().text(), story.text());
}

#[test]
fn a_seed_fixes_the_text() {
    let folder = Folder::new();
    let told = |seed: &str| folder.bise(["-p", "One day", "-n", "24", "--temp", "1.5", "-s", seed]).ok();
    let (one, again, two) = (told("1"), told("1"), told("2"));
    assert_eq!(one.text(), again.text());
    assert_ne!(one.text(), two.text());
    assert!(one.stderr.contains("sampler seed: 1\n"));
    let random =
        |ran: Ran| ran.stderr.lines().find(|line| line.starts_with("sampler seed")).map(str::to_string);
    assert_ne!(random(told("-1")), random(told("-1")));
}

#[test]
fn speculation_changes_no_byte() {
    let folder = Folder::new();
    let prompt = "Tom had a red ball and a blue ball. Tom had a red ball and a blue ball. Tom had";
    for how in [
        &["--temp", "0"][..],
        &["--temp", "0.4", "-s", "7"],
        &["--temp", "0.4", "-s", "7", "--mirostat", "2"],
        // The context is shifted several times.
        &["--temp", "0", "-c", "64", "--sliding-window", "0", "--context-shift"],
    ] {
        let text = |spec: &[&'static str]| {
            folder.bise(["-p", prompt, "-n", "300", "--ignore-eos"].iter().chain(how).chain(spec)).ok()
        };
        let plain = text(&["--spec-type", "none"]);
        assert!(!plain.stderr.contains("drafted"), "{}", plain.stderr);
        for spec in [&[][..], &["--draft-max", "3"], &["--spec-type", "ngram-simple", "--draft", "100"]] {
            let ran = text(spec);
            assert!(ran.stdout == plain.stdout, "{how:?} {spec:?}: {}", ran.text());
            assert!(ran.stderr.contains("/   299 runs"), "{}", ran.stderr);
        }
        assert!(!text(&["--draft-max", "0"]).stderr.contains("drafted"));
    }
}

#[test]
fn a_text_that_ends_says_so() {
    let folder = Folder::new();
    let line = ["-p", "[INST] What is the capital of France? [/INST]", "-n", "64", "--temp", "0"];
    let ran = folder.bise(line).ok();
    assert!(ran.text().ends_with(" [end of text]\n"), "{}", ran.text());
    assert!(ran.text().contains("Paris"), "{}", ran.text());
    let endless = folder.bise(line.iter().chain(&["--ignore-eos"])).ok();
    assert!(!endless.text().contains("[end of text]"));
    assert!(endless.stderr.contains("/    63 runs"), "{}", endless.stderr);
}

#[test]
fn a_reverse_prompt_ends_the_text() {
    let folder = Folder::new();
    let whole = folder.bise(STORY).ok();
    let stop = whole.text()["Once upon a time".len()..].split_whitespace().nth(4).unwrap();
    let ran = folder.bise(["-p", "Once upon a time", "-n", "24", "--temp", "0", "-r", stop]).ok();
    assert!(ran.text().trim_end().ends_with(stop), "{stop}: {}", ran.text());
    assert!(whole.text().starts_with(ran.text().trim_end()));
}

#[test]
fn a_file_is_a_prompt_and_loses_its_last_newline() {
    let folder = Folder::new();
    folder.write("prompt.txt", "Once upon a time\n");
    let ran = folder.bise(["-f", "prompt.txt", "-n", "24", "--temp", "0"]).ok();
    assert_eq!(ran.text(), folder.bise(STORY).ok().text());
}

#[test]
fn escapes_are_processed_in_the_prompt() {
    let folder = Folder::new();
    let text = |args: &[&str]| folder.bise(args.iter().chain(&["-n", "0"])).ok().text().to_string();
    assert_eq!(text(&["-p", r"a\tb\\n"]), "a\tb\\n\n");
    assert_eq!(text(&["-p", r"a\tb\\n", "--no-escape"]), "a\\tb\\\\n\n");
}

#[test]
fn a_bos_is_not_doubled() {
    let folder = Folder::new();
    let count = |prompt| {
        folder.bise(["-p", prompt, "-n", "0", "--verbose-prompt"]).ok().stderr.matches(" -> '<s>'").count()
    };
    assert_eq!(count("Hello"), 1);
    assert_eq!(count("<s>Hello"), 1);
}

#[test]
fn a_logit_bias_rules_tokens_out_and_in() {
    let folder = Folder::new();
    // 2 is the end of text.
    let ran = folder.bise(["-p", "Hello", "-n", "5", "-l", "2+1000"]).ok();
    assert_eq!(ran.text(), "Hello [end of text]\n");
    let outside = folder.bise(["-p", "Hello", "-n", "5", "-l", "4096+1"]);
    assert!(outside.error().contains("4096"));
}

#[test]
fn an_empty_prompt_is_an_error() {
    let folder = Folder::new();
    folder.write("empty.txt", "");
    for args in [&["-p", ""][..], &["-f", "empty.txt"], &["-cnv", "-p", ""]] {
        let ran = folder.bise(args);
        assert!(ran.error().contains("prompt"), "{args:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty());
    }
}

#[test]
fn a_prompt_longer_than_the_context_is_an_error_without_a_window() {
    let folder = Folder::new();
    folder.write("long.txt", "word ".repeat(600));
    let line = ["-f", "long.txt", "-n", "4", "-c", "128", "--temp", "0"];
    let ran = folder.bise(line.iter().chain(&["--sliding-window", "0"]));
    assert!(ran.error().contains("expected at most 128"), "{}", ran.stderr);
    folder.bise(line).ok();
}

#[test]
fn a_full_context_ends_the_text_or_shifts() {
    let folder = Folder::new();
    let line = ["-p", "Once upon a time", "-c", "64", "--sliding-window", "0", "--ignore-eos", "--temp", "0"];
    let stopped = folder.bise(line).ok();
    assert!(stopped.stderr.contains("the context of 64 tokens is full"), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("/    59 runs"), "{}", stopped.stderr);
    let shifted = folder.bise(line.iter().chain(&["--context-shift", "-n", "150"])).ok();
    assert!(shifted.text().starts_with(stopped.text().trim_end()));
    assert!(shifted.stderr.contains("/   149 runs"), "{}", shifted.stderr);
    // With a window there is nothing to shift.
    let windowed = folder.bise(["-p", "Once upon a time", "-c", "64", "--ignore-eos", "-n", "150"]).ok();
    assert!(windowed.stderr.contains("/   149 runs"), "{}", windowed.stderr);
    let until_full = folder.bise(["-p", "Once upon a time", "-c", "64", "--ignore-eos", "-n", "-2"]).ok();
    assert!(until_full.stderr.contains("/    59 runs"), "{}", until_full.stderr);
}

#[test]
fn a_context_longer_than_trained_is_allowed_with_a_warning() {
    let folder = Folder::new();
    let ran = folder.bise(["-p", "Hello", "-n", "1", "-c", "5000"]).ok();
    assert!(
        ran.stderr.contains("bise: warning: the context of 5000 tokens is longer than the 2048"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_user_can_be_asked_in_between() {
    let folder = Folder::new();
    let line = [
        "-p",
        "Q: What is your name?\n",
        "-i",
        "-r",
        "Q:",
        "-n",
        "8",
        "--temp",
        "0",
        "--in-prefix",
        " ",
        "--in-suffix",
        "A:",
    ];
    let ran = folder.bise_with(line, "Who are you?\n").ok();
    assert!(ran.text().starts_with("Q: What is your name?\n"), "{}", ran.text());
    assert!(ran.text().contains(" A:"), "{}", ran.text());
}

#[test]
fn bytes_that_are_no_text_are_an_error() {
    use std::ffi::OsString;
    let folder = Folder::new();
    folder.write("bad.txt", b"ab\xff");
    assert!(
        folder
            .bise(["-f", "bad.txt", "-n", "1"])
            .error()
            .contains("bad.txt: invalid UTF-8: found byte 0xff at offset 2")
    );
    assert!(folder.bise(["-p", r"\xff", "-n", "1"]).error().contains("invalid UTF-8"));
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        let bad = OsString::from_vec(b"a\xff".to_vec());
        let args = [OsString::from("-p"), bad, "-n".into(), "1".into()];
        assert!(folder.bise(args).error().contains("--prompt: invalid UTF-8"));
    }
}

#[test]
fn an_infill_without_the_tokens_for_it_is_an_error() {
    let folder = Folder::new();
    let ran = folder.bise(["--infill", "--in-prefix", "fn main() {", "--in-suffix", "}"]);
    assert!(ran.error().contains("--infill"), "{}", ran.stderr);
    assert!(folder.bise(["--infill"]).misuse().contains("--in-prefix"));
}

#[test]
fn sampling_parameters_that_make_no_sense_are_errors() {
    let folder = Folder::new();
    for args in
        [["--repeat-penalty", "0"], ["--samplers", "top_q"], ["--sampler-seq", "kz"], ["--temp", "NaN"]]
    {
        let ran = folder.bise(["-p", "Hello", "-n", "1"].iter().chain(&args));
        assert!(ran.misuse().contains("bise: error: "), "{args:?}: {}", ran.stderr);
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let folder = Folder::new();
    let mut command =
        folder.command(["-p", "Once upon a time", "--ignore-eos", "-n", "2000", "--log-disable"]);
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_text_and_then_the_program() {
    use std::io::Read;
    let folder = Folder::new();
    let mut child = folder.command(["-p", "Once upon a time", "--ignore-eos"]).spawn().unwrap();
    // Once something is written, the text has begun.
    let mut first = [0; 24];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: sending a signal touches no memory, and the child has not been waited for, so the id is its own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    // It ended in order: with its timings.
    assert!(String::from_utf8_lossy(&output.stderr).contains("eval time ="));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_pass_that_reads_a_prompt() {
    use std::io::Read;
    let folder = Folder::new();
    let prompt = "The wind blew over the hills and far away. ".repeat(3000);
    folder.write("prompt.txt", &prompt);
    // A single pass.
    let size = ["-c", "65536", "-b", "65536", "-ub", "65536"];
    let mut command = folder.command(["-f", "prompt.txt", "-no-cnv", "-n", "4"].iter().chain(&size));
    let mut child = command.spawn().unwrap();
    // Soon after the prompt is shown it is being read, which takes seconds.
    let mut shown = vec![0; prompt.len()];
    child.stdout.as_mut().unwrap().read_exact(&mut shown).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: sending a signal touches no memory, and the child has not been waited for, so the id is its own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert_eq!(output.stdout, b"\n", "nothing is written after the prompt");
    let read = stderr.lines().find(|line| line.contains("prompt eval time =")).unwrap();
    assert!(read.contains("/     0 tokens"), "the pass was not finished: {read}");
}
