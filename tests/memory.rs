//! The memory that is foretold and printed is the memory that is taken, and where there is none, a run ends with one line.

#![cfg(all(feature = "cli", feature = "builtin-model", target_os = "linux"))]

mod cli_support;
#[path = "cli_support/zeros.rs"]
mod zeros;

use std::path::Path;

use bise::gguf::TensorType;
use bise::tokenizer::EncodeOptions;
use cli_support::Folder;
use zeros::{PLAIN, Shape};

/// The number before ` MB` or ` GB` that follows `before`, in megabytes.
fn megabytes(stderr: &str, before: &str) -> f64 {
    let line =
        stderr.lines().find(|line| line.contains(before)).unwrap_or_else(|| panic!("{before}: {stderr}"));
    let rest = line[line.find(before).unwrap() + before.len()..].trim_start_matches([' ', '=']);
    let mut words = rest.split([' ', ',']);
    let number: f64 = words.next().unwrap().parse().unwrap_or_else(|_| panic!("{line}"));
    match words.next().unwrap() {
        "MB" => number,
        "GB" => 1e3 * number,
        other => panic!("{other}: {line}"),
    }
}

/// A text of about `n` tokens, of which few are the same: each looks its own row of the embedding up.
fn text(n: usize) -> String {
    let engine = bise::Engine::builtin().unwrap();
    let tokenizer = engine.tokenizer();
    let plain = EncodeOptions { add_special: false, parse_special: false };
    let is_word =
        |word: &String| word.starts_with(' ') && word.bytes().skip(1).all(|b| b.is_ascii_lowercase());
    let words: Vec<String> = (0..tokenizer.n_vocab() as u32)
        .map(|id| String::from_utf8_lossy(tokenizer.piece(id)).into_owned())
        .filter(is_word)
        .collect();
    let text =
        |n_words: usize| -> String { (0..n_words).map(|i| words[i * 7919 % words.len()].as_str()).collect() };
    let all: Vec<usize> = (0..=n).collect();
    let n_words = all.partition_point(|&n_words| tokenizer.encode(&text(n_words), plain).len() <= n);
    text(n_words.saturating_sub(1))
}

/// Runs a prompt of about `n` tokens, and returns what was foretold for a short text and a full context, and the peak.
fn run(folder: &Folder, model: &Path, n: usize, flags: &[&str]) -> [f64; 3] {
    folder.write("prompt.txt", text(n));
    let model = model.to_str().unwrap();
    let flags =
        [&["-m", model, "-f", "prompt.txt", "-no-cnv", "--temp", "0", "-n", "8", "-t", "2"], flags].concat();
    let ran = folder.bise(flags).ok();
    let full = megabytes(&ran.stderr, " now, ");
    [megabytes(&ran.stderr, "memory: "), full, megabytes(&ran.stderr, "peak memory")]
}

#[test]
fn what_is_foretold_is_what_is_taken() {
    let wide = Shape { n_kv_heads: 4, ..PLAIN };
    let cases: [(&str, Shape, usize, &[&str]); 12] = [
        ("plain", PLAIN, 512, &[]),
        ("four layers more", Shape { n_layers: 8, ..PLAIN }, 512, &[]),
        ("f32 weights", Shape { tensor_type: TensorType::F32, ..PLAIN }, 512, &[]),
        ("tied, 8 bits", Shape { tensor_type: TensorType::Q8_0, tied: true, ..PLAIN }, 1024, &[]),
        ("4 bits", Shape { tensor_type: TensorType::Q4_K, ..PLAIN }, 1024, &["-ctk", "f32", "-ctv", "f32"]),
        ("f32 cache", wide, 2048, &["-ctk", "f32", "-ctv", "f32"]),
        ("q8_0 cache", wide, 2048, &["-ctk", "q8_0", "-ctv", "q8_0"]),
        ("q4_0 values", wide, 2048, &["-ctv", "q4_0"]),
        ("small passes", wide, 1024, &["-ub", "32"]),
        ("window", Shape { window: 256, ..wide }, 2048, &["-ctk", "f32", "-ctv", "f32"]),
        ("window longer than the context", Shape { window: 1 << 20, ..wide }, 512, &[]),
        ("experts, read into memory", Shape { n_experts: 4, ..PLAIN }, 512, &["--no-mmap"]),
    ];
    let folder = Folder::new();
    let mut wrong = Vec::new();
    for (name, shape, n_ctx, flags) in cases {
        let model = shape.write(&folder);
        let length = n_ctx.to_string();
        let flags = [&["-c", &length], flags].concat();
        let [now, _, short] = run(&folder, &model, 8, &flags);
        let [_, full, long] = run(&folder, &model, n_ctx - 40, &flags);
        println!("{name}: {now:.1} MB foretold, {short:.1} taken; {full:.1} when full, {long:.1} taken");
        for (foretold, taken, is_full) in [(now, short, false), (full, long, true)] {
            // A full context takes at most what is foretold.
            if (is_full && taken > foretold) || (foretold - taken).abs() > (0.05 * taken).max(3.0) {
                wrong.push(format!("{name}: {foretold:.1} MB foretold, {taken:.1} taken"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_peak_is_this_programs_and_not_that_of_whoever_started_it() {
    // Touched, and in this process until the program has been started.
    let large = vec![1u8; 300 << 20];
    let folder = Folder::new();
    let model = folder.model();
    let [_, _, peak] = run(&folder, &model, 8, &[]);
    assert_eq!(large.iter().step_by(4096).map(|x| usize::from(*x)).sum::<usize>(), large.len() / 4096);
    assert!(peak < 100.0, "{peak} MB");

    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    let ours = bise::memory::peak_bytes().unwrap();
    assert!(ours >= kilobytes * 1024 && ours <= kilobytes * 1024 + (8 << 20), "{ours} {kilobytes}");
}

/// Runs the program in an address space of so many megabytes.
fn limited(folder: &Folder, megabytes: u64, flags: &[&str]) -> cli_support::Ran {
    use std::os::unix::process::CommandExt;
    let mut command = folder.command(flags);
    let limit = libc::rlimit { rlim_cur: megabytes << 20, rlim_max: megabytes << 20 };
    // SAFETY: between fork and exec only `setrlimit` is called, which is async-signal-safe, with a limit that lives in the closure.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_AS, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    folder.finish(&mut command, b"")
}

#[test]
fn without_memory_a_run_ends_with_one_line() {
    let folder = Folder::new();
    let shape = Shape { n_embd: 2048, n_heads: 8, n_kv_heads: 8, n_layers: 2, n_ff: 2048, ..PLAIN };
    let model = Shape { tensor_type: TensorType::Q4_K, ..shape }.write(&folder);
    let model = model.to_str().unwrap();
    folder.write("prompt.txt", text(4000));
    let run = |megabytes, flags: &[&str]| {
        let always = ["-m", model, "-f", "prompt.txt", "-no-cnv", "-n", "4", "-t", "2", "--temp", "0"];
        limited(&folder, megabytes, &[&always, flags].concat())
    };
    // 4,000 tokens take 131 MB of keys and values in the one, and 200 MB of buffers in the other.
    let many_pages = ["-c", "8000", "-ctk", "f32", "-ctv", "f32", "-ub", "64"];
    let large_pass = ["-c", "8000", "-ub", "4000"];
    run(4000, &many_pages).ok();
    let (mut n_pages, mut n_buffers) = (0, 0);
    for megabytes in (60..=400).step_by(20) {
        for flags in [&many_pages[..], &large_pass] {
            let ran = run(megabytes, flags);
            if ran.code == 0 {
                continue;
            }
            let error = ran.error();
            n_pages += usize::from(error.contains("keys and values"));
            n_buffers += usize::from(error.contains("the buffers of a pass"));
        }
    }
    assert!(n_pages > 0 && n_buffers > 0, "{n_pages} {n_buffers}");
}

#[test]
fn a_context_of_two_thousand_million_tokens_takes_what_is_read_of_it() {
    let folder = Folder::new();
    let model = folder.model();
    let flags = ["-c", "2147483647", "--sliding-window", "0"];
    let [_, _, peak] = run(&folder, &model, 8, &flags);
    assert!(peak < 100.0, "{peak} MB");
}

/// What the message proposes, as flags, without what is no flag.
fn proposals(error: &str) -> Vec<Vec<String>> {
    let (_, list) = error.split_once("; what would fit: ").unwrap_or_else(|| panic!("{error}"));
    list.split("), ")
        .filter(|proposal| proposal.starts_with('-'))
        .map(|proposal| proposal.split(" (").next().unwrap().split(' ').map(str::to_owned).collect())
        .collect()
}

#[test]
fn what_does_not_fit_is_refused_and_what_is_proposed_fits() {
    let folder = Folder::new();
    // 8 kB a token, and 25 MB of weights.
    let shape = Shape { n_kv_heads: 4, n_embd: 512, ..PLAIN };
    let model = shape.write(&folder);
    folder.write("prompt.txt", text(40));
    let always =
        ["-m", model.to_str().unwrap(), "-f", "prompt.txt", "-no-cnv", "--temp", "0", "-n", "4", "-t", "2"];
    let run = |flags: &[&str]| folder.bise([&always, flags].concat());
    let context = ["-c", "8192", "-ctk", "f32", "-ctv", "f32"];
    let full = megabytes(&run(&context).ok().stderr, " now, ");

    let limit = format!("{:.0}", (full - 60.0) * 1e6);
    let tight = [&context[..], &["--max-memory", &limit]].concat();
    let refused = run(&tight);
    let error = refused.error();
    for part in
        ["mapped (weights)", "anonymous (keys and values 134.", "for 8192 tokens", "buffers", "tokenizer"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(refused.stdout.is_empty());
    let proposals = proposals(error);
    for flag in ["-c", "--sliding-window", "-ctk"] {
        assert!(proposals.iter().any(|proposal| proposal[0] == flag), "{flag}: {error}");
    }
    for proposal in &proposals {
        let flags: Vec<&str> = proposal.iter().map(String::as_str).collect();
        let ran = run(&[&tight[..], &flags].concat()).ok();
        let peak = megabytes(&ran.stderr, "peak memory");
        assert!(peak <= full - 60.0, "{proposal:?}: {peak} MB");
        assert!(ran.stderr.contains("; --max-memory "), "{}", ran.stderr);
    }
    // What fits is filled to the last token: the ceiling is not in the way.
    let mut shorter: Vec<&str> = tight.clone();
    let n_ctx = proposals.iter().find(|proposal| proposal[0] == "-c").unwrap()[1].clone();
    folder.write("prompt.txt", text(n_ctx.parse::<usize>().unwrap() - 40));
    shorter.extend(["-c", &n_ctx]);
    let peak = megabytes(&run(&shorter).ok().stderr, "peak memory");
    assert!(peak <= full - 60.0 && peak > full - 75.0, "{peak} of {} MB", full - 60.0);

    // Read into memory, the weights are anonymous; they are not read first.
    let refused = run(&[&tight[..], &["--no-mmap"]].concat());
    assert!(refused.error().contains("all of it anonymous (weights "), "{}", refused.stderr);
    // A variable says the same; nothing helps against too little.
    let mut command = folder.command([&always[..], &context].concat());
    let refused = folder.finish(command.env("BISE_MAX_MEMORY", "1M"), b"");
    assert!(refused.error().contains("no other context, cache type or quantization"), "{}", refused.stderr);
    folder.write("prompt.txt", text(40));
    let ran = run(&["-c", "512", "--max-memory", "auto"]);
    assert!(ran.ok().stderr.contains("; --max-memory auto"));
}

#[test]
fn a_ceiling_that_is_none_is_misuse() {
    let folder = Folder::new();
    for (given, reason) in
        [("0", "no model runs in 0 bytes"), ("0G", "no model runs"), ("much", "expected a size as in 5G")]
    {
        let ran = folder.bise(["-p", "Once", "--max-memory", given]);
        assert!(ran.code == 2 && ran.stderr.contains(reason), "{given}: {}", ran.stderr);
    }
    let model = folder.model();
    for flags in [&["--no-mmap"][..], &["--mlock"], &["-lm", "mlock"], &["-lm", "none"]] {
        let line = [&["-m", model.to_str().unwrap(), "-p", "Once", "--stream-weights"], flags].concat();
        assert!(folder.bise(line).misuse().contains("--stream-weights cannot be used with"), "{flags:?}");
    }
}
