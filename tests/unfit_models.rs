//! A sound file whose contents do not make a model ends in one line that names the key or tensor, and exit code 1.

#![cfg(all(feature = "cli", feature = "builtin-model"))]

mod cli_support;

use std::path::{Path, PathBuf};

use bise::gguf::{Array, GgufFile, GgufWriter, StrArray, TensorType, Value, WriteError};
use cli_support::{Folder, Ran};

/// A model taken apart, for a test to change.
struct Model {
    keys: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
}

struct Tensor {
    name: String,
    shape: Vec<usize>,
    tensor_type: TensorType,
    bytes: Vec<u8>,
}

impl Model {
    fn read(path: &Path) -> Model {
        let file = GgufFile::open(path).unwrap();
        Model {
            keys: file.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone())).collect(),
            tensors: file
                .tensors()
                .map(|info| Tensor {
                    name: info.name.clone(),
                    shape: info.shape.clone(),
                    tensor_type: info.tensor_type,
                    bytes: file.bytes(info).to_vec(),
                })
                .collect(),
        }
    }

    fn write(&self, path: &Path) {
        let mut writer = GgufWriter::new();
        for (key, value) in &self.keys {
            writer.metadata_mut().set(key, value.clone());
        }
        for tensor in &self.tensors {
            writer.add_tensor(&tensor.name, &tensor.shape, tensor.tensor_type).unwrap();
        }
        let fill = |out: &mut bise::gguf::GgufDataWriter<_>| {
            self.tensors.iter().try_for_each(|tensor| out.write(&tensor.bytes))
        };
        writer.save::<WriteError>(path, fill).unwrap();
    }

    fn set(&mut self, key: &str, value: impl Into<Value>) {
        match self.keys.iter_mut().find(|(k, _)| k == key) {
            Some((_, v)) => *v = value.into(),
            None => self.keys.push((key.to_owned(), value.into())),
        }
    }

    fn remove(&mut self, key: &str) {
        self.keys.retain(|(k, _)| k != key);
    }

    fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    /// Adds a vector of zeros.
    fn add(&mut self, name: &str, n: usize) {
        let tensor_type = TensorType::F32;
        self.tensors.push(Tensor {
            name: name.to_owned(),
            shape: vec![n],
            tensor_type,
            bytes: vec![0; 4 * n],
        });
    }
}

/// Asks a model for four tokens, the likeliest.
fn run(folder: &Folder, model: &Path) -> Ran {
    folder.bise(["-m", model.to_str().unwrap(), "-p", "Once", "-n", "4", "--temp", "0"])
}

/// The run ended in one line that holds all `words`, said nothing else, and did not panic.
#[track_caller]
fn assert_refused(ran: &Ran, words: &[&str]) {
    let line = ran.error();
    for word in words {
        assert!(line.contains(word), "no {word:?} in {line}");
    }
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

/// The built-in model with a `change` is refused with a line that holds `words` and the name of the file.
#[track_caller]
fn refused(change: impl FnOnce(&mut Model), words: &[&str]) {
    let folder = Folder::new();
    let path = spoiled(&folder, change);
    let ran = run(&folder, &path);
    assert_refused(&ran, words);
    assert!(ran.error().contains("model.gguf"), "{}", ran.stderr);
}

fn spoiled(folder: &Folder, change: impl FnOnce(&mut Model)) -> PathBuf {
    let path = folder.model();
    let mut model = Model::read(&path);
    change(&mut model);
    model.write(&path);
    path
}

#[test]
fn the_model_that_the_tests_spoil_runs_when_it_is_written_again() {
    let folder = Folder::new();
    let path = spoiled(&folder, |_| ());
    let whole = folder.bise(["-p", "Once", "-n", "4", "--temp", "0"]).ok();
    let again = run(&folder, &path).ok();
    assert_eq!(again.text(), whole.text());
}

#[test]
fn what_is_no_gguf_is_refused_by_every_command_that_opens_one() {
    let folder = Folder::new();
    let other = folder.write("other.gguf", b"PK\x03\x04 and so on, and so on, and so on");
    assert_refused(&run(&folder, &other), &["other.gguf", "GGUF", "zip archive", "unpack"]);
    for command in ["inspect", "chat", "bench", "perplexity", "tokenize", "logits"] {
        let file = other.as_os_str();
        let ran = match command {
            "inspect" => folder.bise([command.as_ref(), file]),
            "tokenize" => folder.bise([command.as_ref(), "-m".as_ref(), file, "-p".as_ref(), "x".as_ref()]),
            "perplexity" => folder.bise([command.as_ref(), "-m".as_ref(), file, "-f".as_ref(), file]),
            "logits" => folder.bise(
                [command, "-m", other.to_str().unwrap(), "--tokens", "1", "-o", "out.npy"]
                    .map(std::ffi::OsStr::new),
            ),
            _ => folder.bise([command.as_ref(), "-m".as_ref(), file]),
        };
        assert_refused(&ran, &["other.gguf", "GGUF"]);
    }
}

#[test]
fn missing_keys_are_named() {
    for key in [
        "general.architecture",
        "llama.block_count",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
        "llama.context_length",
        "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
    ] {
        refused(|model| model.remove(key), &[key]);
    }
}

#[test]
fn keys_of_the_wrong_type_are_named_with_both() {
    refused(
        |model| model.set("llama.block_count", "eight"),
        &["'llama.block_count'", "str \"eight\"", "integer"],
    );
    refused(|model| model.set("llama.block_count", -8), &["'llama.block_count'", "-8"]);
    refused(
        |model| model.set("llama.rope.freq_base", 10_000_u32),
        &["'llama.rope.freq_base'", "u32 10000", "float"],
    );
    refused(|model| model.set("general.architecture", 7_u32), &["'general.architecture'", "u32 7"]);
    let numbers = Value::Array(Array::U32(vec![1, 2, 3]));
    refused(|model| model.set("tokenizer.ggml.tokens", numbers), &["'tokenizer.ggml.tokens'", "u32"]);
}

#[test]
fn hyper_parameters_out_of_range_are_named() {
    for (key, value) in [
        ("llama.attention.head_count", 0),
        ("llama.attention.head_count", 7),
        ("llama.attention.head_count_kv", 0),
        ("llama.attention.head_count_kv", 3),
        ("llama.embedding_length", 0),
        ("llama.block_count", 0),
        ("llama.context_length", 0),
        ("llama.feed_forward_length", 0),
        ("llama.rope.dimension_count", 33),
        ("llama.rope.dimension_count", 4096),
    ] {
        refused(|model| model.set(key, value), &["key 'llama.", "found", "expected"]);
    }
    refused(|model| model.set("llama.attention.layer_norm_rms_epsilon", f32::NAN), &["rms_epsilon", "NaN"]);
    refused(|model| model.set("llama.rope.freq_base", f32::INFINITY), &["rope.freq_base", "inf"]);
}

#[test]
fn counts_too_large_for_the_file_end_at_once() {
    refused(|model| model.set("llama.block_count", i32::MAX), &["tensor 'blk.8.", "missing"]);
    refused(|model| model.set("llama.block_count", u64::MAX), &["llama.block_count"]);
    refused(|model| model.set("llama.feed_forward_length", 1_u32 << 20), &["tensor 'blk.0.ffn_", "shape"]);
}

#[test]
fn widths_that_ask_for_buffers_of_any_size_are_refused_before_there_are_any() {
    for (key, value, most) in [
        ("llama.embedding_length", 1_u32 << 20, "262144"),
        ("llama.attention.key_length", 1 << 30, "262144 together"),
        ("llama.feed_forward_length", 1 << 30, "1048576"),
        ("llama.expert_count", 1 << 20, "4096"),
    ] {
        let change = |model: &mut Model| {
            model.set("llama.attention.value_length", value);
            model.set("llama.expert_used_count", 2_u32);
            model.set(key, value);
            if !key.ends_with("key_length") {
                model.remove("llama.attention.value_length");
            }
        };
        refused(change, &["key 'llama.", "found", "at most", most]);
    }
}

#[test]
fn an_architecture_that_is_not_mistral_is_refused() {
    refused(
        |model| model.set("general.architecture", "mamba"),
        &["'general.architecture'", "mamba", "llama"],
    );
}

#[test]
fn missing_tensors_are_named() {
    for name in ["token_embd.weight", "blk.3.ffn_up.weight", "blk.7.attn_norm.weight", "output_norm.weight"] {
        refused(|model| model.tensors.retain(|t| t.name != name), &[name, "missing"]);
    }
}

#[test]
fn shapes_that_do_not_fit_the_hyper_parameters_are_named_with_both() {
    // The same bytes, as half as many rows of twice the length.
    let reshape = |model: &mut Model| model.tensor("blk.0.attn_q.weight").shape = vec![512, 128];
    refused(reshape, &["'blk.0.attn_q.weight'", "[512, 128]", "[256, 256]"]);
}

#[test]
fn tensors_that_would_change_the_arithmetic_are_named() {
    refused(|model| model.add("blk.2.attn_q.bias", 256), &["'blk.2.attn_q.bias'", "not supported"]);
    refused(
        |model| model.add("blk.2.attn_q_norm.weight", 32),
        &["'blk.2.attn_q_norm.weight'", "not supported"],
    );
}

#[test]
fn tensors_of_a_type_without_kernels_are_named_with_it() {
    let change = |model: &mut Model| {
        let tensor = model.tensor("blk.1.ffn_gate.weight");
        tensor.tensor_type = TensorType::IQ2_XXS;
        tensor.bytes = vec![0; 256 * 768 / 256 * 66];
    };
    refused(change, &["'blk.1.ffn_gate.weight'", "IQ2_XXS", "Q4_K"]);
}

#[test]
fn a_vocabulary_that_does_not_match_is_refused() {
    let shorter = |model: &mut Model| {
        let tokens: StrArray = (0..4000).map(|i| format!("t{i}")).collect();
        model.set("tokenizer.ggml.tokens", Value::Array(Array::Str(tokens)));
    };
    refused(shorter, &["4000"]);
    let scores = Value::Array(Array::F32(vec![0.0; 4095]));
    refused(|model| model.set("tokenizer.ggml.scores", scores), &["'tokenizer.ggml.scores'", "4095", "4096"]);
    refused(|model| model.set("tokenizer.ggml.bos_token_id", 4096_u32), &["bos_token_id", "4096"]);
    refused(|model| model.set("tokenizer.ggml.model", "wordpiece"), &["'tokenizer.ggml.model'", "wordpiece"]);
}

/// The built-in model with a `change` writes what it wrote without, and says `words` in one warning.
#[track_caller]
fn runs_with_a_warning(change: impl FnOnce(&mut Model), words: &[&str]) {
    let folder = Folder::new();
    let whole = folder.bise(["-p", "Once", "-n", "4", "--temp", "0"]).ok();
    let path = spoiled(&folder, change);
    let ran = run(&folder, &path).ok();
    assert_eq!(ran.text(), whole.text());
    let warnings_of = |stderr: &str| -> Vec<String> {
        let lines = stderr.lines().filter(|line| line.starts_with("bise: warning: "));
        lines.map(str::to_owned).collect()
    };
    let warnings = warnings_of(&ran.stderr);
    // `inspect` says the same, and counts only what is used.
    let inspect = |args: &[&std::ffi::OsStr]| {
        let ran = folder.bise(["inspect".as_ref(), "--json".as_ref()].iter().chain(args)).ok();
        let report: serde_json::Value = serde_json::from_str(ran.text()).unwrap();
        (warnings_of(&ran.stderr), report["memory"]["weights_bytes"].as_u64().unwrap())
    };
    let (said, n_bytes) = inspect(&[path.as_os_str()]);
    assert_eq!(said, warnings);
    assert_eq!(n_bytes, inspect(&[]).1);
    match words {
        [] => assert_eq!(warnings, [""; 0]),
        _ => {
            assert_eq!(warnings.len(), 1, "{}", ran.stderr);
            assert!(words.iter().all(|word| warnings[0].contains(word)), "{}", warnings[0]);
        }
    }
}

/// The same model under the other name of the architecture.
fn as_mistral3(model: &mut Model) {
    for (key, _) in &mut model.keys {
        if let Some(rest) = key.strip_prefix("llama.") {
            *key = format!("mistral3.{rest}");
        }
    }
    model.set("general.architecture", "mistral3");
}

#[test]
fn a_vision_encoder_in_the_file_is_left_out_with_a_line() {
    let with_vision = |model: &mut Model| {
        as_mistral3(model);
        for (key, value) in [
            ("vision.block_count", Value::U32(1)),
            ("vision.rope.freq_base", Value::F32(1e4)),
            ("image_token_index", Value::U32(10)),
            ("spatial_merge_size", Value::U32(2)),
            ("mm.projector_bias", Value::Bool(false)),
            ("mm.projector_hidden_act", Value::from("gelu")),
            // As Ollama writes a model without a rotary scaling.
            ("rope.scaling.type", Value::from("")),
            ("rope.scaling.factor", Value::F32(0.0)),
            ("rope.scaling.beta_fast", Value::F32(0.0)),
            ("rope.scaling.beta_slow", Value::F32(0.0)),
        ] {
            model.set(&format!("mistral3.{key}"), value);
        }
        model.add("v.blk.0.attn_q.weight", 64);
        model.add("v.patch_conv.weight", 64);
        model.add("mm.linear_1.weight", 64);
    };
    runs_with_a_warning(with_vision, &["a vision encoder (3 tensors, 0.8 kB)", "left out"]);
}

#[test]
fn other_parts_beside_the_language_model_are_left_out_with_a_line() {
    let with_audio = |model: &mut Model| {
        model.set("llama.audio.block_count", 1_u32);
        model.add("a.blk.0.attn_q.weight", 64);
        model.add("mm.a.mlp.1.weight", 64);
    };
    runs_with_a_warning(with_audio, &["an audio encoder (2 tensors, 0.5 kB)", "left out"]);
    let with_prediction = |model: &mut Model| {
        model.set("llama.block_count", 9_u32);
        model.set("llama.nextn_predict_layers", 1_u32);
        model.add("blk.8.attn_norm.weight", 256);
        model.add("blk.8.nextn.eh_proj.weight", 256);
    };
    runs_with_a_warning(with_prediction, &["layers for multi-token prediction (2 tensors", "left out"]);
    let with_mtp = |model: &mut Model| model.add("mtp.layers.0.weight", 64);
    runs_with_a_warning(with_mtp, &["layers for multi-token prediction (1 tensor,", "left out"]);
    let with_head = |model: &mut Model| model.add("cls.output.weight", 64);
    runs_with_a_warning(with_head, &["a classification head (1 tensor,", "left out"]);
}

#[test]
fn a_layer_of_the_model_is_never_left_out() {
    // All eight layers are the model's own, whatever the key says.
    refused(|model| model.set("llama.nextn_predict_layers", 1_u32), &["blk.7.nextn", "nextn_predict_layers"]);
    refused(
        |model| model.set("llama.nextn_predict_layers", 8_u32),
        &["llama.nextn_predict_layers", "block_count"],
    );
    refused(|model| model.add("blk.8.attn_q.weight", 64), &["'blk.8.attn_q.weight'", "not supported"]);
    refused(|model| model.add("vocoder.weight", 64), &["'vocoder.weight'", "not supported"]);
}

#[test]
fn keys_that_cannot_touch_the_logits_are_no_reason_to_refuse() {
    let with_keys = |model: &mut Model| {
        model.set("general.type", "model");
        model.set("general.quantized_by", "Unsloth");
        model.set("general.base_model.0.repo_url", "https://huggingface.co/x/y");
        model.set("quantize.imatrix.file", "imatrix_unsloth.dat");
        model.set("quantize.imatrix.entries_count", 224_u32);
        model.set("tokenizer.ggml.padding_token_id", 0_u32);
        model.set("tokenizer.ggml.some_new_key", true);
        model.set("split.count", 0_u16);
        model.set("llama.pooling_type", 3_u32);
        model.set("llama.vocab_size", 4096_u32);
        model.set("llama.attention.sliding_window_pattern", 1_u32);
        model.set("llama.expert_feed_forward_length", 64_u32);
        model.set("llama.rope.freq_base_swa", 10_000.0_f32);
        model.set("general.newer.key", Value::Array(Array::Array(vec![Array::U8(vec![1])])));
    };
    // The base is in the file, so that the key that repeats it has something to repeat.
    runs_with_a_warning(
        |model| {
            model.set("llama.rope.freq_base", 10_000.0_f32);
            with_keys(model);
        },
        &[],
    );
    // The window is in all layers, or in none.
    let key = "llama.attention.sliding_window_pattern";
    refused(|model| model.set(key, 4_u32), &[key, "4", "some layers"]);
    refused(|model| model.set("llama.some_new_key", 1_u32), &["'llama.some_new_key'", "arithmetic"]);
    refused(
        |model| model.set("llama.rope.freq_base_swa", 5.0_f32),
        &["'llama.rope.freq_base_swa'", "5", "llama.rope.freq_base"],
    );
}

#[test]
fn files_of_another_kind_are_named_with_the_way_out() {
    let lora = |model: &mut Model| {
        model.set("general.type", "adapter");
        model.set("adapter.type", "lora");
    };
    refused(lora, &["a LoRA adapter", "base model"]);
    refused(|model| model.set("general.type", "imatrix"), &["an importance matrix", "give the model"]);
    refused(|model| model.set("general.architecture", "clip"), &["a vision encoder", "language model"]);
    refused(|model| model.tensors.clear(), &["a vocabulary without weights", "whole model"]);
    let folder = Folder::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4368439584\n";
    for (content, words) in [
        (pointer, ["a git-lfs pointer", "git lfs pull"]),
        ("<!DOCTYPE html><html>", ["an HTML page", "/resolve/"]),
        ("{\"error\": \"Invalid credentials\"}", ["Invalid credentials", "/resolve/"]),
        ("Entry not found", ["\"Entry not found\"", "/resolve/"]),
    ] {
        let path = folder.write("model.gguf", content);
        assert_refused(&run(&folder, &path), &["model.gguf", words[0], words[1]]);
    }
}

#[test]
fn text_of_a_file_cannot_drive_the_terminal() {
    let folder = Folder::new();
    for change in [
        (|model: &mut Model| model.set("general.architecture", "\x1b]0;owned\x07mamba")) as fn(&mut Model),
        |model| model.set("llama.rope.scaling.type", "\x1b[2Jlongrope"),
        |model| model.set("llama.\x1b[2J", 1_u32),
        |model| model.set("tokenizer.ggml.model", "\x1b[2J"),
        |model| model.add("blk.0.\x1b[2J.weight", 4),
    ] {
        let path = spoiled(&folder, change);
        let ran = run(&folder, &path);
        assert!(ran.error().contains("\\u{1b}"), "{}", ran.stderr);
        assert!(!ran.stderr.contains(|c: char| c.is_control() && c != '\n'), "{:?}", ran.stderr);
    }
}
