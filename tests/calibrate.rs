//! `bise quantize --calibrate`: outputs over another text come nearer to the original's than with an importance matrix, the bytes do not depend
//! on threads or interruptions, and what cannot be done is refused before hours are spent. `golden/stories.txt` is calibrated with, and
//! `golden/other_stories.txt` measured: stories that the built-in model was not trained on.

#![cfg(all(feature = "cli", feature = "quantize", feature = "builtin-model"))]

mod cli_support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bise::gguf::GgufFile;
use bise::quantize::{CalibrateOptions, Calibration, FileType, Plan, QuantizeError, QuantizeOptions};
use bise::tokenizer::{EncodeOptions, Tokenizer};
use bise::{Cancel, Engine, Feed, Hook, Output, Projection, Rows, RowsMut, SessionOptions, Site, Threads};
use bise_kernels::linalg::{Gram, Workspace};
use bise_kernels::{KernelTable, Team, dequantize_row};
use cli_support::Folder;

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny/bise-tiny.Q4_K_M.gguf");
const WITH: [&str; 4] = ["--calibrate", "stories.txt", "--ctx-size", "256"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A folder with the small model in halves, and the text to calibrate with.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.bise(["quantize", "--allow-requantize", TINY, "f16.gguf", "F16"]).ok();
    std::fs::copy(golden("stories.txt"), folder.path("stories.txt")).unwrap();
    folder
}

/// `XᵀX` of the inputs of each matrix.
#[derive(Default)]
struct Inputs(Mutex<BTreeMap<String, Gram>>);

impl Hook for Inputs {
    fn product(&self, site: Site, x: Rows<'_>, _: RowsMut<'_>) {
        if site.projection != Projection::Output {
            let team = Team::new(1).unwrap();
            let mut grams = self.0.lock().unwrap();
            let gram =
                grams.entry(format!("{site}.weight")).or_insert_with(|| Gram::try_new(x.width()).unwrap());
            gram.add(&team, KernelTable::detect(), &Workspace::new(&team), x.data());
        }
    }
}

/// The inputs of the matrices of `model` over the text that it was not calibrated with.
fn inputs(model: &Path) -> BTreeMap<String, Gram> {
    let engine = Engine::open(model).unwrap();
    let text = std::fs::read_to_string(golden("other_stories.txt")).unwrap();
    let tokens = engine.tokenizer().encode(&text, EncodeOptions { add_special: true, parse_special: false });
    let (hook, mut runner) = (Arc::new(Inputs::default()), engine.runner());
    runner.set_hook(Some(hook.clone()));
    for tokens in tokens.chunks(256) {
        let mut sequence = engine.sequence(&SessionOptions::default());
        let feed = Feed { sequence: &mut sequence, tokens, output: Output::Hidden };
        runner.forward(&mut [feed], Cancel::new().flag()).unwrap();
    }
    runner.set_hook(None);
    std::mem::take(&mut *hook.0.lock().unwrap())
}

fn weights(file: &GgufFile, name: &str) -> Vec<f32> {
    let info = file.require_tensor(name).unwrap();
    let mut x = vec![0.0; info.n_elements()];
    dequantize_row(info.tensor_type.format().unwrap(), &file.bytes(info), &mut x);
    x
}

/// The squared error of each matrix's output, in the order of their names.
fn output_errors(original: &Path, quantized: &Path, inputs: &BTreeMap<String, Gram>) -> Vec<f64> {
    let (original, quantized) = (GgufFile::open(original).unwrap(), GgufFile::open(quantized).unwrap());
    let error = |(name, gram): (&String, &Gram)| {
        let difference: Vec<f32> =
            weights(&original, name).iter().zip(weights(&quantized, name)).map(|(a, b)| a - b).collect();
        gram.squared_error(KernelTable::detect(), &difference)
    };
    inputs.iter().map(error).collect()
}

#[test]
fn outputs_over_another_text_are_nearer_than_with_an_importance_matrix() {
    let folder = folder();
    folder
        .bise(["imatrix", "-m", "f16.gguf", "-f", "stories.txt", "-o", "i.gguf", "-c", "256", "--no-ppl"])
        .ok();
    folder.bise(["quantize", "--imatrix", "i.gguf", "--pure", "f16.gguf", "weighted.gguf", "Q3_K_S"]).ok();
    let ran = folder
        .bise([&["quantize"], &WITH[..], &["--pure", "f16.gguf", "calibrated.gguf", "Q3_K_S"]].concat())
        .ok();
    assert!(ran.stderr.contains("tokens of stories.txt"), "{}", ran.stderr);
    // Nothing is left behind.
    assert_eq!(folder.names(), ["calibrated.gguf", "f16.gguf", "i.gguf", "stories.txt", "weighted.gguf"]);
    let [f16, weighted, calibrated] =
        ["f16.gguf", "weighted.gguf", "calibrated.gguf"].map(|name| folder.path(name));
    let types = |path| {
        let file = GgufFile::open(path).unwrap();
        file.tensors().map(|t| (t.name.clone(), t.tensor_type)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(types(&weighted), types(&calibrated));
    let inputs = inputs(&f16);
    assert_eq!(inputs.len(), 8 * 7);
    let (weighted, calibrated) =
        (output_errors(&f16, &weighted, &inputs), output_errors(&f16, &calibrated, &inputs));
    let logs: Vec<f64> = calibrated.iter().zip(&weighted).map(|(c, w)| (c / w).ln()).collect();
    let mean = (logs.iter().sum::<f64>() / logs.len() as f64).exp();
    assert!(mean <= 0.85, "{mean} of the error with an importance matrix");
    assert!(logs.iter().all(|log| *log < 0.0), "each of the outputs: {logs:?}");
}

#[test]
fn the_bytes_do_not_depend_on_threads_nor_on_interruptions() {
    let folder = folder();
    let quantize = |out: &str, threads: &str| {
        folder
            .bise([&["quantize"], &WITH[..], &["--chunks", "9", "f16.gguf", out, "Q3_K_M", threads]].concat())
            .ok();
        std::fs::read(folder.path(out)).unwrap()
    };
    let whole = quantize("one.gguf", "1");
    assert!(whole == quantize("three.gguf", "3"));
    // Interrupted twice, once in the middle of a layer's work.
    let file = GgufFile::open(folder.path("f16.gguf")).unwrap();
    let mut options = QuantizeOptions::new(FileType::Q3_K_M);
    options.is_calibrated = true;
    let mut plan = Plan::new(&file, &options).unwrap();
    let tokenizer = Tokenizer::from_metadata(file.metadata()).unwrap();
    let text = std::fs::read_to_string(folder.path("stories.txt")).unwrap();
    let tokens = tokenizer.encode(text.trim_end(), EncodeOptions { add_special: true, parse_special: false });
    let tokens = &tokens[..9 * 256];
    let mut options = CalibrateOptions::default();
    options.n_ctx = 256;
    let threads = Threads::new(2).unwrap();
    let calibrated = {
        let calibration = Calibration::new(&file, &plan, tokens, tokenizer.bos(), options, &threads).unwrap();
        for stop in [2, 5] {
            let cancel = Cancel::new();
            let mut begun = Vec::new();
            let stopped = calibration.run(&folder.path("work"), &cancel, &mut |progress| {
                if begun.last() != Some(&progress.layers) {
                    begun.push(progress.layers);
                }
                if progress.layers == stop {
                    cancel.cancel();
                }
            });
            assert!(matches!(stopped, Err(QuantizeError::Cancelled)));
            assert_eq!(begun, Vec::from_iter(if stop == 2 { 0..3 } else { 2..6 }));
        }
        calibration
            .run(&folder.path("work"), &Cancel::new(), &mut |progress| {
                assert!(progress.layers >= 5 && progress.part <= 1.0)
            })
            .unwrap()
    };
    calibrated.put_into(&mut plan);
    let out = folder.path("resumed.gguf");
    plan.write(&calibrated, &out, &threads, &Cancel::new(), false, &mut |_| {}).unwrap();
    calibrated.remove().unwrap();
    assert!(std::fs::read(out).unwrap() == whole);
    assert!(!folder.path("work").exists());

    // Killed when the first layer is done.
    let args =
        [&["quantize"], &WITH[..], &["--chunks", "9", "f16.gguf", "killed.gguf", "Q3_K_M", "1"]].concat();
    let mut child = folder.command(&args).spawn().unwrap();
    let start = std::time::Instant::now();
    while !folder.path("killed.gguf.calibration/hidden-states").exists() {
        assert!(start.elapsed().as_secs() < 300, "no layer is done");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(!folder.path("killed.gguf").exists());
    let ran = folder.bise(&args).ok();
    assert!(ran.stderr.contains(" of 9 layers are done: about "), "{}", ran.stderr);
    assert!(std::fs::read(folder.path("killed.gguf")).unwrap() == whole);
    assert!(!folder.path("killed.gguf.calibration").exists());
}

/// The error of calibrating `model` in `work`, stopped when `stop` layers are done.
fn calibrate(model: &Path, text: &str, work: &Path, stop: usize) -> Result<(), QuantizeError> {
    let file = GgufFile::open(model).unwrap();
    let mut options = QuantizeOptions::new(FileType::Q3_K_M);
    options.is_calibrated = true;
    let plan = Plan::new(&file, &options).unwrap();
    let tokenizer = Tokenizer::from_metadata(file.metadata()).unwrap();
    let tokens = tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: false });
    let mut options = CalibrateOptions::default();
    options.n_ctx = 256;
    let (threads, cancel) = (Threads::new(2).unwrap(), Cancel::new());
    let calibration =
        Calibration::new(&file, &plan, &tokens[..2048], tokenizer.bos(), options, &threads).unwrap();
    let ran = calibration.run(work, &cancel, &mut |progress| {
        if progress.layers == stop {
            cancel.cancel();
        }
    });
    ran?.remove()
}

#[test]
fn a_folder_is_of_one_run_and_what_was_changed_in_it_is_refused() {
    let folder = folder();
    let (work, model) = (folder.path("work"), folder.path("f16.gguf"));
    // The user's own, whose names look like those of tensors.
    std::fs::create_dir_all(work.join("blk.notes")).unwrap();
    folder.write("work/blk.gguf", "a model");
    folder.write("work/output.weight.txt", "notes");
    let text = std::fs::read_to_string(golden("stories.txt")).unwrap();
    let stop = |n| calibrate(&model, &text, &work, n);
    assert!(matches!(stop(0), Err(QuantizeError::Cancelled)));

    // From the first moment on.
    let other_text = std::fs::read_to_string(golden("other_stories.txt")).unwrap();
    let other = calibrate(&model, &other_text, &work, 99);
    assert!(matches!(other, Err(QuantizeError::OtherCalibration { .. })), "{other:?}");
    let key = "llama.rope.freq_base=float:20000";
    folder.bise(["quantize", "--override-kv", key, "f16.gguf", "base.gguf", "COPY"]).ok();
    let other = calibrate(&folder.path("base.gguf"), &text, &work, 99);
    assert!(matches!(other, Err(QuantizeError::OtherCalibration { .. })), "{other:?}");

    assert!(matches!(stop(2), Err(QuantizeError::Cancelled)));
    let lock = std::fs::File::options().write(true).open(work.join("lock")).unwrap();
    lock.lock().unwrap();
    let busy = stop(99).unwrap_err().to_string();
    assert!(busy.contains("work: found that another bise works in this folder"), "{busy}");
    drop(lock);

    let changed = |name: &str, change: &dyn Fn(&mut Vec<u8>), expected: &str| {
        let path = work.join(name);
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let error = stop(99).unwrap_err().to_string();
        assert!(error.contains(&format!("{name}: found {expected}")), "{error}");
        assert!(error.contains("remove the folder") && error.ends_with("to begin again"), "{error}");
        std::fs::write(&path, whole).unwrap();
    };
    let hidden = "hidden-states";
    changed(
        hidden,
        &|bytes| bytes[24..32].copy_from_slice(&1000_u64.to_le_bytes()),
        "1000 layers, expected at most 9",
    );
    changed(hidden, &|bytes| bytes[32..40].fill(255), "");
    changed(hidden, &|bytes| bytes.truncate(30), "a file that was cut off");
    changed(hidden, &|bytes| bytes.truncate(bytes.len() - 1), "");
    changed(hidden, &|bytes| bytes.push(0), "");
    changed(hidden, &|bytes| bytes[4096..4100].copy_from_slice(&f32::NAN.to_le_bytes()), "damaged bytes");
    let matrix = "blk.1.ffn_down.weight.0";
    changed(matrix, &|bytes| bytes[777] ^= 1, "damaged bytes");
    changed(matrix, &|bytes| bytes.push(0), "");
    changed(matrix, &|bytes| bytes.clear(), "0 bytes");

    stop(99).unwrap();
    let mut left: Vec<_> =
        std::fs::read_dir(&work).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["blk.gguf", "blk.notes", "output.weight.txt"]);
}

#[test]
fn what_cannot_be_done_is_refused_at_once() {
    let folder = folder();
    let error = |args: &[&str]| {
        let ran = folder.bise([&["quantize"], args].concat());
        ran.error().to_owned()
    };
    folder.write("short.txt", "Once upon a time.");
    let short = error(&["--calibrate", "short.txt", "f16.gguf", "out.gguf", "Q4_K_M"]);
    assert!(short.contains("found 6 tokens, expected at least 2048"), "{short}");
    folder.write("there.gguf", "");
    let there = error(&["--calibrate", "stories.txt", "f16.gguf", "there.gguf", "Q4_K_M"]);
    assert!(there.contains("there.gguf: found a file, expected none"), "{there}");
    let pure = folder.bise(["quantize", "f16.gguf", "out.gguf", "q4_k_c"]);
    assert!(pure.misuse().contains("Q4_K_C is calibrated: expected a text"), "{}", pure.misuse());
    // A folder of another run is not mixed with this one.
    std::fs::create_dir(folder.path("work")).unwrap();
    folder.write("work/hidden-states", [0; 64]);
    let other =
        error(&["--calibrate", "stories.txt", "--calibration-dir", "work", "f16.gguf", "out.gguf", "Q4_K_M"]);
    assert!(other.contains("work: found what was done with another model, text or type"), "{other}");
    let inside = error(&[
        "--calibrate",
        "stories.txt",
        "--calibration-dir",
        "work",
        "f16.gguf",
        "work/o.gguf",
        "Q4_K_M",
    ]);
    assert!(inside.contains("work/o.gguf: found a file in the folder of --calibration-dir"), "{inside}");
    let file = error(&[
        "--calibrate",
        "stories.txt",
        "--calibration-dir",
        "short.txt",
        "f16.gguf",
        "o.gguf",
        "Q4_K_M",
    ]);
    assert!(file.contains("short.txt: found a file, expected a folder"), "{file}");
    for same in ["F16", "COPY"] {
        let nothing = error(&["--calibrate", "stories.txt", "f16.gguf", "out.gguf", same]);
        assert!(nothing.contains("--calibrate: found no matrix that gets another type"), "{nothing}");
    }
    assert_eq!(folder.names(), ["f16.gguf", "short.txt", "stories.txt", "there.gguf", "work"]);
}

#[test]
fn a_dry_run_says_how_long_it_would_take_and_q4_k_c_is_q4_k_alone() {
    let folder = folder();
    let args = [&["quantize", "--dry-run"], &WITH[..], &["f16.gguf", "Q4_K_C"]].concat();
    let ran = folder.bise(&args).ok();
    let said = ran.text();
    let last = said.lines().next_back().unwrap();
    let tokens = last
        .strip_prefix("calibrating with ")
        .and_then(|rest| rest.split_once(" tokens of stories.txt: about "));
    let (tokens, rest) = tokens.unwrap_or_else(|| panic!("{last}"));
    assert!(tokens.parse::<usize>().unwrap() >= 2048 && rest.contains(" of memory, "), "{last}");
    assert!(said.lines().filter(|line| line.contains("_norm")).count() > 0);
    let types = said.lines().filter(|line| line.contains("blk.") && !line.contains("_norm"));
    assert!(types.clone().count() == 8 * 7 && types.clone().all(|line| line.contains("→ Q4_K")), "{said}");
    assert_eq!(folder.names(), ["f16.gguf", "stories.txt"]);
}

#[test]
fn experts_are_calibrated_with_the_tokens_that_visit_them() {
    let folder = Folder::new();
    std::fs::copy(golden("stories.txt"), folder.path("stories.txt")).unwrap();
    // As stacks, and a tensor for each expert.
    for model in ["mixtral_stacked.gguf", "mixtral_split.gguf"] {
        experts_are_calibrated(&folder, model);
    }
}

fn experts_are_calibrated(folder: &Folder, model: &str) {
    let model = format!("{}/models/tests/oracles/{model}", env!("CARGO_MANIFEST_DIR"));
    let ran = folder
        .bise(
            [
                &["quantize", "--force", "--allow-requantize"],
                &WITH[..],
                &["--chunks", "12", &model, "out.gguf", "Q4_0"],
            ]
            .concat(),
        )
        .ok();
    let file = GgufFile::open(folder.path("out.gguf")).unwrap();
    let stacks = file.tensors().filter(|t| t.name.contains("_exps.")).count();
    assert!(stacks >= 6, "{}", ran.stderr);
    let text = folder.bise(["logits", "-m", "out.gguf", "--tokens", "1,5,9", "-o", "out.npy"]);
    text.ok();
}
