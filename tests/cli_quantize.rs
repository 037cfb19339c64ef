//! `bise quantize`: the file that comes of it runs, its bytes do not depend on threads, and what cannot be done leaves nothing behind.

#![cfg(all(feature = "cli", feature = "quantize", feature = "builtin-model"))]

mod cli_support;

use std::path::Path;

use bise::gguf::{GgufFile, GgufWriter, TensorType, Value};
use cli_support::{Folder, Ran};

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny/bise-tiny.Q4_K_M.gguf");

/// A folder with the small model in halves, as `f16.gguf`.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.bise(["quantize", "--allow-requantize", TINY, "f16.gguf", "F16"]).ok();
    folder
}

fn types(path: &Path) -> Vec<(String, TensorType)> {
    GgufFile::open(path).unwrap().tensors().map(|t| (t.name.clone(), t.tensor_type)).collect()
}

fn type_of(path: &Path, name: &str) -> TensorType {
    GgufFile::open(path).unwrap().require_tensor(name).unwrap().tensor_type
}

fn key(path: &Path, key: &str) -> Option<Value> {
    GgufFile::open(path).unwrap().metadata().get(key).cloned()
}

/// A model of one layer in singles, whose weights `change` may change.
fn small(path: &Path, change: impl FnOnce(&mut Vec<f32>)) {
    let mut writer = GgufWriter::new();
    let metadata = writer.metadata_mut();
    metadata.set("general.architecture", "llama");
    metadata.set("llama.block_count", 1_u32);
    writer.add_tensor("blk.0.attn_q.weight", &[256, 8], TensorType::F32).unwrap();
    let mut weights: Vec<f32> = (0..8 * 256).map(|i| (i as f32 * 0.37).sin()).collect();
    change(&mut weights);
    let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
    std::fs::write(path, writer.write_all(Vec::new(), &[&bytes]).unwrap()).unwrap();
}

#[test]
fn a_model_is_quantized_and_runs() {
    let folder = folder();
    for file_type in ["Q8_0", "q4_k_m", "Q6_K"] {
        let ran = folder.bise(["quantize", "--force", "f16.gguf", "out.gguf", file_type]).ok();
        assert!(ran.stdout.is_empty() && ran.stderr.lines().count() == 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("out.gguf: ") && ran.stderr.contains(" bits a weight"), "{}", ran.stderr);
        let text = folder
            .bise(["-m", "out.gguf", "-p", "Once upon a time", "-n", "6", "--temp", "0", "-no-cnv"])
            .ok();
        assert!(text.text().starts_with("Once upon a time, "), "{file_type}: {}", text.text());
    }
    let (out, source) = (folder.path("out.gguf"), folder.path("f16.gguf"));
    assert_eq!(key(&out, "general.file_type"), Some(Value::U32(18)));
    assert_eq!(key(&out, "general.quantization_version"), Some(Value::U32(2)));
    assert_eq!(key(&out, "tokenizer.chat_template"), key(&source, "tokenizer.chat_template"));
    assert_eq!(type_of(&out, "blk.0.attn_q.weight"), TensorType::Q6_K);
    assert_eq!(type_of(&out, "blk.0.attn_norm.weight"), TensorType::F32);
}

#[test]
fn the_bytes_do_not_depend_on_the_threads() {
    let folder = folder();
    folder.bise(["quantize", "f16.gguf", "one.gguf", "Q4_K_M", "1"]).ok();
    folder.bise(["quantize", "f16.gguf", "three.gguf", "15", "3"]).ok();
    let [one, three] = ["one.gguf", "three.gguf"].map(|name| std::fs::read(folder.path(name)).unwrap());
    assert!(one == three);
}

#[test]
fn a_copy_is_what_it_was() {
    let folder = Folder::new();
    folder.bise(["quantize", TINY, "copy.gguf", "COPY"]).ok();
    let (source, copy) =
        (GgufFile::open(Path::new(TINY)).unwrap(), GgufFile::open(folder.path("copy.gguf")).unwrap());
    assert_eq!(source.tensors().len(), copy.tensors().len());
    for tensor in source.tensors() {
        let same = copy.require_tensor(&tensor.name).unwrap();
        assert_eq!((&tensor.shape, tensor.tensor_type), (&same.shape, same.tensor_type));
        assert!(*source.bytes(tensor) == *copy.bytes(same), "{}", tensor.name);
    }
    assert_eq!(
        key(Path::new(TINY), "general.file_type"),
        key(&folder.path("copy.gguf"), "general.file_type")
    );
}

#[test]
fn without_a_destination_the_file_is_named_after_its_type() {
    let folder = folder();
    folder.bise(["quantize", "f16.gguf", "q4_k"]).ok();
    assert_eq!(folder.names(), ["f16.gguf", "ggml-model-Q4_K_M.gguf"]);
}

#[test]
fn flags_choose_types_tensor_by_tensor() {
    let folder = folder();
    let quantize = |flags: &[&str]| {
        let args = [&["quantize", "--force"], flags, &["f16.gguf", "out.gguf", "Q4_K_S"]].concat();
        folder.bise(&args).ok();
        folder.path("out.gguf")
    };
    let out = quantize(&["--tensor-type", "attn_[qk]=q8_0", "--tensor-type", "blk.1.attn_q=q5_1"]);
    assert_eq!(type_of(&out, "blk.1.attn_q.weight"), TensorType::Q8_0);
    assert_eq!(type_of(&out, "blk.0.attn_k.weight"), TensorType::Q8_0);
    assert_eq!(type_of(&out, "blk.1.ffn_up.weight"), TensorType::Q4_K);
    std::fs::write(folder.path("types.txt"), "ffn_up=q6_k\nffn_gate=bf16").unwrap();
    let out = quantize(&["--tensor-type-file", "types.txt", "--pure", "--token-embedding-type", "q5_K"]);
    assert_eq!(type_of(&out, "blk.0.ffn_up.weight"), TensorType::Q6_K);
    assert_eq!(type_of(&out, "blk.0.ffn_gate.weight"), TensorType::BF16);
    assert_eq!(type_of(&out, "token_embd.weight"), TensorType::Q5_K);
    assert!(
        types(&out).iter().filter(|(name, _)| name.contains("ffn_down")).all(|(_, t)| *t == TensorType::Q4_K)
    );
    let has_output = types(&out).iter().any(|(name, _)| name == "output.weight");
    if has_output {
        assert_eq!(type_of(&quantize(&["--leave-output-tensor"]), "output.weight"), TensorType::F16);
        assert_eq!(type_of(&quantize(&["--output-tensor-type", "q8_0"]), "output.weight"), TensorType::Q8_0);
    }
    let ran = folder
        .bise(["quantize", "--force", "--tensor-type", "attn_z=q8_0", "f16.gguf", "out.gguf", "Q8_0"])
        .ok();
    assert!(ran.stderr.contains("no tensor matches the pattern 'attn_z'"), "{}", ran.stderr);
}

#[test]
fn layers_are_left_out_and_metadata_set() {
    let folder = folder();
    let flags = [
        "--prune-layers",
        "1",
        "--override-kv",
        "general.name=str:Short",
        "--override-kv",
        "llama.context_length=int:64",
    ];
    folder.bise([&["quantize"], &flags[..], &["f16.gguf", "out.gguf", "Q8_0"]].concat()).ok();
    let (before, after) = (types(&folder.path("f16.gguf")), types(&folder.path("out.gguf")));
    let layers =
        |all: &[(String, TensorType)]| all.iter().filter(|(name, _)| name.ends_with("attn_q.weight")).count();
    assert_eq!(layers(&after), layers(&before) - 1);
    let out = folder.path("out.gguf");
    assert_eq!(key(&out, "llama.block_count"), Some(Value::U32(layers(&after) as u32)));
    assert_eq!(key(&out, "general.name"), Some(Value::from("Short")));
    assert_eq!(key(&out, "llama.context_length"), Some(Value::U32(64)));
    let tensor = |file: &str, name: &str| {
        let file = GgufFile::open(folder.path(file)).unwrap();
        file.bytes(file.require_tensor(name).unwrap()).to_vec()
    };
    assert_eq!(tensor("out.gguf", "blk.1.attn_norm.weight"), tensor("f16.gguf", "blk.2.attn_norm.weight"));
    folder.bise(["-m", "out.gguf", "-p", "Once", "-n", "2", "--temp", "0", "-no-cnv"]).ok();
}

#[test]
fn a_dry_run_says_what_would_become_of_each_tensor_and_writes_nothing() {
    let folder = folder();
    let ran = folder.bise(["quantize", "--dry-run", "f16.gguf", "Q4_K_M"]).ok();
    let n_tensors = types(&folder.path("f16.gguf")).len();
    assert_eq!(ran.text().lines().count(), n_tensors + 1);
    assert!(ran.text().lines().any(|line| line.starts_with("blk.0.attn_q.weight") && line.contains("Q4_K")));
    assert_eq!(folder.names(), ["f16.gguf"]);
}

#[test]
fn a_split_model_is_read_and_may_stay_split() {
    let folder = Folder::new();
    for part in 0..2_u16 {
        let mut writer = GgufWriter::new();
        let metadata = writer.metadata_mut();
        if part == 0 {
            metadata.set("general.architecture", "llama");
            metadata.set("llama.block_count", 2_u32);
        }
        metadata.set("split.no", part);
        metadata.set("split.count", 2_u16);
        metadata.set("split.tensors.count", 2_i32);
        let name = format!("blk.{part}.attn_q.weight");
        writer.add_tensor(&name, &[256, 4], TensorType::F32).unwrap();
        let bytes: Vec<u8> =
            (0..1024).flat_map(|i| ((i * (part as i32 + 1)) as f32).sin().to_le_bytes()).collect();
        let path = folder.path(&format!("in-{:05}-of-00002.gguf", part + 1));
        std::fs::write(path, writer.write_all(Vec::new(), &[&bytes]).unwrap()).unwrap();
    }
    folder.bise(["quantize", "in-00001-of-00002.gguf", "whole.gguf", "Q8_0"]).ok();
    folder.bise(["quantize", "--keep-split", "in-00001-of-00002.gguf", "parts.gguf", "Q8_0"]).ok();
    let (whole, parts) = (folder.path("whole.gguf"), folder.path("parts-00001-of-00002.gguf"));
    let [whole, parts] = [whole, parts].map(|path| GgufFile::open(&path).unwrap());
    assert_eq!((whole.n_parts(), parts.n_parts()), (1, 2));
    assert!(whole.metadata().get("split.count").is_none());
    for tensor in whole.tensors() {
        assert_eq!(tensor.tensor_type, TensorType::Q8_0);
        assert!(*whole.bytes(tensor) == *parts.bytes(parts.require_tensor(&tensor.name).unwrap()));
    }
}

#[test]
fn what_cannot_be_done_is_refused_and_leaves_nothing_behind() {
    let folder = folder();
    std::fs::write(folder.path("there.gguf"), "something").unwrap();
    std::fs::hard_link(folder.path("f16.gguf"), folder.path("link.gguf")).unwrap();
    let before = folder.names();
    let source = std::fs::read(folder.path("f16.gguf")).unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["f16.gguf", "f16.gguf", "Q8_0"], "found the source, expected another file"),
        (&["--force", "f16.gguf", "link.gguf", "Q8_0"], "found the source, expected another file"),
        (&["f16.gguf", "there.gguf", "Q8_0"], "--force overwrites it"),
        (&["none.gguf", "out.gguf", "Q8_0"], "none.gguf"),
        (&["there.gguf", "out.gguf", "Q8_0"], "there.gguf"),
        (&[TINY, "out.gguf", "Q8_0"], "--allow-requantize"),
        (&["f16.gguf", "out.gguf", "Q2_K_S"], "needs an importance matrix"),
        (
            &["--prune-layers", "99", "f16.gguf", "out.gguf", "Q8_0"],
            "found layer 99, expected layers from 0 to",
        ),
        (&["--tensor-type", "attn_(=q8_0", "f16.gguf", "out.gguf", "Q8_0"], "pattern 'attn_('"),
        (&["--imatrix", "none.dat", "f16.gguf", "out.gguf", "Q8_0"], "none.dat"),
        (&["--imatrix", "there.gguf", "f16.gguf", "out.gguf", "Q8_0"], "there.gguf"),
        (&["--imatrix", "f16.gguf", "f16.gguf", "out.gguf", "Q8_0"], "expected an importance matrix"),
        (&["f16.gguf", "none/out.gguf", "Q8_0"], "cannot create the file"),
    ];
    for (args, expected) in cases {
        let ran: Ran = folder.bise([&["quantize"], *args].concat());
        assert!(ran.error().contains(expected), "{args:?}: {}", ran.stderr);
    }
    let misuse: &[(&[&str], &str)] = &[
        (&["f16.gguf", "out.gguf", "Q9_K"], "TYPE: found 'Q9_K', expected one of F32"),
        (&["f16.gguf", "out.gguf"], "TYPE: found 'out.gguf'"),
        (&["f16.gguf", "out.gguf", "IQ2_XXS"], "TYPE: found 'IQ2_XXS'"),
        (&["f16.gguf", "out.gguf", "Q8_0", "many"], "THREADS: found 'many'"),
        (&["f16.gguf", "Q8_0", "1", "2"], "found '2' behind the number of threads"),
    ];
    for (args, expected) in misuse {
        let ran = folder.bise([&["quantize"], *args].concat());
        assert!(ran.misuse().contains(expected), "{args:?}: {}", ran.stderr);
    }
    assert_eq!(folder.names(), before);
    assert!(std::fs::read(folder.path("f16.gguf")).unwrap() == source);
    assert_eq!(std::fs::read(folder.path("there.gguf")).unwrap(), b"something");
}

#[test]
fn weights_that_are_no_numbers_are_named_with_their_place() {
    let folder = Folder::new();
    small(&folder.path("nan.gguf"), |w| w[256 * 5 + 17] = f32::NAN);
    small(&folder.path("large.gguf"), |w| w[256 * 6 + 40] = 1e9);
    for file_type in ["Q4_K_M", "Q8_0", "F16", "F32", "COPY"] {
        let ran = folder.bise(["quantize", "nan.gguf", "out.gguf", file_type]);
        let expected = "tensor 'blk.0.attn_q.weight': found NaN in row 5, column 17, expected finite weights";
        assert!(ran.error().contains(expected), "{file_type}: {}", ran.stderr);
    }
    let ran = folder.bise(["quantize", "large.gguf", "out.gguf", "F16"]);
    let expected = "found a weight of 1e9 in row 6, column 40, expected what the halves of F16 can hold";
    assert!(ran.error().contains(expected), "{}", ran.stderr);
    let ran = folder.bise(["quantize", "large.gguf", "out.gguf", "Q4_0"]);
    assert!(ran.error().contains("a block with weights of 1e9 in row 6, column 32"), "{}", ran.stderr);
    assert_eq!(folder.names(), ["large.gguf", "nan.gguf"]);
}

#[test]
fn architectures_without_a_mix_are_refused() {
    let folder = Folder::new();
    let mut writer = GgufWriter::new();
    writer.metadata_mut().set("general.architecture", "falcon");
    writer.add_tensor("w", &[1], TensorType::F32).unwrap();
    std::fs::write(folder.path("falcon.gguf"), writer.write_all(Vec::new(), &[&[0; 4]]).unwrap()).unwrap();
    let ran = folder.bise(["quantize", "falcon.gguf", "out.gguf", "Q8_0"]);
    assert!(ran.error().contains("found 'falcon', expected one of llama, mistral3"), "{}", ran.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_is_an_error() {
    let folder = folder();
    let ran = folder.bise(["quantize", "f16.gguf", "/dev/full", "Q4_K_M"]);
    assert!(ran.error().contains("/dev/full: ") && ran.error().contains("No space left"), "{}", ran.stderr);
}
