//! `bise perplexity --kl-divergence`: the files and statistics of llama-perplexity. `golden/kl_divergence.py` made what it wrote.

#![cfg(all(feature = "cli", feature = "compare", feature = "builtin-model"))]

mod cli_support;

use std::path::Path;

use bise::compare::{BaseReader, CompareError};
use cli_support::{Folder, Ran};

const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/kl_divergence.base");
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/imatrix.txt");
const THEIRS: &str = include_str!("golden/kl_divergence.txt");
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tests/oracles/plain_f32.gguf");
const OTHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tests/oracles/rope_linear.gguf");

/// Bytes before the rows: the header and ten chunks of 24 tokens.
const HEAD: usize = 20 + 4 * 240;

fn write(folder: &Folder, name: &str, more: &[&str]) -> Ran {
    let args =
        ["perplexity", "-m", MODEL, "-f", TEXT, "-c", "24", "--no-escape", "--kl-divergence-base", name];
    folder.bise(args.iter().chain(more))
}

fn compare(folder: &Folder, base: &str, more: &[&str]) -> Ran {
    let args = ["perplexity", "-m", OTHER, "--kl-divergence", "--kl-divergence-base", base];
    folder.bise(args.iter().chain(more))
}

/// Of llama-perplexity; its contexts of 256 tokens are of 512 with a stride of 256.
const STRIDED: [f64; 6] = [1.0, 441.7932, 2.0, 431.3211, 3.0, 438.2407];
#[rustfmt::skip]
const LINES: [f64; 12] = [
    0.0, 379.8973, 5.939901, 0.066908,
    256.0, 397.7914, 5.985928, 0.051793,
    512.0, 395.7979, 5.980904, 0.043330,
];

/// The numbers of a line, and what else is in it.
fn parse(line: &str) -> (Vec<f64>, String) {
    let words = line.split_whitespace();
    let (mut numbers, mut rest) = (Vec::new(), String::new());
    for word in words {
        match word.trim_end_matches('%').parse() {
            // In the names of percentiles, too, where they must be equal.
            Ok(number) => numbers.push(number),
            Err(_) => rest += word,
        }
    }
    (numbers, rest)
}

fn assert_theirs(ours: &str) {
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let (ours, theirs) = (lines(ours), lines(THEIRS));
    assert_eq!(ours.len(), theirs.len(), "{ours:#?}");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let ((a, rest), (b, their_rest)) = (parse(ours), parse(theirs));
        assert_eq!((a.len(), &rest), (b.len(), &their_rest), "{ours}\n{theirs}");
        // The models compute in singles, in another order; what counts percents has three decimals.
        let least = if theirs.contains('%') && theirs.contains('Δ') { 1.1e-3 } else { 1e-4 };
        let close = |(a, b): (&f64, &f64)| (a - b).abs() < least + 2e-3 * b.abs();
        assert!(a.iter().zip(&b).all(close), "{ours}\n{theirs}");
    }
}

#[test]
fn statistics_are_those_of_llama_perplexity() {
    let folder = Folder::new();
    let ran = compare(&folder, BASE, &["-f", TEXT, "--no-escape"]).ok();
    assert_theirs(ran.text());
    // The text is in the file; the threads change nothing.
    assert_eq!(compare(&folder, BASE, &["-t", "1"]).ok().text(), ran.text());
}

#[test]
fn the_file_is_that_of_llama_perplexity() {
    let folder = Folder::new();
    let ran = write(&folder, "ours.base", &["--chunks", "10"]).ok();
    assert!(ran.text().contains("Final estimate: PPL = 414.3"), "{}", ran.text());
    let (ours, theirs) = (std::fs::read(folder.path("ours.base")).unwrap(), std::fs::read(BASE).unwrap());
    assert_eq!(ours.len(), theirs.len());
    assert_eq!(ours[..HEAD], theirs[..HEAD]);
    let row_bytes = 8 + 2 * 272;
    for (ours, theirs) in ours[HEAD..].chunks(row_bytes).zip(theirs[HEAD..].chunks(row_bytes)) {
        let log_probs = |row: &[u8]| -> Vec<f32> {
            let float = |at: usize| f32::from_le_bytes(row[at..at + 4].try_into().unwrap());
            let number = |n: &[u8; 2]| f32::from(u16::from_le_bytes(*n)) * float(0) + float(4);
            row[8..].as_chunks::<2>().0.iter().map(number).collect()
        };
        let (a, b) = (log_probs(ours), log_probs(theirs));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 3e-3), "{a:?}\n{b:?}");
    }
    assert_theirs(compare(&folder, "ours.base", &[]).ok().text());
}

#[test]
fn a_model_does_not_differ_from_itself() {
    let folder = Folder::new();
    write(&folder, "base", &[]).ok();
    let ran = folder.bise(["perplexity", "-m", MODEL, "--kl-divergence", "--save-all-logits", "base"]).ok();
    let text = ran.text();
    assert!(text.contains("Same top p: 100.000 ± 0.000 %"), "{text}");
    let of = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let kld: f64 = of("Maximum KLD").rsplit(' ').next().unwrap().parse().unwrap();
    assert!(kld.abs() < 1e-4, "{kld}");
    assert!(of("Mean ln(PPL(Q)/PPL(base))").contains("0.0000") && !text.contains("NaN"), "{text}");
}

#[test]
fn too_few_positions_have_no_statistics() {
    let folder = Folder::new();
    let ran = compare(&folder, BASE, &["--chunks", "2"]).ok();
    let theirs: Vec<_> = THEIRS.lines().take(3).map(parse).map(|(_, rest)| rest).collect();
    let ours: Vec<_> = ran.text().trim().lines().map(parse).map(|(_, rest)| rest).collect();
    assert_eq!(ours, theirs);
    assert!(ran.stderr.contains("22 positions"), "{}", ran.stderr);
}

#[test]
fn nothing_is_overwritten_and_nothing_half_is_left() {
    let folder = Folder::new();
    folder.write("base", "mine");
    assert!(write(&folder, "base", &[]).error().contains("--force"));
    assert_eq!(std::fs::read(folder.path("base")).unwrap(), b"mine");
    write(&folder, "base", &["--force", "--chunks", "2"]).ok();
    assert!(write(&folder, "none/base", &[]).error().contains("none/base: cannot create"));
    assert!(write(&folder, "/dev/full", &[]).error().contains("/dev/full: cannot write"));
    let names = std::fs::read_dir(folder.path("")).unwrap().map(|e| e.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["base"]);
}

#[test]
fn what_is_read_is_not_overwritten_even_with_force() {
    let folder = Folder::new();
    folder.write("m.gguf", std::fs::read(MODEL).unwrap());
    folder.write("t.txt", std::fs::read(TEXT).unwrap());
    for (name, original) in [("m.gguf", MODEL), ("t.txt", TEXT)] {
        let args = ["perplexity", "-m", "m.gguf", "-f", "t.txt", "-c", "24", "--no-escape", "--force"];
        let ran = folder.bise(args.iter().chain(&["--kl-divergence-base", name]));
        assert!(ran.error().contains(&format!("{name}: found a file that is read here")), "{}", ran.stderr);
        assert!(std::fs::read(folder.path(name)).unwrap() == std::fs::read(original).unwrap());
        let ran = folder.bise(["logits", "-m", "m.gguf", "-f", "t.txt", "-o", name]);
        assert!(ran.error().contains(&format!("{name}: found a file that is read here")), "{}", ran.stderr);
        assert!(std::fs::read(folder.path(name)).unwrap() == std::fs::read(original).unwrap());
    }
}

#[test]
fn a_base_that_is_none_is_an_error() {
    let folder = Folder::new();
    let good = std::fs::read(BASE).unwrap();
    // Reads all of it.
    let read = |path: &Path| -> Result<(), CompareError> {
        let mut base = BaseReader::open(path)?;
        let mut rows = Vec::new();
        for i in 0..base.layout().n_chunks {
            base.chunk(i)?;
            base.rows(base.layout().rows(), &mut rows)?;
        }
        Ok(())
    };
    read(Path::new(BASE)).unwrap();
    let refused = |bytes: &[u8], words: &[&str]| {
        let error = read(&folder.write("bad.base", bytes)).unwrap_err().to_string();
        assert!(error.contains("bad.base") && words.iter().all(|word| error.contains(word)), "{error}");
    };
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        bad
    };
    refused(b"", &["0 bytes"]);
    refused(&good[..19], &["19 bytes"]);
    refused(b"GGUF and something else, no base", &["'GGUF and'", "'_logits_'"]);
    refused(&good[..good.len() - 1], &["size", "61699 bytes", "61700"]);
    refused(&good[..HEAD / 2], &["size"]);
    refused(&[&good[..], &[0]].concat(), &["61701 bytes"]);
    for (at, what) in [(8, "tokens of a chunk"), (12, "tokens of the vocabulary"), (16, "chunks")] {
        for n in [0, -1, i32::MIN] {
            refused(&with(at, &n.to_le_bytes()), &[what, &n.to_string()]);
        }
        // Nothing is allocated for numbers that the size of the file does not bear out.
        refused(&with(at, &i32::MAX.to_le_bytes()), &["size"]);
    }
    let all: Vec<u8> = [i32::MAX; 3].iter().flat_map(|n| n.to_le_bytes()).collect();
    refused(&with(8, &all), &["size", "61700 bytes"]);
    refused(&with(20 + 4 * 30, &272_i32.to_le_bytes()), &["chunk 2, token 7", "272"]);
    refused(&with(20, &(-1_i32).to_le_bytes()), &["chunk 1, token 1", "-1"]);
    let row = HEAD + 2 * 552;
    refused(&with(row, &f32::NAN.to_le_bytes()), &["chunk 1, row 3", "NaN"]);
    refused(&with(row, &(-1e-4_f32).to_le_bytes()), &["chunk 1, row 3", "-0.0001"]);
    refused(&with(row + 4, &f32::INFINITY.to_le_bytes()), &["chunk 1, row 3", "inf"]);
    assert!(read(&folder.path("absent.base")).unwrap_err().to_string().contains("absent.base"));
    assert!(read(&folder.path("")).unwrap_err().to_string().contains("a directory"));
}

#[test]
fn a_base_of_another_model_is_an_error_of_one_line() {
    let folder = Folder::new();
    let good = std::fs::read(BASE).unwrap();
    for (row, byte) in [(2, 0xff), (11, 0)] {
        let mut bad = good.clone();
        bad[HEAD + row * 552 + 8..][..544].fill(byte);
        folder.write("bad.base", bad);
        let ran = compare(&folder, "bad.base", &[]);
        let place = format!("bad.base: chunk {}, row {}: ", row / 11 + 1, row % 11 + 1);
        assert!(ran.error().contains(&place) && ran.error().contains("add up to"), "{}", ran.stderr);
    }
    let args = ["perplexity", "--kl-divergence", "--kl-divergence-base", BASE];
    assert!(folder.bise(args).error().contains("vocabulary: found 272, expected 4096"));
}

#[test]
fn a_base_of_another_text_is_named() {
    let folder = Folder::new();
    let text = std::fs::read_to_string(TEXT).unwrap();
    folder.write("changed.txt", text.replacen("the", "teh", 1));
    folder.write("short.txt", &text[..100]);
    let other = |name: &str| compare(&folder, BASE, &["--no-escape", "-f", name]);
    assert!(other("changed.txt").error().contains("another text"), "{}", other("changed.txt").stderr);
    assert!(other("short.txt").error().contains("which has"), "{}", other("short.txt").stderr);
    assert!(compare(&folder, BASE, &["-c", "32"]).error().contains("chunks of 24 tokens, expected 32"));
}

#[test]
fn flags_that_do_not_go_together_are_misuse() {
    let folder = Folder::new();
    assert_eq!(folder.bise(["perplexity", "--kl-divergence"]).code, 2);
    assert_eq!(write(&folder, "base", &["--all-positions"]).code, 2);
    assert!(write(&folder, "base", &["--ppl-stride", "8"]).misuse().contains("--ppl-stride"));
    assert!(compare(&folder, BASE, &["--ppl-stride", "8"]).misuse().contains("--ppl-stride"));
    assert!(
        compare(&folder, BASE, &["--force"]).misuse().contains("--force: --kl-divergence writes no file")
    );
    let lines = compare(&folder, BASE, &["--ppl-output-type", "1"]);
    assert!(lines.misuse().contains("--ppl-output-type"), "{}", lines.stderr);
    let ran = compare(&folder, BASE, &["--no-escape", "--chunks", "1"]).ok();
    assert!(ran.stderr.contains("--no-escape has no effect without --file"), "{}", ran.stderr);
    assert!(!Path::exists(&folder.path("base")));
}

/// `llama-perplexity -m plain_f32.gguf -f imatrix.txt -c 256 -b 256 -t 1 --chunks 3` with `--ppl-stride 256` and `--ppl-output-type 1`.
#[test]
fn strides_and_lines_are_those_of_llama_perplexity() {
    let folder = Folder::new();
    let run = |more: &[&str]| {
        let args = ["perplexity", "-m", MODEL, "-f", TEXT, "--no-escape", "--chunks", "3"];
        folder.bise(args.iter().chain(more)).ok().text().to_owned()
    };
    let strided = run(&["-c", "512", "--ppl-stride", "256"]);
    let lines = run(&["-c", "256", "--ppl-output-type", "1"]);
    let numbers = |text: &str| -> Vec<f64> {
        let words = text.split(|c: char| c.is_whitespace() || "[],".contains(c));
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let close = |ours: &[f64], theirs: &[f64]| {
        assert!(ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-3 * b.abs().max(1.0)), "{ours:?}");
    };
    close(&numbers(&strided)[..6], &STRIDED);
    close(&numbers(&lines)[..12], &LINES);
    assert!(strided.contains("Final estimate: PPL = "));
    let args = ["perplexity", "-m", MODEL, "-f", TEXT, "-c", "24", "--ppl-stride", "24"];
    assert!(folder.bise(args).misuse().contains("at most 23"));
}
