//! `bise imatrix`: the sums of llama-imatrix, files that either program reads, and going on where a run ended. `golden/imatrix.py` asked
//! llama-imatrix.

#![cfg(all(feature = "cli", feature = "quantize", feature = "builtin-model"))]

mod cli_support;

use std::path::{Path, PathBuf};

use bise::gguf::{GgufFile, TensorType, Value};
use bise::imatrix::{Entry, Imatrix};
use cli_support::Folder;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A folder with the text, and the sums over it.
fn folder() -> Folder {
    let folder = Folder::new();
    std::fs::copy(golden("imatrix.txt"), folder.path("imatrix.txt")).unwrap();
    folder
}

fn imatrix(folder: &Folder, out: &str, flags: &[&str]) -> Imatrix {
    let args = ["imatrix", "-f", "imatrix.txt", "-o", out, "-c", "64"];
    folder.bise(args.iter().chain(flags)).ok();
    Imatrix::open(&folder.path(out)).unwrap()
}

/// The difference of two sums, as a part of the larger ones.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| a - b));
    difference / norm(&mut b.iter().copied()).max(1e-30)
}

#[test]
fn sums_are_those_of_llama_imatrix() {
    // In halves: rounded activations would differ by more than the programs do.
    let folder = folder();
    let tiny = folder.model();
    folder.bise(["quantize", "--allow-requantize", tiny.to_str().unwrap(), "f16.gguf", "F16"]).ok();
    let ours = imatrix(&folder, "out.gguf", &["-m", "f16.gguf", "--process-output", "--no-ppl"]);
    let theirs = Imatrix::open(&golden("imatrix.gguf")).unwrap();
    assert_eq!((ours.n_chunks, ours.chunk_len, &ours.datasets), (theirs.n_chunks, 64, &theirs.datasets));
    assert!(theirs.entries.len() >= 14, "{}", theirs.entries.len());
    for (name, theirs) in &theirs.entries {
        let ours = &ours.entries[name];
        assert_eq!(ours.counts, theirs.counts, "{name}");
        let off = distance(&ours.sum_squares, &theirs.sum_squares);
        assert!(off < 1e-3, "{name}: {off:e}");
    }
}

#[test]
fn each_expert_has_the_sums_and_counts_of_llama_imatrix() {
    let folder = folder();
    let theirs = Imatrix::open(&golden("imatrix_experts.gguf")).unwrap();
    for model in ["mixtral_stacked", "mixtral_split"] {
        let path = format!("{}/models/tests/oracles/{model}.gguf", env!("CARGO_MANIFEST_DIR"));
        let flags = ["-m", &path, "--process-output", "--no-ppl", "--chunks", "5"];
        let ours = imatrix(&folder, &format!("{model}.gguf"), &flags);
        assert!(ours.entries.keys().eq(theirs.entries.keys()));
        for (name, theirs) in &theirs.entries {
            let ours = &ours.entries[name];
            assert_eq!(ours.counts, theirs.counts, "{name}");
            assert_eq!(ours.counts.len(), if name.contains("_exps") { 4 } else { 1 }, "{name}");
            let k = ours.sum_squares.len() / ours.counts.len();
            for (ours, theirs) in ours.sum_squares.chunks(k).zip(theirs.sum_squares.chunks(k)) {
                let off = distance(ours, theirs);
                assert!(off < 1e-4, "{name}: {off:e}");
            }
        }
    }
}

#[test]
fn a_text_read_in_two_runs_gives_what_one_run_gives() {
    let folder = folder();
    let whole = imatrix(&folder, "whole.gguf", &["--chunks", "5"]);
    let half = imatrix(&folder, "half.gguf", &["--chunks", "2"]);
    assert_eq!((half.n_chunks, whole.n_chunks), (2, 5));
    let rest =
        imatrix(&folder, "rest.gguf", &["--in-file", "half.gguf", "--from-chunk", "2", "--chunks", "3"]);
    assert_eq!(rest.n_chunks, 5);
    for (name, whole) in &whole.entries {
        let rest = &rest.entries[name];
        assert_eq!(rest.counts, whole.counts, "{name}");
        assert!(distance(&rest.sum_squares, &whole.sum_squares) < 1e-6, "{name}");
        assert!(distance(&rest.sums, &whole.sums) < 1e-4, "{name}");
    }
    // Adding up needs no model and no text.
    let added = ["imatrix", "--in-file", "half.gguf,half.gguf", "-o", "added.gguf", "-c", "64"];
    folder.bise(added).ok();
    let added = Imatrix::open(&folder.path("added.gguf")).unwrap();
    assert_eq!(added.n_chunks, 4);
    assert_eq!(added.entries["blk.0.attn_q.weight"].counts, [256]);
}

#[test]
fn the_perplexity_is_that_of_bise_perplexity() {
    let folder = folder();
    let estimate = |command: &str| {
        let ran =
            folder.bise([command, "-f", "imatrix.txt", "-c", "64", "--chunks", "3", "--no-escape"]).ok();
        ran.text().lines().last().unwrap().to_owned()
    };
    let estimated = estimate("imatrix");
    assert!(estimated.starts_with("Final estimate: PPL = "));
    assert_eq!(estimated, estimate("perplexity"));
}

#[test]
fn the_older_format_is_written_and_read() {
    let folder = folder();
    let new = imatrix(&folder, "new.gguf", &["--no-ppl", "--chunks", "3"]);
    let old = imatrix(&folder, "old.dat", &["--no-ppl", "--chunks", "3", "--output-format", "dat"]);
    assert_eq!((old.n_chunks, old.datasets.as_slice()), (3, &["imatrix.txt".to_owned()][..]));
    for (name, new) in &new.entries {
        let to_f64 = |entry: &Entry| entry.mean_squares().into_iter().map(f64::from).collect::<Vec<_>>();
        assert!(distance(&to_f64(&old.entries[name]), &to_f64(new)) < 1e-6, "{name}");
    }
}

#[test]
fn files_are_written_while_the_text_is_read() {
    let folder = folder();
    imatrix(&folder, "out.gguf", &["--no-ppl", "--chunks", "5", "--save-frequency", "2", "-ofreq", "1"]);
    for (name, n_chunks) in [("out.gguf.at_2", 2), ("out.gguf.at_4", 4), ("out.gguf", 5)] {
        assert_eq!(Imatrix::open(&folder.path(name)).unwrap().n_chunks, n_chunks, "{name}");
    }
}

#[test]
fn it_makes_quantizing_better_where_it_matters() {
    let folder = folder();
    imatrix(&folder, "im.gguf", &["--no-ppl"]);
    let tiny = folder.model();
    let tiny = tiny.to_str().unwrap();
    folder.bise(["quantize", "--allow-requantize", tiny, "f16.gguf", "F16"]).ok();
    folder.bise(["quantize", "f16.gguf", "plain.gguf", "Q2_K"]).ok();
    let with = ["quantize", "--imatrix", "im.gguf", "f16.gguf", "with.gguf", "Q2_K"];
    folder.bise(with).ok();
    let columns = Imatrix::open(&folder.path("im.gguf")).unwrap();
    let open = |name: &str| GgufFile::open(folder.path(name)).unwrap();
    let mut compared = 0;
    let (source, plain, with) = (open("f16.gguf"), open("plain.gguf"), open("with.gguf"));
    let error = |file: &GgufFile, name: &str, cost: &[f32]| {
        let weights = |file: &GgufFile| {
            let tensor = file.require_tensor(name).unwrap();
            let mut x = vec![0.0; tensor.n_elements()];
            bise_kernels::dequantize_row(tensor.tensor_type.format().unwrap(), &file.bytes(tensor), &mut x);
            x
        };
        let pairs = weights(&source).into_iter().zip(weights(file)).enumerate();
        pairs.map(|(i, (a, b))| f64::from(cost[i % cost.len()]) * f64::from(a - b).powi(2)).sum::<f64>()
    };
    for (name, entry) in &columns.entries {
        // Where bits are few. The others hold the weights of the built-in model as they were.
        if !matches!(with.require_tensor(name).unwrap().tensor_type, TensorType::Q2_K | TensorType::Q3_K) {
            continue;
        }
        let cost = entry.mean_squares();
        let (plain, with) = (error(&plain, name, &cost), error(&with, name, &cost));
        assert!(with < plain, "{name}: {with:e}, without {plain:e}");
        compared += 1;
    }
    assert!(compared >= 16, "{compared}");
    let key = |key: &str| with.metadata().get(key).cloned();
    assert_eq!(key("quantize.imatrix.file"), Some(Value::from("im.gguf")));
    assert_eq!(key("quantize.imatrix.dataset"), Some(Value::from("imatrix.txt")));
    assert_eq!(key("quantize.imatrix.entries_count"), Some(Value::U32(columns.entries.len() as u32)));
    assert_eq!(key("quantize.imatrix.chunks_count"), Some(Value::U32(columns.n_chunks)));
    // Named tensors alone, and all but named ones.
    let entries = |flag: &str| {
        folder
            .bise([
                "quantize",
                "--force",
                "--imatrix",
                "im.gguf",
                flag,
                "ffn_down",
                "f16.gguf",
                "with.gguf",
                "Q2_K",
            ])
            .ok();
        open("with.gguf").metadata().get_as::<usize>("quantize.imatrix.entries_count").unwrap().unwrap()
    };
    let n_down = columns.entries.keys().filter(|name| name.contains("ffn_down")).count();
    assert_eq!(entries("--include-weights"), n_down);
    assert_eq!(entries("--exclude-weights"), columns.entries.len() - n_down);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_keeps_the_chunks_it_has_read() {
    use std::io::Read;

    let folder = folder();
    let text = std::fs::read_to_string(folder.path("imatrix.txt")).unwrap().repeat(40);
    std::fs::write(folder.path("imatrix.txt"), text).unwrap();
    let out = "out.gguf";
    let args = ["imatrix", "-f", "imatrix.txt", "-o", out, "-c", "64", "--output-frequency", "100000"];
    let mut child = folder.command(args).spawn().unwrap();
    // Three chunks are read, and the fourth is begun.
    let (mut stdout, mut seen, mut byte) = (child.stdout.take().unwrap(), Vec::new(), [0]);
    while !seen.ends_with(b"[3]") {
        assert_eq!(stdout.read(&mut byte).unwrap(), 1);
        seen.push(byte[0]);
    }
    assert!(!folder.path(out).exists());
    // SAFETY: `kill` only takes numbers, and the child is not waited for yet.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{stderr}");
    let interrupted = Imatrix::open(&folder.path(out)).unwrap();
    let n = interrupted.n_chunks;
    assert!(n >= 3, "{n}");
    let expected = format!("--in-file out.gguf --from-chunk {n} goes on");
    assert!(stderr.contains("interrupted: out.gguf has ") && stderr.contains(&expected), "{stderr}");
    // What a chunk had summed that was not read to its end does not count.
    let same = imatrix(&folder, "same.gguf", &["--chunks", &n.to_string()]);
    assert_eq!(interrupted.entries, same.entries);
    // The file that is gone on with may be the one that is written.
    imatrix(&folder, out, &["--in-file", out, "--from-chunk", &n.to_string(), "--chunks", "1"]);
    assert_eq!(Imatrix::open(&folder.path(out)).unwrap().n_chunks, n + 1);
}

#[test]
fn what_cannot_be_done_is_refused() {
    let folder = folder();
    std::fs::write(folder.path("short.txt"), "Once upon a time").unwrap();
    std::fs::write(folder.path("broken.dat"), [1, 0, 0, 0, 255, 255, 255, 127]).unwrap();
    std::fs::write(folder.path("copy.at_3"), "kept").unwrap();
    std::fs::write(folder.path("negative.dat"), [1, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0]).unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["-f", "short.txt"], "expected at least 1024: two contexts of 512"),
        (&["-f", "imatrix.txt", "-c", "64", "--from-chunk", "1000"], "behind the 1000 of --from-chunk"),
        (&["-f", "none.txt"], "none.txt"),
        (&["--in-file", "none.gguf"], "none.gguf: cannot read it"),
        (&["--in-file", "broken.dat"], "broken.dat: the importance matrix: found 1 entries in 8 bytes"),
        (&["--in-file", "negative.dat"], "negative.dat: entry 0: found -1"),
        (&["--in-file", "imatrix.txt"], "imatrix.txt: "),
        // Before the model is read.
        (
            &["-m", "none.gguf", "-f", "imatrix.txt", "-c", "64", "-o", "none/out.gguf"],
            "none/out.gguf: cannot create the file",
        ),
        (&["-f", "imatrix.txt", "-c", "64", "-o", "broken.dat"], "broken.dat: found a file, expected none"),
        (
            &["-f", "imatrix.txt", "-c", "64", "-o", "copy", "--save-frequency", "1"],
            "copy.at_3: found a file, expected none",
        ),
    ];
    for (args, expected) in cases {
        let ran = folder.bise(["imatrix"].iter().chain(*args));
        assert!(ran.error().contains(expected), "{args:?}: {}", ran.stderr);
    }
    let ran = folder.bise(["imatrix"]);
    assert!(ran.misuse().contains("there is no text"), "{}", ran.stderr);
    let ran = folder.bise(["imatrix", "-f", "imatrix.txt", "--show-statistics"]);
    assert!(ran.code == 2 && ran.stderr.contains("without statistics"), "{}", ran.stderr);
}
