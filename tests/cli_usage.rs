//! The command line as such: help, versions, wrong usage, flags of other machines.

#![cfg(all(feature = "cli", feature = "builtin-model"))]

mod cli_support;
use cli_support::Folder;

#[test]
fn help_and_version_are_printed_on_stdout() {
    let folder = Folder::new();
    for flag in ["--help", "-h"] {
        let help = folder.bise([flag]).ok();
        for word in ["Usage: bise", "--temp", "--ctx-size", "[also -ub]", "Examples:", "LLAMA_ARG_CTX_SIZE"] {
            assert!(help.text().contains(word), "{flag}: {word}\n{}", help.text());
        }
        assert_eq!(help.stderr, "");
    }
    assert_eq!(folder.bise(["--version"]).ok().text(), format!("bise {}\n", env!("CARGO_PKG_VERSION")));
    for command in ["chat", "inspect", "tokenize", "bench", "perplexity", "logits", "completions"] {
        assert!(folder.bise([command, "--help"]).ok().text().contains("Usage: bise"), "{command}");
    }
}

#[test]
fn wrong_usage_has_exit_code_2() {
    let folder = Folder::new();
    for line in [
        &["--bogus"][..],
        &["-n"],
        &["-p", "x", "-n", "many"],
        &["bench", "-cnv"],
        &["frobnicate"],
        &["-ctk", "q9_9"],
        &["-c", "99999999999"],
    ] {
        let ran = folder.bise(line);
        assert_eq!(ran.code, 2, "{line:?}");
        assert!(ran.stderr.starts_with("error: "), "{line:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty(), "{line:?}");
    }
}

#[test]
fn flags_for_an_accelerator_are_accepted_with_one_line_each() {
    let folder = Folder::new();
    let ran = folder
        .bise([
            "-p",
            "Once",
            "-n",
            "1",
            "-ngl",
            "99",
            "-sm",
            "none",
            "-nkvo",
            "--no-repack",
            "-fa",
            "on",
            "--no-warmup",
        ])
        .ok();
    let warnings: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("has no effect")).collect();
    assert_eq!(warnings.len(), 4, "{}", ran.stderr);
    assert_eq!(warnings[0], "bise: warning: -ngl 99 has no effect: bise computes on the CPU alone");
}

#[test]
fn completions_are_printed_for_each_shell() {
    let folder = Folder::new();
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef bise"), ("fish", "complete -c bise")] {
        let ran = folder.bise(["completions", shell]).ok();
        assert!(ran.text().contains(word), "{shell}");
        assert!(ran.text().contains("ctx-size"), "{shell}");
    }
}

#[test]
fn flags_can_come_from_the_environment() {
    let folder = Folder::new();
    let mut command = folder.command(["-p", "Once upon a time", "--temp", "0"]);
    let ran = folder.finish(command.env("LLAMA_ARG_N_PREDICT", "3"), b"").ok();
    assert_eq!(ran.text(), folder.bise(["-p", "Once upon a time", "--temp", "0", "-n", "3"]).ok().text());
}

#[test]
fn an_instruction_set_that_is_not_here_is_an_error() {
    let folder = Folder::new();
    let foreign = if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" };
    let ran = folder.bise(["-p", "x", "-n", "1", "--isa", foreign]);
    assert!(ran.error().contains(foreign), "{}", ran.stderr);
}
