//! `--prompt-cache` changes how much is read, never what is written.

#![cfg(all(feature = "cli", feature = "builtin-model"))]

mod cli_support;
use std::fs;
use std::process::Stdio;

use cli_support::{Folder, Ran};

const STORY: &str = "Once upon a time there was a little boy named Hugo who lived by the sea.";

fn run(folder: &Folder, args: &[&str]) -> Ran {
    let common = ["-no-cnv", "--temp", "0", "-t", "1"];
    folder.bise(common.iter().chain(args))
}

/// The number of prompt tokens that were read, of the timings.
fn n_read(ran: &Ran) -> usize {
    let line = ran.stderr.lines().find(|line| line.contains("prompt eval time")).expect("timings");
    let rest = line.split('/').nth(1).unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

fn n_tokens(text: &str) -> usize {
    bise::Engine::builtin().unwrap().embedding_tokens(text).len()
}

#[test]
fn a_prompt_is_read_once() {
    let folder = Folder::new();
    let plain = run(&folder, &["-p", STORY, "-n", "20"]).ok();
    let cached = ["-p", STORY, "-n", "20", "--prompt-cache", "cache"];
    let first = run(&folder, &cached).ok();
    let n = n_tokens(STORY);
    assert_eq!((first.text(), n_read(&first)), (plain.text(), n));
    assert!(first.stderr.contains("prompt cache: cache has nothing for this prompt yet"), "{}", first.stderr);
    let kept = fs::read(folder.path("cache")).unwrap();
    let second = run(&folder, &cached).ok();
    assert_eq!((second.text(), n_read(&second)), (plain.text(), 0));
    let told = format!("prompt cache: {n} of {n} tokens of the prompt were read before (cache)");
    assert!(second.stderr.contains(&told), "{}", second.stderr);
    assert!(fs::read(folder.path("cache")).unwrap() == kept, "there was nothing new to keep");
}

#[test]
fn the_longest_common_beginning_is_used() {
    let folder = Folder::new();
    run(&folder, &["-p", STORY, "-n", "1", "--prompt-cache", "cache"]).ok();
    let longer = format!("{STORY} One day he saw a boat.");
    let other = STORY.replace("by the sea", "in the forest");
    for prompt in [longer.as_str(), other.as_str(), "The cat sat by the fire.", "Once upon a time"] {
        let plain = run(&folder, &["-p", prompt, "-n", "12"]).ok();
        fs::copy(folder.path("cache"), folder.path("copy")).unwrap();
        let cached = run(&folder, &["-p", prompt, "-n", "12", "--prompt-cache", "copy"]).ok();
        assert_eq!(cached.text(), plain.text());
        assert!(n_read(&cached) < n_read(&plain), "{prompt}: at least the BOS");
        // Now it has this prompt; one that it had whole did not replace it, and needs the logits after its last token.
        let again = run(&folder, &["-p", prompt, "-n", "12", "--prompt-cache", "copy"]).ok();
        let expected = usize::from(STORY.starts_with(prompt));
        assert_eq!((again.text(), n_read(&again)), (plain.text(), expected));
    }
}

#[test]
fn all_keeps_what_was_generated_and_ro_writes_nothing() {
    let folder = Folder::new();
    let whole = run(&folder, &["-p", STORY, "-n", "40"]).ok();
    let all = ["--prompt-cache", "cache", "--prompt-cache-all"];
    let first = run(&folder, &[&["-p", STORY, "-n", "15"], &all[..]].concat()).ok();
    // Every token that was chosen is there, and the text goes on by itself.
    let kept = n_tokens(STORY) + 15;
    assert!(first.stderr.contains(&format!("prompt cache: {kept} tokens are kept")), "{}", first.stderr);
    let before = fs::read(folder.path("cache")).unwrap();
    // A prompt that the file has, and more, is nothing new.
    let shorter = run(&folder, &["-p", STORY, "-n", "15", "--prompt-cache", "cache"]).ok();
    assert_eq!((shorter.text(), n_read(&shorter)), (first.text(), 1));
    assert!(fs::read(folder.path("cache")).unwrap() == before);
    let ro = ["--prompt-cache", "cache", "--prompt-cache-ro"];
    let second = run(&folder, &[&["-n", "25"], &ro[..]].concat()).ok();
    assert_eq!((second.text(), n_read(&second)), (whole.text(), 0));
    let other = run(&folder, &[&["-p", "The cat", "-n", "5"], &ro[..]].concat()).ok();
    assert!(n_read(&other) > 0);
    let both = run(&folder, &[&["-p", "The cat", "-n", "5", "--prompt-cache-all"], &ro[..]].concat()).ok();
    assert!(
        both.stderr.contains("--prompt-cache-all has no effect beside --prompt-cache-ro"),
        "{}",
        both.stderr
    );
    assert!(fs::read(folder.path("cache")).unwrap() == before);
    let missing = ["-p", "The cat", "-n", "5", "--prompt-cache", "none", "--prompt-cache-ro"];
    run(&folder, &missing).ok();
    assert!(!folder.path("none").exists());
}

#[test]
fn a_file_that_does_not_fit_is_named_and_one_that_is_not_ours_is_left_alone() {
    let folder = Folder::new();
    let cached = ["-p", STORY, "-n", "8", "--prompt-cache", "cache"];
    let plain = run(&folder, &["-p", STORY, "-n", "8"]).ok();
    run(&folder, &cached).ok();
    let fits_not = run(&folder, &[&cached[..], &["-ctk", "q8_0"]].concat()).ok();
    let warned = "cache: the session was saved with keys in the cache as f16, here it is q8_0: the prompt is read from the start";
    assert!(fits_not.stderr.contains(warned), "{}", fits_not.stderr);
    assert_eq!(n_read(&fits_not), n_tokens(STORY));
    // It has been replaced.
    assert_eq!(n_read(&run(&folder, &[&cached[..], &["-ctk", "q8_0"]].concat()).ok()), 0);

    run(&folder, &cached).ok();
    let mut damaged = fs::read(folder.path("cache")).unwrap();
    damaged.truncate(damaged.len() / 2);
    folder.write("cache", damaged);
    let ran = run(&folder, &cached).ok();
    assert!(ran.stderr.contains("the session file is damaged: it has"), "{}", ran.stderr);
    assert_eq!(ran.text(), plain.text());

    folder.write("cache", "my notes");
    let error = run(&folder, &cached).error().to_owned();
    assert_eq!(
        error,
        "bise: error: --prompt-cache: cache: this is no session file of bise: it begins with 'my notes'"
    );
    assert_eq!(fs::read(folder.path("cache")).unwrap(), b"my notes");

    folder.write("cache", "");
    assert_eq!(run(&folder, &cached).ok().text(), plain.text(), "an empty file is filled");
    assert_eq!(n_read(&run(&folder, &cached).ok()), 0);

    let nowhere = run(&folder, &["-p", STORY, "-n", "8", "--prompt-cache", "no/such/folder"]).ok();
    assert_eq!(nowhere.text(), plain.text(), "the text comes all the same");
    assert!(
        nowhere.stderr.contains("warning: --prompt-cache: no/such/folder: No such file"),
        "{}",
        nowhere.stderr
    );
    // No room for it: what is told is the file that was asked for and what the system says. What was there stays.
    #[cfg(target_os = "linux")]
    {
        let kept = fs::read(folder.path("cache")).unwrap();
        let mut limited = std::process::Command::new("sh");
        limited.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_bise")]);
        limited.args([
            "-no-cnv",
            "--temp",
            "0",
            "-t",
            "1",
            "-p",
            "The cat",
            "-n",
            "8",
            "--prompt-cache",
            "cache",
        ]);
        limited.current_dir(folder.path(".")).stdout(Stdio::piped()).stderr(Stdio::piped());
        let full = folder.finish(&mut limited, b"").ok();
        let told = "warning: --prompt-cache: cache: File too large (os error 27)";
        assert!(full.stderr.lines().any(|line| line.ends_with(told)), "{}", full.stderr);
        assert_eq!(fs::read_dir(folder.path(".")).unwrap().count(), 1, "nothing is left beside it");
        assert!(fs::read(folder.path("cache")).unwrap() == kept);
    }
    for flag in ["--prompt-cache-all", "--prompt-cache-ro"] {
        let error = run(&folder, &["-p", STORY, flag]).misuse().to_owned();
        assert!(error.contains(flag) && error.contains("expected --prompt-cache FILE"), "{error}");
    }
}

#[test]
fn a_conversation_goes_on_where_the_last_one_was_read() {
    let folder = Folder::new();
    let chat = |lines: &str, more: &[&str]| {
        let args = ["chat", "--temp", "0", "-n", "12", "-t", "1", "--simple-io"];
        folder.bise_with(args.iter().chain(more), lines).ok()
    };
    let lines = "Hello.\nWhat is the opposite of hot?\n";
    let plain = chat(lines, &[]);
    let all = ["--prompt-cache", "cache", "--prompt-cache-all"];
    let first = chat(lines, &all);
    let second = chat(lines, &all);
    assert_eq!((first.text(), second.text()), (plain.text(), plain.text()));
    assert!(n_read(&second) < n_read(&first), "{} {}", n_read(&second), n_read(&first));
    assert!(second.stderr.contains("tokens of the prompt were read before (cache)"), "{}", second.stderr);
}

#[cfg(unix)]
#[test]
fn a_kill_leaves_the_file_whole() {
    let folder = Folder::new();
    let cached = ["-p", STORY, "-n", "8", "--prompt-cache", "cache"];
    let plain = run(&folder, &cached).ok();
    let mut args = vec!["-no-cnv", "--temp", "0", "-t", "1", "-n", "400", "--ignore-eos"];
    args.extend(["-p", "The cat", "--prompt-cache", "cache", "--prompt-cache-all"]);
    for milliseconds in [10, 30, 60, 100, 200] {
        let mut child = folder.command(&args).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        // Whatever is in it now, it is one of the two.
        let ran = run(&folder, &[&cached[..], &["--prompt-cache-ro"]].concat()).ok();
        assert_eq!(ran.text(), plain.text());
        assert!(ran.stderr.contains("tokens of the prompt were read before"), "{}", ran.stderr);
    }
}
