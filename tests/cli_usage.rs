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
    for command in ["chat", "inspect", "tokenize", "bench", "perplexity", "logits", "completions", "man"] {
        assert!(folder.bise([command, "--help"]).ok().text().contains("Usage: bise"), "{command}");
    }
}

#[test]
fn help_fits_80_columns_and_gives_examples() {
    let folder = Folder::new();
    for command in ["", "chat", "inspect", "tokenize", "bench", "perplexity", "logits", "completions", "man"]
    {
        let line = [command, "--help"].into_iter().filter(|word| !word.is_empty());
        let help = folder.finish(folder.command(line).env("COLUMNS", "80"), b"").ok();
        let longest = help.text().lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(longest.chars().count() <= 80, "{command}: {longest}");
        assert!(help.text().contains("Examples:\n  bise "), "{command}");
        // Notes in brackets are not broken, and nothing but text is printed.
        assert!(!help.text().lines().any(|line| line.trim_end().ends_with("[env:")), "{command}");
        assert!(!help.text().contains(['\u{a0}', '\x1b']), "{command}");
        // The three ways to ask for it are one.
        let by_word = folder.finish(folder.command(["help", command]).env("COLUMNS", "80"), b"");
        let by_letter = [command, "-h"].into_iter().filter(|word| !word.is_empty());
        let by_letter = folder.finish(folder.command(by_letter).env("COLUMNS", "80"), b"");
        assert_eq!(help.text(), by_letter.text(), "{command}");
        if !command.is_empty() {
            assert_eq!(help.text(), by_word.text(), "{command}");
        }
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
        &["-c", "-1"],
        &["-b", "0"],
        &["-ub", "0"],
        &["-n", "-3"],
        &["perplexity", "--chunks", "0"],
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
fn the_manual_has_a_page_for_each_command() {
    let folder = Folder::new();
    for command in ["", "chat", "inspect", "tokenize", "bench", "perplexity", "logits", "completions", "man"]
    {
        let name = if command.is_empty() { "bise".to_owned() } else { format!("bise-{command}") };
        let line = ["man", command].into_iter().filter(|word| !word.is_empty());
        let page = folder.bise(line).ok();
        assert!(page.text().contains(&format!(".TH {name} 1 ")), "{command}: {}", page.text());
        assert!(page.text().contains("\nbise -m") || page.text().contains("  bise "), "{command}: examples");
        assert!(!page.text().contains(['\u{a0}', '\x1b']), "{command}");
    }
    assert!(folder.bise(["man"]).ok().text().contains("ctx\\-size"));
    assert!(folder.bise(["man", "frobnicate"]).misuse().contains("no command 'frobnicate'"));
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

#[test]
fn flags_that_make_no_sense_together_have_exit_code_2() {
    let folder = Folder::new();
    for (line, words) in [
        (&["-no-cnv"][..], "expected --prompt, --file or --interactive"),
        (&["-p", "x", "--repeat-penalty", "0"], "penalty_repeat"),
        (&["-p", "x", "--rope-scale", "0"], "--rope-scale: found 0"),
        (&["-p", "x", "--samplers", "best"], "--samplers: no sampler is called"),
        (&["perplexity", "-f", "text.txt", "-c", "2"], "--ctx-size: found 2, expected at least 3"),
        (&["tokenize"], "expected one of --stdin, --file or --prompt"),
    ] {
        folder.write("text.txt", "Once upon a time");
        let ran = folder.bise(line);
        assert!(ran.misuse().contains(words), "{line:?}: {}", ran.stderr);
    }
    // What depends on files and machines is an error like any other.
    assert_eq!(folder.bise(["-p", "x", "-m", "none.gguf"]).code, 1);
    assert_eq!(folder.bise(["-f", "none.txt"]).code, 1);
}

#[test]
fn there_are_never_more_threads_than_cores() {
    let folder = Folder::new();
    let cores = bise::threads::available_threads();
    let bench = ["bench", "-p", "1", "-n", "0", "-r", "1", "-o", "jsonl"];
    let rows = |threads: &str| {
        let ran = folder.bise(bench.iter().chain(&["-t", threads])).ok();
        let row: serde_json::Value = serde_json::from_str(ran.text()).unwrap();
        (row["n_threads"].as_u64().unwrap() as usize, ran.stderr)
    };
    let (n, stderr) = rows("10000");
    assert_eq!(n, cores);
    let want = format!(
        "bise: warning: --threads 10000: this program may use {cores} cores; taking {cores} threads\n"
    );
    assert_eq!(stderr, want);
    assert_eq!(rows("1"), (1, String::new()));
    assert_eq!(rows(&cores.to_string()), (cores, String::new()));
}

/// Without the right to lock memory, whoever runs the tests.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_cannot_be_locked_is_a_warning() {
    use std::os::unix::process::CommandExt;

    let folder = Folder::new();
    folder.model();
    for (flags, named) in [
        (&["--mlock"][..], "--mlock had no effect: model.gguf"),
        (&["-lm", "mlock"], "--load-mode mlock had no effect: model.gguf"),
        (&["-lm", "mmap+mlock"], "--load-mode mmap+mlock had no effect: model.gguf"),
    ] {
        let line = ["-m", "model.gguf", "-p", "Once", "-n", "1"];
        let mut command = folder.command(line.iter().chain(flags));
        // SAFETY: between fork and exec only system calls are made, on data of this frame.
        unsafe {
            command.pre_exec(|| {
                const CAP_IPC_LOCK: libc::c_ulong = 14;
                // Refused where there is no such right to give up.
                libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0);
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                match libc::setrlimit(libc::RLIMIT_MEMLOCK, &none) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let ran = folder.finish(&mut command, b"").ok();
        assert!(ran.stderr.contains(named), "{flags:?}: {}", ran.stderr);
        assert!(!ran.text().is_empty());
    }
    let ran = folder.bise(["-p", "Once", "-n", "1", "--mlock"]).ok();
    assert!(ran.stderr.contains("--mlock has no effect on the built-in model"), "{}", ran.stderr);
}

/// What is written at once cannot be torn apart by what another program writes to the same terminal or log.
#[cfg(unix)]
#[test]
fn a_line_on_stderr_is_one_write() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;

    let folder = Folder::new();
    folder.write("text.txt", "Once upon a time, there was a little mouse. ".repeat(4));
    for line in [
        &["-p", "Once", "-n", "2", "-ngl", "1", "--verbose-prompt"][..],
        &["-m", "none.gguf", "-p", "x"],
        &["--bogus"],
        &["-c", "many"],
        &["bench", "-p", "1", "-n", "0", "-r", "1", "--progress", "-oe", "md"],
        &["bench", "-p", "1", "-n", "0", "-r", "1", "-oe", "jsonl"],
        &["perplexity", "-f", "text.txt", "-c", "16"],
    ] {
        // Each write arrives as a message of its own.
        let (reader, writer) = UnixDatagram::pair().unwrap();
        let end = writer.try_clone().unwrap();
        let mut child = folder.command(line).stderr(OwnedFd::from(writer)).spawn().unwrap();
        let messages = std::thread::spawn(move || {
            let (mut messages, mut bytes) = (Vec::new(), vec![0; 1 << 16]);
            loop {
                let n = reader.recv(&mut bytes).unwrap();
                if n == 0 {
                    return messages;
                }
                messages.push(String::from_utf8(bytes[..n].to_vec()).unwrap());
            }
        });
        let mut out = Vec::new();
        std::io::Read::read_to_end(&mut child.stdout.take().unwrap(), &mut out).unwrap();
        child.wait().unwrap();
        end.send(&[]).unwrap();
        let messages = messages.join().unwrap();
        assert!(!messages.is_empty(), "{line:?}");
        for message in messages {
            assert!(message.ends_with('\n'), "{line:?}: {message:?}");
        }
    }
}

#[cfg(unix)]
mod stdout {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::cli_support::Folder;

    /// Every command that prints something, and the help of each.
    const LINES: &[&[&str]] = &[
        &["--help"],
        &["-h"],
        &["--version"],
        &["help"],
        &["chat", "--help"],
        &["bench", "--help"],
        &["help", "inspect"],
        &["inspect"],
        &["inspect", "--json"],
        &["tokenize", "-p", "Once"],
        &["tokenize", "-p", "Once", "--ids"],
        &["bench", "-p", "1", "-n", "0", "-r", "1"],
        &["bench", "-p", "1", "-n", "0", "-r", "1", "-o", "json"],
        &["perplexity", "-f", "text.txt", "-c", "16"],
        &["completions", "bash"],
        &["-p", "Once", "-n", "2"],
        &["-p", "Once", "-n", "2", "--no-display-prompt", "--no-perf"],
        &["chat", "-p", "Hello", "-n", "2", "-st"],
        &["chat", "-n", "2"],
    ];

    /// Runs all of them with standard output changed by `change`.
    fn run_all(change: impl Fn(&mut Command), check: impl Fn(&[&str], Option<i32>, &str)) {
        let folder = Folder::new();
        folder.write("text.txt", "Once upon a time, there was a little mouse. ".repeat(4));
        for line in LINES {
            let mut command = folder.command(*line);
            change(&mut command);
            let ran = folder.finish(command.stdin(Stdio::piped()), b"Hello\n");
            assert!(!ran.stderr.contains("panicked"), "{line:?}: {}", ran.stderr);
            check(line, Some(ran.code), &ran.stderr);
        }
    }

    fn failed(line: &[&str], code: Option<i32>, stderr: &str) {
        assert_eq!(code, Some(1), "{line:?}: {stderr}");
        let errors = stderr.lines().filter(|line| line.starts_with("bise: error: ")).count();
        assert_eq!(errors, 1, "{line:?}: {stderr}");
    }

    #[test]
    fn a_closed_one_is_an_error() {
        let close = |command: &mut Command| {
            // SAFETY: between fork and exec one system call is made, on a descriptor of the child alone.
            unsafe {
                command.pre_exec(|| {
                    libc::close(libc::STDOUT_FILENO);
                    Ok(())
                });
            }
        };
        run_all(close, failed);
        // What prints nothing does not mind.
        let folder = Folder::new();
        let mut command = folder.command(["logits", "--tokens", "1", "-o", "out.npy"]);
        close(&mut command);
        folder.finish(&mut command, b"").ok();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_one_is_an_error() {
        run_all(
            |command| {
                command.stdout(std::fs::File::create("/dev/full").unwrap());
            },
            failed,
        );
    }

    #[test]
    fn a_reader_that_is_gone_ends_every_command_quietly() {
        let broken = |command: &mut Command| {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            command.stdout(writer);
        };
        run_all(broken, |line, code, stderr| {
            assert_eq!(code, Some(0), "{line:?}: {stderr}");
            assert!(!stderr.contains("error"), "{line:?}: {stderr}");
        });
    }
}

/// The threads of a running program that may only use these CPUs.
#[cfg(target_os = "linux")]
#[test]
fn threads_are_kept_on_the_cpus_of_a_mask() {
    let allowed = bise::threads::allowed_cpus().unwrap();
    let first = allowed.iter().next().unwrap();
    let folder = Folder::new();
    let bench = ["bench", "-p", "4", "-n", "0", "-r", "1", "-o", "jsonl"];
    let n_threads = |flags: &[&str]| {
        let ran = folder.bise(bench.iter().chain(flags)).ok();
        let row: serde_json::Value = serde_json::from_str(ran.text()).unwrap();
        (row["n_threads"].as_u64().unwrap() as usize, ran.stderr)
    };
    let (mask, range) = (format!("{:#x}", 1u128 << first), format!("{first}-{first}"));
    for flags in [&["-C", &mask][..], &["--cpu-mask", &mask], &["-Cr", &range], &["--cpu-range", &range]] {
        assert_eq!(n_threads(flags), (1, String::new()), "{flags:?}");
        let (n, stderr) = n_threads(&[flags, &["-t", "2"]].concat());
        let want = "bise: warning: --threads 2: this program may use 1 cores; taking 1 threads\n";
        assert_eq!((n, stderr.as_str()), (1, want), "{flags:?}");
    }
    // A mask of zero is none, as in llama.cpp. What no CPU stands for is left out, and said.
    assert_eq!(n_threads(&["-C", "0x0", "-t", "1"]), (1, String::new()));
    let (n, stderr) = n_threads(&["-C", &mask, "-Cr", "1000-1001"]);
    let want = format!(
        "bise: warning: --cpu-mask or --cpu-range: this program may not use CPU 1000-1001, only {allowed}\n"
    );
    assert_eq!((n, stderr), (1, want));
    let ran = folder.bise(["-p", "x", "-n", "1", "-Cr", "1000-1001"]);
    let want = format!("bise: error: there is no CPU 1000-1001 for this program: it may run on {allowed}");
    assert_eq!(ran.error(), want);
    // Strictly, each run of a list begins with all CPUs again.
    let ran = folder.bise(bench.iter().chain(&["-t", "1,2", "--cpu-strict", "1"])).ok();
    let n: Vec<u64> = ran
        .text()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["n_threads"].as_u64().unwrap())
        .collect();
    assert_eq!(n, [1, allowed.len().min(2) as u64]);
}

fn warnings(ran: &cli_support::Ran) -> Vec<&str> {
    ran.stderr.lines().filter_map(|line| line.strip_prefix("bise: warning: ")).collect()
}

#[test]
fn flags_of_threads_are_checked() {
    let folder = Folder::new();
    for (flag, value) in [
        ("-C", "x"),
        ("--cpu-mask", "1,2"),
        ("-Cr", "3"),
        ("--cpu-range", "3-1"),
        ("--cpu-strict", "2"),
        ("--prio", "4"),
        ("--prio", "-2"),
        ("--prio-batch", "high"),
        ("--poll", "101"),
        ("--poll", "-1"),
        ("--poll-batch", "x"),
    ] {
        let ran = folder.bise(["-p", "x", "-n", "1", flag, value]);
        assert_eq!(ran.code, 2, "{flag} {value}: {}", ran.stderr);
        assert!(ran.stderr.contains(&format!("'{flag}")), "{flag} {value}: {}", ran.stderr);
    }
    let line = ["-p", "Once", "-n", "8", "--temp", "0"];
    let want = folder.bise(line).ok().stdout;
    for flags in [&["--poll", "0"][..], &["--poll", "100"], &["--prio", "-1"], &["--poll-batch", "0"]] {
        let ran = folder.bise(line.iter().chain(flags)).ok();
        assert!(warnings(&ran).is_empty() && ran.stdout == want, "{flags:?}: {}", ran.stderr);
    }
    let ran = folder.bise(line.iter().chain(&["-Cb", "0x1"])).ok();
    let want = "-Cb 0x1 has no effect: the threads of --cpu-mask and --cpu-range read the prompt as well";
    assert_eq!(warnings(&ran), [want]);
}

/// Without the right to be more urgent than others, whoever runs the tests.
#[cfg(target_os = "linux")]
#[test]
fn a_priority_that_may_not_be_had_is_a_warning() {
    use std::os::unix::process::CommandExt;

    let folder = Folder::new();
    let mut command = folder.command(["-p", "Once", "-n", "2", "--prio", "2", "-t", "2"]);
    // SAFETY: between fork and exec only system calls are made, on data of this frame.
    unsafe {
        command.pre_exec(|| {
            const CAP_SYS_NICE: libc::c_ulong = 23;
            let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::setpriority(libc::PRIO_PROCESS, 0, 0);
            libc::setrlimit(libc::RLIMIT_NICE, &limit);
            libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0);
            Ok(())
        });
    }
    let ran = folder.finish(&mut command, b"").ok();
    let warned = warnings(&ran);
    assert!(warned.len() == 1 && warned[0].starts_with("--prio 2 had no effect: "), "{}", ran.stderr);
}

/// Stopped and continued in the middle of passes, a program writes what it would have written.
#[cfg(unix)]
#[test]
fn a_program_that_is_stopped_goes_on_where_it_was() {
    let folder = Folder::new();
    let line = ["-p", "Once upon a time", "-n", "200", "--temp", "0", "-t", "2"];
    let want = folder.bise(line).ok().stdout;
    for poll in ["0", "50"] {
        let mut child = folder.command(line.iter().chain(&["--poll", poll])).spawn().unwrap();
        let pid = child.id() as libc::pid_t;
        let mut n_stops = 0;
        while child.try_wait().unwrap().is_none() {
            for signal in [libc::SIGSTOP, libc::SIGCONT] {
                // SAFETY: a child that was not waited for.
                unsafe { libc::kill(pid, signal) };
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
            n_stops += 1;
            assert!(n_stops < 10_000, "the program hangs");
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && n_stops > 3, "{output:?}");
        assert!(output.stdout == want, "poll {poll}");
    }
}
